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
    or of the lowest named one.
    """

    plain: float | None = None
    named: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, value: float | Mapping[int, float]) -> PerResolution:
        """Returns a plain number or a mapping from resolutions as a `PerResolution`."""
        if isinstance(value, Mapping):
            return cls(None, tuple(sorted(value.items())))
        return cls(value)

    @classmethod
    def parse(cls, text: str) -> PerResolution:
        """Parses `128`, `4:128,8:64` or `16,256:8`. Raises `UsageError` for anything else."""
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

    def at(self, resolution: int) -> float:
        """Returns the number at a resolution."""
        values = dict(self.named)
        if resolution in values:
            return values[resolution]
        if self.plain is not None:
            return self.plain
        lower = [named for named in values if named < resolution]
        return values[max(lower) if lower else min(values)]

    def with_base(self, base: PerResolution) -> PerResolution:
        """Returns these numbers over those of `base`, which hold for the resolutions that are not named here."""
        if self.plain is not None:
            return self
        return PerResolution(base.plain, tuple(sorted({**dict(base.named), **dict(self.named)}.items())))

    def values(self) -> list[float]:
        """Returns all numbers, in no order of resolutions."""
        return [number for _, number in self.named] + ([] if self.plain is None else [self.plain])

    def __str__(self) -> str:
        plain = [] if self.plain is None else [f"{self.plain:g}"]
        return ",".join(plain + [f"{r}:{v:g}" for r, v in self.named])


def overlay(value: Any, base: Any) -> Any:
    """Returns an option's value over an earlier one: numbers per resolution keep the base's where not named."""
    if isinstance(value, PerResolution) and isinstance(base, PerResolution):
        return value.with_base(base)
    return value
