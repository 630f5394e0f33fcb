"""`pggan evaluate`: measures how good and how varied the pictures of a model or of a folder are."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.options import (
    METRIC_NAMES,
    FilePath,
    ModelChoice,
    Output,
    background_option,
    model_options,
    output_options,
    raw_option,
)
from pggan.cli.progress_bar import staged_progress
from pggan.config.metrics import METRICS, NEAREST

if TYPE_CHECKING:
    from pggan.model_evaluation import Evaluation

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


@cloup.command("evaluate", epilog=METRICS_TABLE)
@model_options
@cloup.option_group(
    "Pictures",
    cloup.option(
        "--data", required=True, type=FilePath(),
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
        "--inception-weights", type=FilePath(path_type=Path), metavar="FILE", show_default="downloaded",
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
        "--cache", type=FilePath(path_type=Path), metavar="FOLDER", show_default="DATA.metrics",
        help="Where to keep the statistics of the real pictures.",
    ),
    cloup.option("--no-cache", is_flag=True, help="Keep no statistics."),
)  # fmt: skip
@cloup.option_group(
    "Nearest neighbours",
    cloup.option(
        "--neighbours", type=FilePath(path_type=Path), metavar="FILE", show_default="none",
        help="PNG to write: generated pictures beside the real ones that are nearest to them.",
    ),
    cloup.option(
        "--k", type=click.IntRange(1, 16), metavar="K", show_default=f"{NEAREST}",
        help="Real pictures beside each generated one.",
    ),
)  # fmt: skip
@output_options
def command(model: ModelChoice, output: Output, **options: Any) -> None:
    """Measure how good and how varied generated pictures are.

    MODEL is a model file, a run directory, hf://user/name or a shipped model's name (none: portraits).
    It may also be a folder of pictures, or anything else that prepare-data reads.

    Statistics of the real pictures are computed once and kept beside them. Several processes (torchrun -m pggan
    evaluate ...) share the work.
    """
    from pggan.api import evaluate

    with staged_progress(output.silent) as on_progress:
        evaluation = evaluate(model.name, best=model.best, device=model.device, on_progress=on_progress, **options)
    # of several processes, the main one has the figures
    if evaluation.figures:
        behind = evaluation.background
        note = [f"pictures with transparency lie over {behind}"] if behind else []
        output.result(evaluation.to_json(), *note, *_lines(evaluation))


def _lines(evaluation: Evaluation) -> list[str]:
    """The result as text: each metric with its figures below it."""
    lines = []
    for name, count in evaluation.generated.items():
        metric = METRICS[name]
        against = f" against {evaluation.real[name]:,} real ones" if evaluation.real[name] else ""
        lines.append(f"{metric.summary} ({count:,} pictures{against}; {metric.better} is better)")
        for key, value in evaluation.figures.items():
            if _belongs(key, name, metric.figure) and not key.endswith("_std"):
                error = evaluation.figures.get(f"{key}_std")
                lines.append(f"  {key}: {value:.4g}" + (f" +- {error:.2g}" if error is not None else ""))
    grid = evaluation.neighbours
    return [*lines, f"nearest real pictures: {grid}"] if grid is not None else lines


def _belongs(key: str, name: str, figure: str) -> bool:
    """Whether a figure is of this metric."""
    own = {"pr": ("precision", "recall"), "neighbours": ("nearest_ratio", "copied", "duplicates", "duplicate_pairs")}
    own |= {f"e{metric}": tuple(f"embedding_{key}" for key in keys) for metric, keys in own.items()}
    return key in own[name] if name in own else key == figure or key.startswith(f"{name}_")
