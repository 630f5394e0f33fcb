"""Everything that decides a training run, as one frozen, validated configuration (torch-free).

Each option is declared once, here: type, default, help, range, heading in the help, policy on resume. The command line,
the range checks, the resume policy and the model card's recipe are derived from it. To add an option, add a field.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

from pggan.config import compatibility
from pggan.config.content.channels import KINDS, LISTED
from pggan.config.losses import (
    OBJECTIVES,
    REGULARIZERS,
    OptimizerDefaults,
    all_options,
    optimizers,
    regularizers_of,
    with_implied,
)
from pggan.config.metrics import METRICS
from pggan.config.network import D_NORMS, DiscriminatorConfig, GeneratorConfig, NetworkConfig, require
from pggan.config.option import AUTO, Group, OnResume, check_ranges, names_where, option, options_of
from pggan.config.resolution import PerResolution, level_of
from pggan.config.schedule import Schedule
from pggan.config.serialization import from_json, to_json

__all__ = [
    "CACHES", "FIXED_BY_MODEL", "IN_RECIPE", "OPTIONS", "PRECISIONS", "DiscriminatorConfig", "GeneratorConfig",
    "NetworkConfig", "PerResolution", "TrainConfig", "from_json", "level_of", "to_json",
]  # fmt: skip

RUN, DATA, SCHEDULE, NETWORKS, LOSS, TECHNIQUES, COMPUTING, EVALUATION = Group
SAFE, IMMUTABLE = OnResume.SAFE, OnResume.IMMUTABLE

# Weight of the penalties on gradients: this, times pixels, over the batch (Karras et al. 2020, appendix C).
AUTO_GAMMA = 0.0002

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")
CACHES = ("auto", "none", "ram", "device")
MODES = ("auto", "eager", "compiled", "captured")
GROWTHS = ("progressive", "none", "data")
HALF_LIFE = 10.0  # kimg, of the EMA where no preset's decay holds; StyleGAN2-ADA's
TICKS = PerResolution.of({4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 20, 1024: 10})


def network_option(networks: str, field: str, **changes: Any) -> Any:
    """Declares an option that sets a field of network configurations, with that field's default, range and help.

    Args:
        networks: which networks have it: "g", "d" or "gd".
        field: its name in their configurations.
        **changes: fields of `Option` that differ.
    """
    declared = options_of(DiscriminatorConfig if networks == "d" else GeneratorConfig)[field]
    common = {"label": "", "on_command_line": True, "on_resume": IMMUTABLE}
    entry = dataclasses.replace(declared, networks=networks, network_field=field, **{**common, **changes})
    return dataclasses.field(default=entry.default, metadata={"option": entry})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run; the run directory records it in options.json.

    kimg are thousands of real images shown to the discriminator. The resolution `start_res` trains for `stable_kimg`;
    each next one up to `max_res` fades in over `fade_kimg` and then trains for `stable_kimg` (progressive growing).
    """

    # fmt: off
    preset: str | None = option(RUN, None, "Name of the recipe that the options change.", on_resume=IMMUTABLE,
        on_command_line=False)
    start_from: str | None = option(RUN, None,
        "Warm start: begin with the networks and weights of MODEL, at its resolution. A model file, a run, or the "
        "name of a shipped model.", alias="--from", metavar="MODEL", on_resume=IMMUTABLE)
    start_from_res: int | None = option(RUN, None, "The resolution of that model.", on_resume=IMMUTABLE,
        on_command_line=False)
    seed: int = option(RUN, 0, "Random seed of weights, image order and noise.", 0, 2**31 - 1)
    tick_kimg: PerResolution = option(RUN, TICKS, "Thousands of images from log line to log line.", 1e-3, 1e6,
        on_resume=SAFE)
    snapshot_ticks: int = option(RUN, 10, "Log lines from snapshot to snapshot (sample grid and model).", 1, 1_000_000,
        on_resume=SAFE)
    checkpoint_ticks: int = option(RUN, 10, "Log lines from checkpoint to checkpoint, from which a run resumes.", 1,
        1_000_000, on_resume=SAFE)
    keep_checkpoints: int = option(RUN, 3, "How many of the newest checkpoints to keep.", 1, on_resume=SAFE)
    keep_models: int = option(RUN, 0, "How many of the newest models to keep; 0: all.", 0, on_resume=SAFE)
    raw_models: str = option(RUN, "auto",
        "Whether models keep the generator itself beside its average, for generate --raw; auto: where it takes at most "
        "64 MiB.", choices=("auto", "always", "never"), on_resume=SAFE, before="never")
    power_averages: bool = option(RUN, False,
        "Keep two power-function averages of the generator (lengths 0.05 and 0.1) in every snapshot, from which pggan "
        "ema makes one of any length. Costs two more generators in memory, and as many bytes on the disk a snapshot.",
        on_resume=IMMUTABLE, in_recipe=False)
    max_rollbacks: int = option(RUN, 3, "How often a run that diverges may roll back to its last good checkpoint.", 0,
        1000, on_resume=SAFE)
    rollback_lr: float = option(RUN, 0.5, "Factor on the learning rates at each rollback.", 0, 1, above_low=True,
        on_resume=SAFE)
    grid: tuple[int, int] | None = option(RUN, None, "Columns x rows of the sample grids, e.g. 8x4.", on_resume=SAFE,
        default_text="by the resolution")

    data: str | None = option(DATA, None, "The prepared data store.", on_command_line=False)
    channels: int = option(DATA, 3, "Channels of an image, as the data have them.", on_resume=IMMUTABLE,
        on_command_line=False, networks="gd")
    label_size: int = option(DATA, 0, "Numbers of a label vector, as the data have them; 0: unconditional.",
        on_resume=IMMUTABLE, on_command_line=False, networks="gd")
    label_columns: tuple[int, ...] = option(DATA, (),
        "Classes of each label column, 0 of a number, as the data have them; empty: label_size classes of one column.",
        on_resume=IMMUTABLE, on_command_line=False)
    labels: str | None = option(DATA, None,
        "Train conditionally on this label column of the data (AC-GAN), or on several, as age,hair.",
        metavar="COLUMN,...", on_resume=IMMUTABLE, default_text="unconditional")
    mirror: bool = option(DATA, True, "Mirror half of the images, chosen at random.")
    held_out: float = option(DATA, 0.0, "Share of the images never shown to the discriminator, to measure overfitting.",
        0, 0.99, metavar="SHARE")
    workers: int | None = option(DATA, None, "Threads that prefetch images; 0: the training thread reads them.", 0, 256,
        on_resume=SAFE, default_text="2; on a GPU the cores, at most 16")
    cache: str = option(DATA, "auto",
        "Where decoded images of the current resolution stay: device (GPU memory, up to 70 % of what is free), ram "
        "(shared by the processes of a machine), or none. auto: the first with room, of a GPU 25 % or what training "
        "leaves.",
        choices=CACHES, on_resume=SAFE)
    cache_mb: int = option(DATA, 1024, "Main memory that --cache may take, in MB.", 0, metavar="MB", on_resume=SAFE)

    start_res: int = option(SCHEDULE, 4, "First resolution.")
    max_res: int = option(SCHEDULE, 1024, "Last resolution.", on_resume=IMMUTABLE,
        default_text="the preset's, at most the data's")
    growth: str = option(SCHEDULE, "progressive",
        "Progressive growing of the networks; none: all levels train from the start; data: so too, while the real "
        "images sharpen from --start-res to --max-res.", choices=GROWTHS, on_resume=IMMUTABLE)
    stable_kimg: PerResolution = option(SCHEDULE, PerResolution(600),
        "Thousands of images for which each resolution trains after its fade-in.", 0, 1e9)
    fade_kimg: PerResolution = option(SCHEDULE, PerResolution(600),
        "Thousands of images over which each resolution fades in.", 0, 1e9)
    total_kimg: float | None = option(SCHEDULE, None,
        "Length of the run in thousands of images; lengthens or cuts the phases.", 0, 1e9, above_low=True,
        metavar="KIMG")
    batch: PerResolution = option(SCHEDULE, PerResolution(16),
        "Batch size. auto: the preset's, split into the largest micro-batches that fit the memory.", 1, 65536,
        whole=True, metavar="auto|N|R:N,...")
    g_lr: PerResolution | None = option(SCHEDULE, None,
        "Learning rate of the generator; START..END changes it linearly over the run.", 0, 10, scheduled=True)
    d_lr: PerResolution | None = option(SCHEDULE, None, "Learning rate of the discriminator, likewise.", 0, 10,
        scheduled=True)
    lr_warmup: float = option(SCHEDULE, 0.0,
        "Thousands of images over which both learning rates rise from 0 as the run begins.", 0, 1e9, metavar="KIMG")
    adam_betas: tuple[float, float] | None = option(SCHEDULE, None, "Betas of Adam for both networks, e.g. 0.5,0.999.",
        0, 1, below_high=True, on_resume=IMMUTABLE, default_text="the optimizer of the loss")
    adam_beta2: float | PerResolution | None = option(SCHEDULE, None,
        "Adam's second beta for both networks in place of that of --adam-betas, or START..END over the run.", 0, 1,
        below_high=True, metavar="BETA|A..B", scheduled=True, default_text="the optimizer of the loss")
    n_critic: int | None = option(SCHEDULE, None, "Discriminator steps per generator step.", 1, 100,
        default_text="the loss's")
    ema_decay: float = option(SCHEDULE, 0.999, "EMA decay of the generator's weights per discriminator step.", 0, 1,
        below_high=True, default_text="the preset's, with its batch and phases")
    ema_half_life: float | PerResolution | None = option(SCHEDULE, None,
        "EMA half-life in thousands of images, whatever the batch, instead of --ema-decay; or START..END over the run.",
        1e-3, 1e6, metavar="KIMG|A..B", scheduled=True, default_text=f"{HALF_LIFE:g}, where no --ema-decay holds")
    ema_ramp: float = option(SCHEDULE, 0.05,
        "The half-life is at most this share of the images seen since a level's layers began; 0: no limit.", 0, 1,
        metavar="SHARE", before=0.0)

    arch_g: str = network_option("g", "arch", help="Generator: pggan grows, fc and dcgan are small baselines.")
    arch_d: str = network_option("d", "arch", help="Discriminator: pggan grows, fc and dcgan are small baselines.")
    fmap_base: int = network_option("gd", "fmap_base")
    fmap_max: int = network_option("gd", "fmap_max")
    latent_size: int = network_option("g", "latent_size")
    mapping: int = network_option("g", "mapping_layers", metavar="N")
    fused_scale: bool = network_option("gd", "fused_scale", help="Fuse scaling into strided convolutions.")
    resample: str = network_option("gd", "resample")
    gains: str = network_option("g", "gains")
    g_norm: str = network_option("g", "norm", help="Normalisation in the generator.")
    # not `choices`: compatibility.py says why "batch" is none of them
    d_norm: str = network_option("d", "norm", help="Normalisation in the discriminator.", choices=(),
        metavar="|".join(D_NORMS))
    diversity: str = network_option("d", "diversity")
    stddev_group: int = network_option("d", "stddev_group")
    discrimination_kernels: int = network_option("d", "discrimination_kernels")
    discrimination_dim: int = network_option("d", "discrimination_dim")
    discrimination_group: int = network_option("d", "discrimination_group")
    g_network: tuple[tuple[str, Any], ...] = option(NETWORKS, (),
        "Fields of `GeneratorConfig` that replace what the options give.", on_command_line=False)
    d_network: tuple[tuple[str, Any], ...] = option(NETWORKS, (),
        "Fields of `DiscriminatorConfig` that replace what the options give.", on_command_line=False)

    loss: str = option(LOSS, "wgan-gp", "Loss of generator and discriminator.", choices=tuple(OBJECTIVES.names()),
        on_resume=IMMUTABLE)
    penalty_every: int = option(LOSS, 1,
        "Lazy regularisation: take R1 and R2 in a step of their own after every K-th step of D, K times as strong "
        "(Karras et al. 2020). 1: in every step.", 1, 1000, metavar="K", on_resume=IMMUTABLE)
    loss_options: tuple[tuple[str, Any], ...] = option(LOSS, (),
        "Options of the loss and the techniques, by name (config/losses.py).", on_command_line=False)

    categorical: tuple[int, ...] = network_option("gd", "categorical", group=TECHNIQUES)
    continuous: int = network_option("gd", "continuous", group=TECHNIQUES)

    device: str = option(COMPUTING, "auto",
        "Where to compute: auto (a CUDA GPU, else the CPU), cpu, cuda, cuda:N, mps or xpu.", in_recipe=False)
    precision: str = option(COMPUTING, "auto",
        "Mixed precision (bf16, fp16) or not (tf32, fp32). auto: on a GPU bf16, or fp16 where tensor cores have that "
        "alone; else fp32.",
        choices=PRECISIONS)
    mode: str = option(COMPUTING, "auto",
        "How training steps run: eager, compiled (torch.compile), or captured (CUDA graphs, too). auto: compiled where "
        "the planned steps pay for it, else eager; on a GPU CUDA graphs either way.", choices=MODES, on_resume=SAFE)
    micro_batch: PerResolution | None = option(COMPUTING, None,
        "Gradient accumulation: most images per forward and backward pass; gradients add up to the batch's.", 1, 65536,
        whole=True, on_resume=SAFE, default_text="the batch")
    auto_batch: bool = option(COMPUTING, False, "Gradient accumulation as the memory requires: --batch auto.",
        on_resume=SAFE, on_command_line=False)
    budget: float | None = option(COMPUTING, None,
        "Memory that training may take per GPU (CPU: per process). Keeps within it by smaller micro-batches, then by "
        "activation checkpointing. On a CPU it is an estimate.", metavar="24GB", on_resume=SAFE,
        default_text="no limit")

    eval_every: int = option(EVALUATION, 1, "Snapshots from evaluation to evaluation; 0: never.", 0, 1_000_000,
        on_resume=SAFE)
    eval_metrics: tuple[str, ...] = option(EVALUATION, ("swd",),
        "Metrics of the generator's EMA; see pggan evaluate --help.", on_resume=SAFE)
    eval_samples: int = option(EVALUATION, 1024, "Generated images per evaluation.", 4, 1_000_000, on_resume=SAFE)
    best_metric: str | None = option(EVALUATION, None, "Metric by which the best model is chosen and kept.",
        choices=tuple(METRICS.names()), on_resume=SAFE, default_text="the first of --eval-metrics")
    stop_when: str | None = option(EVALUATION, None,
        "End the run after N evaluations without a better figure, as swd:5. Those of the last resolution count, after "
        "its fade-in; never: train to the end.", metavar="METRIC:N", on_resume=SAFE, default_text="never")
    inception_weights: str | None = option(EVALUATION, None,
        "torch-fidelity's file of Inception weights, for fid, kid, is and pr.", metavar="FILE", on_resume=SAFE,
        default_text="downloaded")
    embedding: str | None = option(EVALUATION, None,
        "The network of fd, kd, epr and eneighbours: an ONNX file, or efficientnet-lite0.", metavar="FILE",
        on_resume=SAFE)
    # fmt: on

    def __post_init__(self) -> None:
        level_of(self.start_res)
        level_of(self.max_res)
        require(self.channels in KINDS, f"channels {self.channels}: pictures have {LISTED}")
        require(self.start_res <= self.max_res, f"--start-res {self.start_res} is above --max-res {self.max_res}")
        _ = OBJECTIVES[self.loss]  # suggests a near name, which a choice does not
        check_ranges(self)
        if self.budget is not None:
            require(self.budget >= 64 << 20, "--budget is below 64MB, which torch alone takes")
        compatibility.check(self)

    def resolutions(self) -> list[int]:
        """Returns the resolutions at which the networks train, ascending."""
        return self.details() if self.growth == "progressive" else [self.max_res]

    def details(self) -> list[int]:
        """Returns the levels of detail that the phases pass through, as resolutions."""
        return [2**level for level in range(level_of(self.start_res), level_of(self.max_res) + 1)]

    @property
    def label_layout(self) -> tuple[int, ...]:
        """The columns in the label vector: the number of classes of each, 0 of a number, which takes one place."""
        return self.label_columns or ((self.label_size,) if self.label_size else ())

    @property
    def has_codes(self) -> bool:
        """Whether the latents end with structured codes (InfoGAN)."""
        return bool(self.categorical) or self.continuous > 0

    def regularizers(self) -> list[str]:
        """Returns the names of the run's regularizers and techniques."""
        conditional = self.labels is not None or self.label_size > 0
        return regularizers_of(self.loss, conditional, dict(self.loss_options), self.has_codes)

    def objective_options(self) -> dict[str, Any]:
        """Returns the options of the loss and of techniques, with the penalties' `auto` as numbers by resolution."""
        options = with_implied(self.loss, dict(self.loss_options))
        sides = self.resolutions()
        gamma = PerResolution.of({side: AUTO_GAMMA * side * side / self.batch.at(side) for side in sides})
        declared = all_options()
        automatic = {name for name, value in options.items() if value == AUTO and declared[name].by_resolution}
        return {name: gamma if name in automatic else value for name, value in options.items()}

    def schedules(self) -> dict[str, PerResolution]:
        """Returns the numbers that change over the run, by the name of their option."""
        values = {name: getattr(self, name) for name, option in OPTIONS.items() if option.scheduled}
        declared = all_options()
        values |= {n: declared[n].check(v) for n, v in self.objective_options().items() if declared[n].scheduled}
        return {n: v for n, v in values.items() if isinstance(v, PerResolution) and v.end is not None}

    def needs(self) -> frozenset[str]:
        """Returns what the loss and the regularizers need (`ObjectiveSpec.needs`)."""
        return OBJECTIVES[self.loss].needs.union(*(REGULARIZERS[name].needs for name in self.regularizers()))

    def optimizers(self) -> tuple[OptimizerDefaults, OptimizerDefaults]:
        """Returns the optimizers of G and D, with the learning rates that hold where `g_lr` and `d_lr` are None."""
        g, d = optimizers(self.loss, self.regularizers())
        if (betas := self.adam_betas) is not None:
            g, d = (dataclasses.replace(each, name="adam", betas=betas) for each in (g, d))
        if self.adam_beta2 is not None:
            beta2 = PerResolution.of(self.adam_beta2).at(self.start_res)
            g, d = (dataclasses.replace(each, name="adam", betas=(each.betas[0], beta2)) for each in (g, d))
        return g, d

    @property
    def lazy_ratio(self) -> float:
        """Factor on D's learning rate, and exponent of its betas, where lazy penalties make K updates K + 1.

        Section 3.1 and appendix B of Karras et al. 2020 (StyleGAN2).
        """
        return self.penalty_every / (self.penalty_every + 1)

    @functools.cached_property
    def schedule(self) -> Schedule:
        """Phases, resolution, batch and learning rates as a function of images seen."""
        return Schedule(self)

    @functools.cached_property
    def generator(self) -> GeneratorConfig:
        """The generator's configuration."""
        fields = self._network_fields("g")
        if "unconditional" in self.needs():
            fields["label_size"] = 0
        return GeneratorConfig(**{**fields, **dict(self.g_network)})

    @functools.cached_property
    def discriminator(self) -> DiscriminatorConfig:
        """The discriminator's configuration."""
        fields = {**self._network_fields("d"), "decodes": "reconstruction" in self.needs()}
        return DiscriminatorConfig(**{**fields, **dict(self.d_network)})

    def networks(self) -> tuple[GeneratorConfig, DiscriminatorConfig]:
        """Returns the configurations of the generator and the discriminator."""
        return self.generator, self.discriminator

    def _network_fields(self, network: str) -> dict[str, Any]:
        chosen = {e.network_field or name: getattr(self, name) for name, e in OPTIONS.items() if network in e.networks}
        return {"resolution": self.max_res, **chosen}


# The options of training by field, in the order of the help.
OPTIONS = options_of(TrainConfig)
# Those in the command that trains the same model again.
IN_RECIPE = names_where(OPTIONS, lambda o: o.on_command_line and o.in_recipe and o.on_resume is not SAFE)
# Those that a model decides in a warm start: field -> its network ("g" where both have it), and its field there.
FIXED_BY_MODEL = {
    name: (option.networks[0], option.network_field)
    for name, option in OPTIONS.items()
    if option.networks and option.on_command_line
}
