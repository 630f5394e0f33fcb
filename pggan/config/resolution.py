"""Resolutions as powers of two, and numbers given per resolution, e.g. batch sizes (torch-free)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pggan.utils.errors import UsageError

MIN_RESOLUTION = 4
MAX_RESOLUTION = 4096


def level_of(resolution: int) -> int:
    """Returns log2 of a resolution, e.g. 4 -> 2. Raises `UsageError` unless it is a power of two from 4 to 4096."""
    if resolution < MIN_RESOLUTION or resolution > MAX_RESOLUTION or resolution & (resolution - 1):
        raise UsageError(f"resolution {resolution} is not a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}")
    return resolution.bit_length() - 1


@dataclass(frozen=True)
class PerResolution:
    """A number for every resolution: a plain one, named ones, or both (`128`, `4:128,8:64`, `16,256:8`).

    A resolution that is not named takes the plain number; without one, that of the nearest lower named resolution,
    or of the lowest named one. Where an option is scheduled, it may also be `START..END`: a number for all resolutions
    that changes over the run, linearly in the images seen.
    """

    plain: float | None = None  # START, where there is an `end`
    named: tuple[tuple[int, float], ...] = ()
    end: float | None = None

    @classmethod
    def of(cls, value: float | Mapping[int, float] | PerResolution) -> PerResolution:
        """Returns a plain number or a mapping from resolutions as a `PerResolution`."""
        if isinstance(value, PerResolution):
            return value
        if isinstance(value, Mapping):
            return cls(None, tuple(sorted(value.items())))
        return cls(value)

    @classmethod
    def parse(cls, text: str) -> PerResolution:
        """Parses `128`, `4:128,8:64`, `16,256:8` or `10..1`. Raises `UsageError` for anything else."""
        if ".." in text:
            return cls._parse_ramp(text)
        plain: float | None = None
        named: dict[int, float] = {}
        for part in text.split(","):
            key, colon, number = part.rpartition(":")
            try:
                value = float(number)
                resolution = int(key) if colon else 0
            except ValueError:
                raise UsageError(f"{text!r} is not a number or a list like 4:128,8:64") from None
            if not math.isfinite(value):
                raise UsageError(f"{text!r}: {number} is not a finite number")
            if not colon:
                if plain is not None:
                    raise UsageError(f"{text!r} has two plain values; name the resolutions: 4:128,8:64")
                plain = value
            else:
                level_of(resolution)
                if resolution in named:
                    raise UsageError(f"{text!r} names resolution {resolution} twice")
                named[resolution] = value
        return cls(plain, tuple(sorted(named.items())))

    @classmethod
    def _parse_ramp(cls, text: str) -> PerResolution:
        first, _, last = text.partition("..")
        try:
            start, end = float(first), float(last)
        except ValueError:
            start = end = math.nan
        if not (math.isfinite(start) and math.isfinite(end)):
            raise UsageError(f"{text!r} is not START..END, two numbers such as 10..1")
        return cls(start, (), end)

    def at(self, resolution: int, share: float = 0.0) -> float:
        """Returns the number at a resolution, after a share of the run from 0 to 1."""
        if self.end is not None and self.plain is not None:
            return self.plain + (self.end - self.plain) * min(1.0, max(0.0, share))
        values = dict(self.named)
        if resolution in values:
            return values[resolution]
        if self.plain is not None:
            return self.plain
        lower = [named for named in values if named < resolution]
        return values[max(lower) if lower else min(values)]

    def with_base(self, base: PerResolution) -> PerResolution:
        """Returns these numbers over those of `base`, which hold for the resolutions that are not named here."""
        if self.plain is not None or base.end is not None:
            return self
        return PerResolution(base.plain, tuple(sorted({**dict(base.named), **dict(self.named)}.items())))

    def values(self) -> list[float]:
        """Returns all numbers, in no order of resolutions."""
        return [number for _, number in self.named] + [n for n in (self.plain, self.end) if n is not None]

    def __str__(self) -> str:
        if self.end is not None and self.plain is not None:
            return f"{exact(self.plain)}..{exact(self.end)}"
        plain = [] if self.plain is None else [exact(self.plain)]
        return ",".join(plain + [f"{resolution}:{exact(number)}" for resolution, number in self.named])


def exact(number: float) -> str:
    """Writes a number with all its digits, a whole one without a point."""
    return str(int(number)) if float(number).is_integer() else repr(number)


def overlay(value: Any, base: Any) -> Any:
    """Returns an option's value over an earlier one: numbers per resolution keep the base's where not named."""
    if isinstance(value, PerResolution) and isinstance(base, PerResolution):
        return value.with_base(base)
    return value
