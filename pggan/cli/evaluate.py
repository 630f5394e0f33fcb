"""`pggan evaluate`: measures how good and how varied the pictures of a model or of a folder are."""

from __future__ import annotations

import math
import os
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.options import (
    METRIC_NAMES,
    ModelChoice,
    Output,
    background_option,
    model_options,
    output_options,
    raw_option,
)
from pggan.config.metrics import METRICS, READY
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    import torch

    from pggan.config.content.channels import Colour
    from pggan.metrics.cache import Cache
    from pggan.metrics.evaluate import Comparison
    from pggan.metrics.image_sets import ImageSet
    from pggan.utils.distributed import World

INPUTS = ["imagenet", "unit", "signed", "bytes"]
METRICS_TABLE = "\b\nMetrics:\n" + "\n".join(
    textwrap.fill(
        f"{metric.summary} ({metric.count:,} pictures, {metric.better} is better)",
        width=79,
        initial_indent=f"  {metric.name:<12} ",
        subsequent_indent=" " * 15,
    )
    for metric in METRICS
)


@dataclass(frozen=True)
class Request:
    """What to measure: the options of the command, but for those that commands share."""

    data: str
    metrics: tuple[str, ...]
    count: int | None
    res: int | None
    seed: int
    first_seed: int
    inception_weights: Path | None
    embedding: str | None
    embedding_input: str | None
    neighbours: Path | None
    k: int
    cache: Path | None
    no_cache: bool
    raw: bool
    background: Colour

    def checked(self) -> Request:
        """The request with the metric that --neighbours needs. Raises `UsageError` before hours of work, not after."""
        if self.cache is not None and self.no_cache:
            raise UsageError("--cache and --no-cache exclude each other")
        # before a large archive is opened, which can take minutes
        if self.embedding is None and (names := [name for name in self.metrics if METRICS[name].needs == "embedding"]):
            raise UsageError(f"{', '.join(names)}: give the network with --embedding FILE, or --embedding {READY}")
        if self.neighbours is not None:
            _check_picture(self.neighbours)
        if self.cache is not None:
            _check_cache(self.cache)
        if self.neighbours is None or {"neighbours", "eneighbours"} & set(self.metrics):
            return self
        return replace(self, metrics=(*self.metrics, "eneighbours" if self.embedding else "neighbours"))


@cloup.command("evaluate", epilog=METRICS_TABLE)
@model_options
@cloup.option_group(
    "Pictures",
    cloup.option(
        "--data", required=True, type=click.Path(),
        help="Real pictures to compare with: a data store, or anything that prepare-data reads.",
    ),
    cloup.option(
        "--n", "--count", "count", type=click.IntRange(2, 1_000_000), metavar="N",
        show_default="as published, by metric", help="Number of generated pictures.",
    ),
    cloup.option(
        "--first-seed", type=click.IntRange(0, 2**31), default=0, metavar="SEED", help="Seed of the first picture."
    ),
    cloup.option(
        "--res", type=click.IntRange(4, 4096), metavar="R", show_default="their own",
        help="Resolution to which the pictures of a folder are read.",
    ),
    background_option,
    raw_option,
)  # fmt: skip
@cloup.option_group(
    "Metrics",
    cloup.option("--metrics", type=METRIC_NAMES, default="swd,msssim,neighbours", help="Metrics, listed below."),
    cloup.option(
        "--seed", type=click.IntRange(0, 2**31), default=0, metavar="SEED",
        help="Seed of random patches, directions and subsets.",
    ),
    cloup.option(
        "--inception-weights", type=click.Path(path_type=Path), metavar="FILE", show_default="downloaded",
        help="torch-fidelity's file of Inception weights, for fid, kid, is and pr.",
    ),
    cloup.option(
        "--embedding", metavar="FILE", show_default="none",
        help="The network of fd, kd, epr and eneighbours: an ONNX file, or efficientnet-lite0.",
    ),
    cloup.option(
        "--embedding-input", type=click.Choice(INPUTS), show_default="the file's",
        help="Range of the pixels that the ONNX file takes.",
    ),
    cloup.option(
        "--cache", type=click.Path(path_type=Path), metavar="FOLDER", show_default="DATA.metrics",
        help="Where to keep the statistics of the real pictures.",
    ),
    cloup.option("--no-cache", is_flag=True, help="Keep no statistics."),
)  # fmt: skip
@cloup.option_group(
    "Nearest neighbours",
    cloup.option(
        "--neighbours", type=click.Path(path_type=Path), metavar="FILE", show_default="none",
        help="PNG to write: generated pictures beside the real ones that are nearest to them.",
    ),
    cloup.option(
        "--k", type=click.IntRange(1, 16), default=4, metavar="K", help="Real pictures beside each generated one."
    ),
)  # fmt: skip
@output_options
def command(model: ModelChoice, output: Output, **options: Any) -> None:
    """Measure how good and how varied generated pictures are.

    MODEL is a model file, a run directory or a shipped model's name (none: portraits). It may also be a folder of
    pictures, or anything else that prepare-data reads.

    Statistics of the real pictures are computed once and kept beside them. Several processes (torchrun -m pggan
    evaluate ...) share the work.
    """
    request = Request(**options).checked()
    from pggan.utils.devices import pick_device
    from pggan.utils.distributed import local_device, process_group

    device = pick_device(local_device(model.device))
    with process_group(device) as world:
        start = time.perf_counter()
        fakes, reals = _image_sets(model, request, device)
        shown = output if world.is_main_process else replace(output, quiet=True)
        comparison = _compare(request, fakes, reals, device, world, shown)
        if not world.is_main_process:
            return
        if request.neighbours is not None:
            from pggan.metrics.neighbour_grid import write_neighbour_grid

            write_neighbour_grid(request.neighbours, comparison, fakes, reals, request.k)
        seconds = time.perf_counter() - start
        values = _values(comparison, fakes, reals, request.neighbours, world, seconds)
        behind = values["background"]
        note = [f"pictures with transparency lie over {behind}"] if behind else []
        output.result(values, *note, *_lines(comparison, request.neighbours))


