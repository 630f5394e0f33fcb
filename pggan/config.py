"""Frozen, validated configurations. Torch-free: a wrong option is told before anything heavy is imported.

Every default of the product stands here, once; presets.py holds the named deviations from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pggan.errors import UsageError

MIN_RESOLUTION = 4
MAX_RESOLUTION = 4096
PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")

T = TypeVar("T")


def level_of(resolution: int) -> int:
    """log2 of a resolution, e.g. 4 -> 2. Raises `UsageError` unless it is a power of two from 4 up."""
    if resolution < MIN_RESOLUTION or resolution > MAX_RESOLUTION or resolution & (resolution - 1):
        raise UsageError(f"resolution {resolution} is not a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}")
    return resolution.bit_length() - 1


@dataclass(frozen=True)
class PerResolution:
    """A number for every resolution: one plain value, values by name, or both (`16,256:8` or `4:128,8:64`).

    A resolution that is not named takes the plain value; without one, that of the nearest lower named resolution
    (the lowest named one below all of them).
    """

    plain: float | None = None
    named: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, value: float | Mapping[int, float] | PerResolution) -> PerResolution:
        if isinstance(value, PerResolution):
            return value
        if isinstance(value, Mapping):
            return cls(None, tuple(sorted(value.items())))
        return cls(value)

    @classmethod
    def parse(cls, text: str) -> PerResolution:
        """Reads `128`, `4:128,8:64` or `16,256:8`; raises `UsageError` for anything else."""
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
        values = dict(self.named)
        if resolution in values:
            return values[resolution]
        if self.plain is not None:
            return self.plain
        lower = [r for r in values if r < resolution]
        return values[max(lower) if lower else min(values)]

    def with_base(self, base: PerResolution) -> PerResolution:
        """These values over those of `base`: what is not said here keeps the base's value."""
        if self.plain is not None:
            return self
        return PerResolution(base.plain, tuple(sorted({**dict(base.named), **dict(self.named)}.items())))

    def values(self) -> list[float]:
        return [v for _, v in self.named] + ([] if self.plain is None else [self.plain])

    def __str__(self) -> str:
        plain = [] if self.plain is None else [f"{self.plain:g}"]
        return ",".join(plain + [f"{r}:{v:g}" for r, v in self.named])


@dataclass(frozen=True)
class NetworkConfig:
    """What the generator and the discriminator have in common (Karras et al. 2018, appendix A).

    `fmap_base`, `fmap_max`, `fmap_decay`: stage s has `min(fmap_base / 2**(s * fmap_decay), fmap_max)` feature maps.
    `fused_scale`: upscale + convolution (convolution + downscale) as one strided 4x4 convolution; in the
    discriminator it also puts bias and activation after the average instead of before it.
    """

    resolution: int = 1024
    channels: int = 3
    label_size: int = 0
    fmap_base: int = 8192
    fmap_max: int = 512
    fmap_decay: float = 1.0
    fused_scale: bool = True

    def __post_init__(self) -> None:
        level_of(self.resolution)
        _require(self.channels in (1, 3), f"channels {self.channels}: pictures have 1 (grey) or 3 (RGB)")
        _require(0 <= self.label_size <= 100_000, f"label size {self.label_size} is not from 0 to 100000")
        _require(1 <= self.fmap_base <= 1 << 20, f"fmap base {self.fmap_base} is not from 1 to {1 << 20}")
        _require(1 <= self.fmap_max <= 8192, f"fmap max {self.fmap_max} is not from 1 to 8192")
        _require(0 <= self.fmap_decay <= 4, f"fmap decay {self.fmap_decay} is not from 0 to 4")
        last = self.max_level - 1
        need = math.ceil(2 ** (last * self.fmap_decay))
        _require(
            self.fmaps(last) >= 1,
            f"fmap base {self.fmap_base} leaves no map at {self.resolution}x{self.resolution}; give {need} or more",
        )

    @property
    def max_level(self) -> int:
        return level_of(self.resolution)

    def fmaps(self, stage: int) -> int:
        """Feature maps at a stage; the block of level l (resolution 2**l) has `fmaps(l - 1)`."""
        return min(int(self.fmap_base / 2.0 ** (stage * self.fmap_decay)), self.fmap_max)


@dataclass(frozen=True)
class GeneratorConfig(NetworkConfig):
    """The generator. `pixelnorm_epsilon` is 1e-4 at least wherever half precision computes (reference release)."""

    latent_size: int = 512
    pixelnorm_epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(1 <= self.latent_size <= 8192, f"latent size {self.latent_size} is not from 1 to 8192")
        _require(self.pixelnorm_epsilon > 0, f"pixelnorm epsilon {self.pixelnorm_epsilon} is not above 0")


