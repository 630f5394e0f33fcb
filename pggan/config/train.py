"""Frozen, validated configurations. Torch-free: a wrong option is told before anything heavy is imported.

Every default of the product stands here (those of the networks in network_config.py), once; presets.py holds the
named deviations from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pggan.config.compatibility import check as check_combinations
from pggan.config.losses import OptimizerDefaults, needs_of, optimizers, regularizers_of
from pggan.config.metrics import METRICS, READY
from pggan.config.metrics import chosen as chosen_metrics
from pggan.config.network import DiscriminatorConfig, GeneratorConfig, NetworkConfig
from pggan.config.network import require as _require
from pggan.config.resolution import PerResolution, level_of
from pggan.utils.errors import UsageError

__all__ = [
    "CACHES", "PRECISIONS", "DiscriminatorConfig", "GeneratorConfig", "NetworkConfig", "PerResolution", "TrainConfig",
    "from_json", "to_json",
]  # fmt: skip

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
CACHES = ("auto", "none", "ram", "device")
MODES = ("auto", "eager", "compiled", "captured")
GROWTHS = ("progressive", "none", "data")

T = TypeVar("T")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; written to the run directory as options.json.

    Phases: `start_res` trains `stable_kimg`; every next resolution up to `max_res` fades in over `fade_kimg` and then
    trains `stable_kimg` more. `total_kimg` (None: the sum) lengthens or cuts the whole. kimg are thousands of reals
    that the discriminator has seen. `g_lr`, `d_lr` and `n_critic` None: the objective's own default; `adam_betas` (of
    both players) None: its own optimiser. `start_from`: the model whose weights the run begins with; `g_network`,
    `d_network`: fields of the networks' configurations in which that model's differ from what the options above make.
    `mode`: how the step is computed (training/modes.py). `micro_batch`: most images computed at once; `auto_batch`: as
    many as fit the free memory, within `budget` (bytes of memory, measured as the run starts; None: no limit).
    `growth`: "progressive"; "none": all levels from the start, at `max_res`, for as many images; "data": so too, and
    the reals are blurred to the level of detail that the phases give. `loss_options`: those of the loss and of the
    regularisers (pggan/objectives), by name. `ema_half_life` (kimg): after so many images the running average holds
    half of what it held; None: `ema_decay` a step of D instead. `held_out`: share of the pictures that D never learns
    from. `eval_every`: snapshots from one evaluation of the running average to the next, 0: none; `eval_metrics` (names
    of pggan/metrics) of `eval_samples` generated pictures, the best model by `best_metric` (None: the first of them)
    kept; `inception_weights`, `embedding`: the networks that some of them look through. What the fields from `arch_g`
    on mean is told in network_config.py.
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
    arch_g: str = GeneratorConfig.arch
    arch_d: str = DiscriminatorConfig.arch
    g_norm: str = GeneratorConfig.norm
    d_norm: str = DiscriminatorConfig.norm
    diversity: str = DiscriminatorConfig.diversity
    discrimination_kernels: int = DiscriminatorConfig.discrimination_kernels
    discrimination_dim: int = DiscriminatorConfig.discrimination_dim
    discrimination_group: int = DiscriminatorConfig.discrimination_group
    categorical: tuple[int, ...] = ()
    continuous: int = 0
    growth: str = GROWTHS[0]
    g_network: tuple[tuple[str, Any], ...] = ()
    d_network: tuple[tuple[str, Any], ...] = ()
    stable_kimg: PerResolution = field(default_factory=lambda: PerResolution(600))
    fade_kimg: PerResolution = field(default_factory=lambda: PerResolution(600))
    total_kimg: float | None = None
    batch: PerResolution = field(default_factory=lambda: PerResolution(16))
    micro_batch: PerResolution | None = None
    auto_batch: bool = False
    budget: float | None = None
    g_lr: PerResolution | None = None
    d_lr: PerResolution | None = None
    adam_betas: tuple[float, float] | None = None
    loss: str = "wgan-gp"
    loss_options: tuple[tuple[str, Any], ...] = ()
    n_critic: int | None = None
    ema_decay: float = 0.999
    ema_half_life: float | None = None
    held_out: float = 0.0
    mirror: bool = True
    precision: str = "auto"
    mode: str = "auto"
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
    eval_every: int = 1
    eval_metrics: tuple[str, ...] = ("swd",)
    eval_samples: int = 1024
    best_metric: str | None = None
    inception_weights: str | None = None
    embedding: str | None = None

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
        if self.budget is not None:
            _require(self.budget >= 64 << 20, "--budget is below 64MB, which torch alone takes")
        _check("--tick-kimg", self.tick_kimg, 1e-3, 1e6)
        for flag, rate in (("--g-lr", self.g_lr), ("--d-lr", self.d_lr)):
            if rate is not None:
                _check(flag, rate, 0, 10)
        if self.total_kimg is not None:
            _require(0 < self.total_kimg <= 1e9, f"--total-kimg {self.total_kimg:g} is not above 0, up to 1e9")
        _require(self.n_critic is None or 1 <= self.n_critic <= 100, f"--n-critic {self.n_critic} is not from 1 to 100")
        _require(0 <= self.ema_decay < 1, f"--ema-decay {self.ema_decay} is not from 0 to below 1")
        half = self.ema_half_life
        _require(half is None or 1e-3 <= half <= 1e6, f"--ema-half-life {half} is not from 0.001 to 1e6 (kimg)")
        _require(0 <= self.held_out <= 0.99, f"--held-out {self.held_out:g} is not from 0 to 0.99")
        for beta in self.adam_betas or ():
            _require(0 <= beta < 1, f"--adam-betas {beta:g} is not from 0 to below 1")
        _require(self.growth in GROWTHS, f"--growth {self.growth} is none of {', '.join(GROWTHS)}")
        _require(self.precision in PRECISIONS, f"--precision {self.precision} is none of {', '.join(PRECISIONS)}")
        _require(self.mode in MODES, f"--mode {self.mode} is none of {', '.join(MODES)}")
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
        self._check_evaluation()
        check_combinations(self)
        self._check_groups(self.networks()[1])

    def _check_evaluation(self) -> None:
        _require(0 <= self.eval_every <= 1_000_000, f"--eval-every {self.eval_every} is not from 0 (none) to 1000000")
        _require(4 <= self.eval_samples <= 1_000_000, f"--eval-samples {self.eval_samples} is not from 4 to 1000000")
        names = chosen_metrics(self.eval_metrics)
        if self.best_metric is not None and self.best_metric not in names:
            raise UsageError(f"--best-metric {self.best_metric} is none of --eval-metrics {','.join(names)}")
        through = [name for name in names if METRICS[name].needs == "embedding"]
        if self.eval_every and through and self.embedding is None:
            raise UsageError(f"--eval-metrics {','.join(through)}: give the network with --embedding FILE, or {READY}")

    def _check_groups(self, d: DiscriminatorConfig) -> None:
        if d.stddev_form == "zoo":
            return  # takes any minibatch
        for resolution in self.resolutions():
            batch = int(self.batch.at(resolution))
            group = min(d.minibatch_group, batch)
            if batch % group:
                near = batch // group * group
                statistic, mend = "minibatch-stddev", "or another --stddev-group"
                if d.diversity == "discrimination":
                    statistic, mend = "minibatch-discrimination", "or another --discrimination-group"
                raise UsageError(
                    f"--batch {batch} at {resolution}x{resolution} is no multiple of the {statistic} group "
                    f"{d.minibatch_group}; give {near} or {near + group}, {mend}"
                )

    def resolutions(self) -> list[int]:
        """Those that the networks train at, ascending."""
        return self.details() if self.growth == "progressive" else [self.max_res]

    def details(self) -> list[int]:
        """The levels of detail that the phases pass through, as resolutions."""
        return [2**level for level in range(level_of(self.start_res), level_of(self.max_res) + 1)]

    @property
    def has_codes(self) -> bool:
        """Whether the latents end with structured codes."""
        return bool(self.categorical) or self.continuous > 0

    def average_decay(self, batch: int) -> float:
        """Decay of the generator's running average at a step of D that sees so many images."""
        if self.ema_half_life is None:
            return self.ema_decay
        return float(0.5 ** (batch / (self.ema_half_life * 1000)))

    def regularizers(self) -> list[str]:
        """The regularisers and techniques of the run, by name."""
        conditional = self.labels is not None or self.label_size > 0
        return regularizers_of(self.loss, conditional, dict(self.loss_options), self.has_codes)

    def needs(self) -> frozenset[str]:
        """What the loss and the regularisers need (`ObjectiveSpec.needs`)."""
        return needs_of(self.loss, self.regularizers())

    def optimizers(self) -> tuple[OptimizerDefaults, OptimizerDefaults]:
        """The optimisers of G and D; their rates where `g_lr`, `d_lr` are None."""
        g, d = optimizers(self.loss, self.regularizers())
        if self.adam_betas is None:
            return g, d
        betas = self.adam_betas
        return dataclasses.replace(g, name="adam", betas=betas), dataclasses.replace(d, name="adam", betas=betas)

    def networks(self) -> tuple[GeneratorConfig, DiscriminatorConfig]:
        """The two networks' configurations."""
        common: dict[str, Any] = {
            "resolution": self.max_res,
            **{k: getattr(self, k) for k in ("channels", "label_size", "fmap_base", "fmap_max", "fused_scale")},
            **{k: getattr(self, k) for k in ("categorical", "continuous")},
        }
        needs = self.needs()
        g = {**common, "arch": self.arch_g, "norm": self.g_norm, "latent_size": self.latent_size}
        if "unconditional" in needs:
            g["label_size"] = 0
        statistic = (
            "stddev_group",
            "diversity",
            "discrimination_kernels",
            "discrimination_dim",
            "discrimination_group",
        )
        d = {**common, "arch": self.arch_d, "norm": self.d_norm, **{k: getattr(self, k) for k in statistic}}
        d["decodes"] = "reconstruction" in needs
        g, d = {**g, **dict(self.g_network)}, {**d, **dict(self.d_network)}
        return GeneratorConfig(**g), DiscriminatorConfig(**d)


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