def _check_picture(path: Path) -> None:
    if path.is_dir() or path.suffix.lower() != ".png":
        raise UsageError(f"--neighbours {path}: give the name of a PNG file, as {path.with_suffix('.png')}")


def _check_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--cache {folder}: {error.strerror}; give another folder, or --no-cache") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--cache {folder} cannot be written; give another folder, or --no-cache")


# Endings of models; those of other programs, which have to be imported first, are told from pictures by them.
_MODEL_ENDINGS = (".safetensors", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin")


def _is_model(name: str | None) -> bool:
    """Whether MODEL names a model, not pictures; where it names nothing that exists, whether it looks like one."""
    from pggan.utils.paths import MODELS, shipped

    if name is None:
        return True
    path = Path(name)
    if path.suffix.lower() in _MODEL_ENDINGS or (path / MODELS).is_dir():
        return True
    return not path.exists() and (name in shipped() or not any(mark in name for mark in ":{*"))


def _image_sets(choice: ModelChoice, request: Request, device: torch.device) -> tuple[ImageSet, ImageSet]:
    """Generated and real pictures of one size."""
    from pggan.metrics.image_sets import GeneratedImages, opaque, open_images

    fakes: ImageSet
    if choice.best or choice.name is None or _is_model(choice.name):
        model = replace(choice, device=str(device)).load(raw=request.raw)
        side = model.resolution
        if request.res is not None and request.res != side:
            raise UsageError(f"--res {request.res}: {model.name} makes pictures of {side}x{side}")
        name = f"{model.name} (raw)" if request.raw else model.name
        fakes = GeneratedImages(model.seed_images, side, model.channels, request.first_seed, name)
    elif request.raw:
        raise UsageError(f"--raw is about the generator of a model, and {choice.name} holds pictures; leave it out")
    else:
        fakes = open_images(choice.name, request.res)
    reals = open_images(request.data, fakes.resolution)
    return opaque(fakes, request.background), opaque(reals, request.background)


def _compare(
    request: Request, fakes: ImageSet, reals: ImageSet, device: torch.device, world: World, output: Output
) -> Comparison:
    from pggan.metrics.embeddings import embeddings_for
    from pggan.metrics.evaluate import compare

    embeddings = embeddings_for(
        request.metrics, request.inception_weights, request.embedding, device, request.embedding_input
    )
    return compare(
        fakes, reals, request.metrics, count=request.count, seed=request.seed, device=device, embeddings=embeddings,
        cache=_cache(request, reals), world=world, stage=output.progress,
    )  # fmt: skip


def _cache(request: Request, reals: ImageSet) -> Cache:
    from pggan.metrics.cache import Cache

    if request.no_cache:
        return Cache(None)
    return Cache(request.cache) if request.cache is not None else Cache.beside(reals.place)


def _values(
    comparison: Comparison, fakes: ImageSet, reals: ImageSet, grid: Path | None, world: World, seconds: float
) -> dict[str, Any]:
    """The result for --json."""
    return {
        "pictures": fakes.name,
        "data": reals.name,
        "resolution": reals.resolution,
        "background": _background(fakes, reals),
        # JSON has neither NaN nor infinity
        "metrics": {key: value if math.isfinite(value) else None for key, value in comparison.figures.items()},
        "generated": {job.name: job.count for job in comparison.jobs},
        "real": {job.name: len(set(job.reals)) for job in comparison.jobs},
        "cached": comparison.reals.cached,
        "neighbours": str(grid) if grid is not None else None,
        "processes": world.size,
        "seconds": round(seconds, 3),
    }


def _background(*images: ImageSet) -> str | None:
    """Returns the colour behind pictures with transparency, as #rrggbb; None where all are opaque."""
    colours = [colour for one in images if (colour := getattr(one, "background", None))]
    return "#" + bytes(colours[0]).hex() if colours else None


def _lines(comparison: Comparison, grid: Path | None) -> list[str]:
    """The result as text: each metric with its figures below it."""
    lines = []
    for job in comparison.jobs:
        metric = METRICS[job.name]
        against = f" against {len(set(job.reals)):,} real ones" if job.reals else ""
        lines.append(f"{metric.summary} ({job.count:,} pictures{against}; {metric.better} is better)")
        for key, value in comparison.figures.items():
            if _belongs(key, job.name, metric.figure) and not key.endswith("_std"):
                error = comparison.figures.get(f"{key}_std")
                lines.append(f"  {key}: {value:.4g}" + (f" +- {error:.2g}" if error is not None else ""))
    return [*lines, f"nearest real pictures: {grid}"] if grid is not None else lines


def _belongs(key: str, name: str, figure: str) -> bool:
    """Whether a figure is of this metric."""
    own = {"pr": ("precision", "recall"), "neighbours": ("nearest_ratio", "copied", "duplicates", "duplicate_pairs")}
    own |= {f"e{metric}": tuple(f"embedding_{key}" for key in keys) for metric, keys in own.items()}
    return key in own[name] if name in own else key == figure or key.startswith(f"{name}_")