@dataclass(frozen=True)
class DiscriminatorConfig(NetworkConfig):
    """The discriminator. `stddev_group`: largest group of the minibatch statistic; 1 leaves the statistic out."""

    stddev_group: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(1 <= self.stddev_group <= 1024, f"minibatch-stddev group {self.stddev_group} is not from 1 to 1024")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; written to the run directory as options.json.

    Phases: `start_res` trains `stable_kimg`; every next resolution up to `max_res` fades in over `fade_kimg` and then
    trains `stable_kimg` more. `total_kimg` (None: the sum) lengthens or cuts the whole. kimg are thousands of reals
    that the discriminator has seen. `g_lr`, `d_lr` and `n_critic` None: the objective's own default.
    """

    data: str | None = None
    labels: str | None = None
    preset: str | None = None
    start_res: int = 4
    max_res: int = 1024
    channels: int = 3
    label_size: int = 0
    latent_size: int = 512
    fmap_base: int = 8192
    fmap_max: int = 512
    fused_scale: bool = True
    stddev_group: int = 4
    stable_kimg: PerResolution = field(default_factory=lambda: PerResolution(600))
    fade_kimg: PerResolution = field(default_factory=lambda: PerResolution(600))
    total_kimg: float | None = None
    batch: PerResolution = field(default_factory=lambda: PerResolution(16))
    g_lr: PerResolution | None = None
    d_lr: PerResolution | None = None
    loss: str = "wgan-gp"
    loss_options: tuple[tuple[str, float], ...] = ()
    n_critic: int | None = None
    ema_decay: float = 0.999
    mirror: bool = True
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    workers: int = 2
    cache_mb: int = 1024
    tick_kimg: PerResolution = field(
        default_factory=lambda: PerResolution.of(
            {4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10}
        )
    )
    snapshot_ticks: int = 10
    checkpoint_ticks: int = 10
    keep_checkpoints: int = 3
    keep_models: int = 0
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        level_of(self.start_res)
        level_of(self.max_res)
        _require(self.start_res <= self.max_res, f"--start-res {self.start_res} is above --max-res {self.max_res}")
        _check("--stable-kimg", self.stable_kimg, 0, 1e9)
        _check("--fade-kimg", self.fade_kimg, 0, 1e9)
        _check("--batch", self.batch, 1, 65536, whole=True)
        _check("--tick-kimg", self.tick_kimg, 1e-3, 1e6)
        for flag, rate in (("--g-lr", self.g_lr), ("--d-lr", self.d_lr)):
            if rate is not None:
                _check(flag, rate, 0, 10)
        if self.total_kimg is not None:
            _require(0 < self.total_kimg <= 1e9, f"--total-kimg {self.total_kimg:g} is not above 0, up to 1e9")
        _require(self.n_critic is None or 1 <= self.n_critic <= 100, f"--n-critic {self.n_critic} is not from 1 to 100")
        _require(0 <= self.ema_decay < 1, f"--ema-decay {self.ema_decay} is not from 0 to below 1")
        _require(self.precision in PRECISIONS, f"--precision {self.precision} is none of {', '.join(PRECISIONS)}")
        _require(0 <= self.seed < 2**31, f"--seed {self.seed} is not from 0 to {2**31 - 1}")
        _require(0 <= self.workers <= 256, f"--workers {self.workers} is not from 0 to 256")
        _require(self.cache_mb >= 0, f"--cache-mb {self.cache_mb} is below 0")
        for flag, count in (("--snapshot-ticks", self.snapshot_ticks), ("--checkpoint-ticks", self.checkpoint_ticks)):
            _require(1 <= count <= 1_000_000, f"{flag} {count} is not from 1 to 1000000")
        _require(self.keep_checkpoints >= 1, "--keep-checkpoints must be 1 or more")
        _require(self.keep_models >= 0, "--keep-models must be 0 (all) or more")
        self._check_groups()
        self.networks()

    def _check_groups(self) -> None:
        for resolution in self.resolutions():
            batch = int(self.batch.at(resolution))
            group = min(self.stddev_group, batch)
            if batch % group:
                near = batch // group * group
                raise UsageError(
                    f"--batch {batch} at {resolution}x{resolution} is no multiple of the minibatch-stddev group "
                    f"{self.stddev_group}; give {near} or {near + group}, or another --stddev-group"
                )

    def resolutions(self) -> list[int]:
        return [2**level for level in range(level_of(self.start_res), level_of(self.max_res) + 1)]

    def networks(self) -> tuple[GeneratorConfig, DiscriminatorConfig]:
        """The two networks' configurations."""
        common: dict[str, Any] = {
            "resolution": self.max_res,
            **{k: getattr(self, k) for k in ("channels", "label_size", "fmap_base", "fmap_max", "fused_scale")},
        }
        return (
            GeneratorConfig(**common, latent_size=self.latent_size),
            DiscriminatorConfig(**common, stddev_group=self.stddev_group),
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def _check(flag: str, numbers: PerResolution, low: float, high: float, whole: bool = False) -> None:
    _require(bool(numbers.values()), f"{flag} has no value")
    for value in numbers.values():
        _require(low <= value <= high, f"{flag} {value:g} is not from {low:g} to {high:g}")
        _require(not whole or value == int(value), f"{flag} {value:g} is not a whole number")


def to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON values; `from_json` reads it back unchanged."""
    out: dict[str, Any] = {}
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if isinstance(value, PerResolution):
            value = {"plain": value.plain, **{str(r): v for r, v in value.named}}
        elif isinstance(value, tuple):
            value = [list(v) if isinstance(v, tuple) else v for v in value]
        out[entry.name] = value
    return out


def from_json(cls: type[T], values: Mapping[str, Any]) -> T:
    """Reads what `to_json` wrote. Raises `UsageError` for unknown fields (a newer version's) or wrong values."""
    known = {entry.name: entry for entry in dataclasses.fields(cls)}  # type: ignore[arg-type]
    _refuse_unknown(values, known)
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            plain = value.get("plain")
            value = PerResolution(plain, tuple(sorted((int(r), v) for r, v in value.items() if r != "plain")))
        elif isinstance(value, list):
            value = tuple(tuple(v) if isinstance(v, list) else v for v in value)
        out[name] = value
    try:
        return cls(**out)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"a recorded configuration holds an unusable value: {error}") from None


def _refuse_unknown(values: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UsageError(f"it was written by a newer pggan (unknown: {', '.join(unknown)}); update pggan to read it")
