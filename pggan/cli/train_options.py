"""The options of `pggan train`, as click takes them: the table of TrainConfig's fields, and the losses' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pggan.cli.options import GridSize, MetricNames, Numbers
from pggan.config.losses import Option, all_options
from pggan.config.metrics import METRICS
from pggan.config.network import ARCHS, D_NORMS, DIVERSITIES, G_NORMS
from pggan.config.train import CACHES, GROWTHS, MODES, PRECISIONS, PerResolution
from pggan.utils.errors import UsageError
from pggan.utils.formatting import bytes_of


class PerResolutionType(click.ParamType):
    """`128`, `4:128,8:64` or `16,256:8`."""

    name = "number|R:number,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PerResolution:
        if isinstance(value, PerResolution):
            return value
        try:
            return PerResolution.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class BatchType(PerResolutionType):
    """As above, or `auto`."""

    name = "auto|number|R:number,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


class MemoryType(click.ParamType):
    """`24GB` as bytes."""

    name = "24GB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else bytes_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


PER_RESOLUTION = PerResolutionType()

# option -> (click arguments); each sets the field of its name in config.TrainConfig, where the default and range are
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--start-res", {"type": int, "help": "First resolution (4)."}),
    ("--stable-kimg", {"type": PER_RESOLUTION, "help": "Thousands of images a resolution trains after its fade."}),
    ("--fade-kimg", {"type": PER_RESOLUTION, "help": "Thousands of images a resolution fades in over."}),
    ("--total-kimg", {"type": float, "help": "Length of the run; lengthens or cuts the phases."}),
    (
        "--batch",
        {
            "type": BatchType(),
            "help": "Images an iteration. auto: the preset's, computed as many at once as fit the memory.",
        },
    ),
    ("--micro-batch", {"type": PER_RESOLUTION, "help": "Most images computed at once; gradients add up to the batch."}),
    (
        "--budget",
        {
            "type": MemoryType(),
            "help": "Memory that training may take of each GPU (CPU: of each process): fewer images are computed at "
            "once, then activations are computed again. Measured when the run starts.",
        },
    ),
    ("--g-lr", {"type": PER_RESOLUTION, "help": "Learning rate of the generator."}),
    ("--d-lr", {"type": PER_RESOLUTION, "help": "Learning rate of the discriminator."}),
    ("--fmap-base", {"type": int, "help": "Feature maps: stage s has min(base / 2^s, max)."}),
    ("--fmap-max", {"type": int, "help": "Most feature maps of a layer."}),
    ("--latent-size", {"type": int, "help": "Dimensions of the latent."}),
    ("--fused-scale/--no-fused-scale", {"default": None, "help": "Scaling fused into strided convolutions."}),
    ("--stddev-group", {"type": int, "help": "Group of the minibatch statistic; 1: none."}),
    ("--growth", {"type": click.Choice(GROWTHS), "help": "Grow the networks, nothing, or the data's detail."}),
    ("--arch-g", {"type": click.Choice(ARCHS), "help": "Generator: progressive, or a small baseline."}),
    ("--arch-d", {"type": click.Choice(ARCHS), "help": "Discriminator: progressive, or a small baseline."}),
    ("--g-norm", {"type": click.Choice(G_NORMS), "help": "Normalisation in the generator."}),
    ("--d-norm", {"metavar": "|".join(D_NORMS), "help": "Normalisation in the discriminator."}),
    ("--diversity", {"type": click.Choice(DIVERSITIES), "help": "How D compares the samples of a minibatch."}),
    ("--discrimination-kernels", {"type": int, "help": "Kernels B of --diversity discrimination."}),
    ("--discrimination-dim", {"type": int, "help": "Dimensions C of each of them."}),
    ("--discrimination-group", {"type": int, "help": "Samples it compares, at most; a whole minibatch as published."}),
    ("--categorical", {"type": Numbers(int), "help": "InfoGAN: values of each categorical code, as 10 or 10,4."}),
    ("--continuous", {"type": int, "help": "InfoGAN: number of continuous codes in -1 to 1."}),
    ("--adam-betas", {"type": Numbers(float, 2), "help": "Adam's betas of both players, as 0.5,0.999."}),
    ("--n-critic", {"type": int, "help": "Discriminator steps for each generator step."}),
    ("--ema-decay", {"type": float, "help": "Decay of the generator's running average."}),
    (
        "--ema-half-life",
        {"type": float, "metavar": "KIMG", "help": "Half-life of that average instead, in thousands of images."},
    ),
    (
        "--held-out",
        {"type": float, "metavar": "SHARE", "help": "Share of the pictures kept from training, whose scores are told."},
    ),
    ("--mirror/--no-mirror", {"default": None, "help": "Mirror half of the pictures."}),
    ("--labels", {"help": "Train conditionally on this label column of the data."}),
    (
        "--precision",
        {
            "type": click.Choice(PRECISIONS),
            "help": "auto: bf16 on a GPU that has it, tf32 on one that has that, else fp32.",
        },
    ),
    (
        "--mode",
        {
            "type": click.Choice(MODES),
            "help": "How steps are computed: eager, compiled, or captured (recorded as CUDA graphs, too). auto: the "
            "fastest, measured in the run, on a GPU; eager on the CPU.",
        },
    ),
    ("--device", {"help": "auto, cpu, cuda or cuda:N."}),
    ("--seed", {"type": int, "help": "Decides weights, order and noise."}),
    ("--workers", {"type": int, "help": "Threads that read pictures; 0: none beside training."}),
    (
        "--cache",
        {
            "type": click.Choice(CACHES),
            "help": "Where the decoded pictures of the resolution that trains are kept: in the GPU's memory, in main "
            "memory (shared by the machine's processes), or nowhere. auto: the first that has room, taking a quarter "
            "of a GPU's free memory at most (device: up to 70 %).",
        },
    ),
    ("--cache-mb", {"type": int, "help": "Main memory that --cache may take."}),
    ("--tick-kimg", {"type": PER_RESOLUTION, "help": "Thousands of images between lines of the log."}),
    ("--snapshot-ticks", {"type": int, "help": "Ticks between snapshots (sample grid and model)."}),
    ("--checkpoint-ticks", {"type": int, "help": "Ticks between checkpoints to resume from."}),
    ("--keep-checkpoints", {"type": int, "help": "Checkpoints kept; the newest ones."}),
    ("--keep-models", {"type": int, "help": "Models kept; 0: all."}),
    ("--max-rollbacks", {"type": int, "help": "Times a run that goes wrong returns to its last good checkpoint."}),
    ("--rollback-lr", {"type": float, "help": "Factor on the learning rates at each such return."}),
    ("--grid", {"type": GridSize(), "help": "Shape of the sample grids, as 8x4."}),
    ("--eval-every", {"type": int, "help": "Snapshots from one evaluation to the next; 0: none."}),
    ("--eval-metrics", {"type": MetricNames(), "help": "What is measured then (swd); see pggan evaluate --help."}),
    ("--eval-samples", {"type": int, "help": "Generated pictures that are measured."}),
    (
        "--best-metric",
        {"type": click.Choice(METRICS.names()), "help": "Which of them says which model is kept as the best (first)."},
    ),
    ("--inception-weights", {"help": "torch-fidelity's file, for fid, kid, is and pr. Default: downloaded."}),
    ("--embedding", {"help": "ONNX file, or efficientnet-lite0: the network of fd, kd, epr and eneighbours."}),
]


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The table above, and every loss's and regulariser's own numbers, as click options."""
    for option in reversed(list(all_options().values())):
        function = _loss_option(option)(function)
    for flag, arguments in reversed(OPTIONS):
        function = click.option(flag, **arguments)(function)
    return function


def _loss_option(option: Option) -> Callable[[Any], Any]:
    """An entry of the tables of losses and regularisers as a click option; None where it is not given."""
    text = f"{option.help[0].upper()}{option.help[1:]}."
    if option.choices:
        return click.option(option.flag, type=click.Choice(option.choices), help=text)
    if option.kind is bool:
        return click.option(f"{option.flag}/--no-{option.flag[2:]}", default=None, help=text)
    return click.option(option.flag, type=option.kind, help=f"{text} [{option.low:g} to {option.high:g}]")
