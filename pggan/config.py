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
from pggan.resolutions import PerResolution, level_of

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
CACHES = ("auto", "none", "ram", "device")

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkConfig:
    """What the generator and the discriminator have in common (Karras et al. 2018, appendix A).

    `fmap_base`, `fmap_max`, `fmap_decay`: stage s has `min(fmap_base / 2**(s * fmap_decay), fmap_max)` feature maps;
    `widths` lists them instead, from stage 0 (what is not listed halves the last one).
    `fused_scale`: upscale + convolution (convolution + downscale) as one strided 4x4 convolution; in the
    discriminator it also puts bias and activation after the average instead of before it.
    `equalized`: weights drawn from N(0, 1) and scaled at run time. `leak`: slope of the activation below 0; 0 is ReLU.
    """

    resolution: int = 1024
    channels: int = 3
    label_size: int = 0
    fmap_base: int = 8192
    fmap_max: int = 512
    fmap_decay: float = 1.0
    widths: tuple[int, ...] = ()
    fused_scale: bool = True
    equalized: bool = True
    leak: float = 0.2

    def __post_init__(self) -> None:
        level_of(self.resolution)
        _require(1 <= self.channels <= 64, f"channels {self.channels} is not from 1 to 64")
        _require(0 <= self.label_size <= 100_000, f"label size {self.label_size} is not from 0 to 100000")
        _require(1 <= self.fmap_base <= 1 << 20, f"fmap base {self.fmap_base} is not from 1 to {1 << 20}")
        _require(1 <= self.fmap_max <= 8192, f"fmap max {self.fmap_max} is not from 1 to 8192")
        _require(0 <= self.fmap_decay <= 4, f"fmap decay {self.fmap_decay} is not from 0 to 4")
        for width in self.widths:
            _require(isinstance(width, int) and 1 <= width <= 8192, f"a width of {width} is not from 1 to 8192")
        _require(0 <= self.leak <= 1, f"leak {self.leak} is not from 0 (ReLU) to 1")
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
        if self.widths:
            last = len(self.widths) - 1
            return self.widths[stage] if stage <= last else max(1, self.widths[last] >> (stage - last))
        return min(int(self.fmap_base / 2.0 ** (stage * self.fmap_decay)), self.fmap_max)


G_NORMS = ("pixel", "none")
OUTPUTS = ("linear", "tanh")
DENSE_BIASES = ("map", "output")
STDDEV_FORMS = ("official", "zoo")


@dataclass(frozen=True)
class GeneratorConfig(NetworkConfig):
    """The generator. `pixelnorm_epsilon` is 1e-4 at least wherever half precision computes (reference release).

    `norm`: after every activation. `normalize_latents`: latents and labels together, first of all. `dense_bias`: of the
    first layer, one a map or one an output (pytorch_GAN_zoo). `output`: activation of the picture, none by default.
    """

    latent_size: int = 512
    pixelnorm_epsilon: float = 1e-8
    norm: str = "pixel"
    normalize_latents: bool = True
    dense_bias: str = "map"
    output: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(1 <= self.latent_size <= 8192, f"latent size {self.latent_size} is not from 1 to 8192")
        _require(self.pixelnorm_epsilon > 0, f"pixelnorm epsilon {self.pixelnorm_epsilon} is not above 0")
        _choice("normalisation", self.norm, G_NORMS)
        _choice("dense bias", self.dense_bias, DENSE_BIASES)
        _choice("output", self.output, OUTPUTS)


@dataclass(frozen=True)
class DiscriminatorConfig(NetworkConfig):
    """The discriminator. `stddev_group`: largest group of the minibatch statistic; 1 leaves the statistic out.

    `stddev_form`: as in the reference release, or as in pytorch_GAN_zoo (`layers.consecutive_stddev`). `fades_at_8`
    False: 8x8 pictures are read at 8x8 only, whatever alpha (a quirk of pytorch_GAN_zoo).
    """

    stddev_group: int = 4
    stddev_form: str = "official"
    fades_at_8: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(1 <= self.stddev_group <= 1024, f"minibatch-stddev group {self.stddev_group} is not from 1 to 1024")
        _choice("minibatch-stddev form", self.stddev_form, STDDEV_FORMS)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; written to the run directory as options.json.

    Phases: `start_res` trains `stable_kimg`; every next resolution up to `max_res` fades in over `fade_kimg` and then
    trains `stable_kimg` more. `total_kimg` (None: the sum) lengthens or cuts the whole. kimg are thousands of reals
    that the discriminator has seen. `g_lr`, `d_lr` and `n_critic` None: the objective's own default. `start_from`: the
    model whose weights the run begins with; `g_network`, `d_network`: fields of the networks' configurations in which
    that model's differ from what the options above make.
    """

    data: str | None = None
    start_from: str | None = None
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
    g_network: tuple[tuple[str, Any], ...] = ()
    d_network: tuple[tuple[str, Any], ...] = ()
    stable_kimg: PerResolution = field(default_factory=lambda: PerResolution(600))
    fade_kimg: PerResolution = field(default_factory=lambda: PerResolution(600))
    total_kimg: float | None = None
    batch: PerResolution = field(default_factory=lambda: PerResolution(16))
    micro_batch: PerResolution | None = None
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
    cache: str = "auto"
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
    max_rollbacks: int = 3
    rollback_lr: float = 0.5
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        level_of(self.start_res)
        level_of(self.max_res)
        _require(self.channels in (1, 3), f"channels {self.channels}: pictures have 1 (grey) or 3 (RGB)")
        _require(self.start_res <= self.max_res, f"--start-res {self.start_res} is above --max-res {self.max_res}")
        _check("--stable-kimg", self.stable_kimg, 0, 1e9)
        _check("--fade-kimg", self.fade_kimg, 0, 1e9)
        _check("--batch", self.batch, 1, 65536, whole=True)
        if self.micro_batch is not None:
            _check("--micro-batch", self.micro_batch, 1, 65536, whole=True)
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
        _require(self.cache in CACHES, f"--cache {self.cache} is none of {', '.join(CACHES)}")
        _require(self.cache_mb >= 0, f"--cache-mb {self.cache_mb} is below 0")
        for flag, count in (("--snapshot-ticks", self.snapshot_ticks), ("--checkpoint-ticks", self.checkpoint_ticks)):
            _require(1 <= count <= 1_000_000, f"{flag} {count} is not from 1 to 1000000")
        _require(self.keep_checkpoints >= 1, "--keep-checkpoints must be 1 or more")
        _require(0 <= self.max_rollbacks <= 1000, f"--max-rollbacks {self.max_rollbacks} is not from 0 to 1000")
        _require(0 < self.rollback_lr <= 1, f"--rollback-lr {self.rollback_lr:g} is not above 0, up to 1")
        _require(self.keep_models >= 0, "--keep-models must be 0 (all) or more")
        self._check_groups()
        self.networks()

    def _check_groups(self) -> None:
        if dict(self.d_network).get("stddev_form") == "zoo":
            return  # takes any minibatch
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
        g = {**common, "latent_size": self.latent_size, **dict(self.g_network)}
        d = {**common, "stddev_group": self.stddev_group, **dict(self.d_network)}
        for values in (g, d):  # JSON knows no tuples
            values["widths"] = tuple(values.get("widths", ()))
        return GeneratorConfig(**g), DiscriminatorConfig(**d)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


def _choice(what: str, value: str, among: tuple[str, ...]) -> None:
    _require(value in among, f"{what} {value!r} is none of {', '.join(among)}")


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
