"""`pggan ema`: builds a generator's average of any length after the training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.latent_options import check_ending, check_new
from pggan.cli.options import (
    FilePath,
    NumberRange,
    Output,
    device_option,
    is_given,
    numbers_type,
    output_options,
    overwrite_option,
)
from pggan.config.metrics import METRICS
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.networks.model_file import ModelFile
    from pggan.training.run.directory import RunDirectory
    from pggan.training.run.post_hoc import PostHoc

DEFAULT_COUNT = 1024
# Share by which a profile is off from which on it is hardly the one that was asked for.
FAR = 0.5
# Metrics without a network of somebody else's.
SEARCHED = [metric.name for metric in METRICS if not metric.needs]


@cloup.command("ema")
@cloup.argument("run", type=FilePath(path_type=Path))
@cloup.option_group(
    "Average",
    cloup.option(
        "--length", type=NumberRange(0.001, 0.28), metavar="X", show_default="none",
        help="Length of the average: standard deviation of its profile, as a share of the images since the "
        "resolution began.",
    ),
    cloup.option("--best", type=click.Choice(SEARCHED), show_default="none", help="Try lengths, take the best one."),
    cloup.option(
        "--snapshots", type=numbers_type(float), metavar="KIMG,...", show_default="none",
        help="Plain mean of these snapshots' models instead, which any run has.",
    ),
    cloup.option("--kimg", type=float, metavar="KIMG", show_default="the newest", help="Snapshot at which it ends."),
)  # fmt: skip
@cloup.option_group(
    "Search (--best)",
    cloup.option(
        "--lengths", type=numbers_type(float), metavar="X,...", show_default="nine from 0.01 to 0.25",
        help="Lengths to try.",
    ),
    cloup.option("--data", type=FilePath(), show_default="the run's", help="Data store to compare with."),
    cloup.option(
        "--n", "--count", "count", type=click.IntRange(4, 1_000_000), metavar="N", show_default=f"{DEFAULT_COUNT}",
        help="Generated pictures a length.",
    ),
    device_option,
)  # fmt: skip
@cloup.option_group(
    "Files",
    cloup.option(
        "--out",
        type=FilePath(path_type=Path),
        show_default="ema-... in the run's folder models",
        help="Model to write.",
    ),
    overwrite_option,
)
@output_options
def command(
    run: Path, length: float | None, best: str | None, snapshots: tuple[float, ...] | None, kimg: float | None,
    lengths: tuple[float, ...] | None, data: str | None, count: int | None, device: str, out: Path | None,
    overwrite: bool, output: Output,
) -> None:  # fmt: skip
    """Build a generator's average of any length after the training.

    RUN was trained with --power-averages: each of its snapshots keeps two averages, and a sum of those of one
    resolution is nearest to the one that you ask for (Karras et al. 2024). It is a model as any other, for generate,
    evaluate and the others.
    """
    if sum(each is not None for each in (length, best, snapshots)) != 1:
        raise UsageError("give one of --length X, --best METRIC or --snapshots KIMG,KIMG")
    if snapshots and kimg is not None:
        raise UsageError("--kimg is about --length and --best; --snapshots names its own")
    if best is None and (lengths or data or count is not None):
        raise UsageError("--lengths, --data and --n are about --best; leave them out")
    if best is None and is_given("device"):
        raise UsageError("--device is about --best; the other averages are summed on the CPU, leave it out")
    from pggan.networks.model_file import save_model
    from pggan.training.run.directory import RunDirectory
    from pggan.training.run.post_hoc import LENGTHS, average_snapshots, build_average, check_length, stored_averages

    directory = RunDirectory(run)
    if out is not None:
        _check_out(directory, out, overwrite)
    rows: list[dict[str, Any]] = []
    if snapshots:
        built = average_snapshots(directory, snapshots)
    elif length is not None:
        built = build_average(directory, length, kimg)
    else:
        tried, nimg = lengths or LENGTHS, stored_averages(directory, kimg)[-1].nimg
        for each in tried:
            check_length(each)
            _check_out(directory, out or directory.made_model(f"{each:g}", nimg), overwrite)
        built, rows = _search(directory, str(best), tried, data, count or DEFAULT_COUNT, device, kimg, output)
    about = built.model.info["post_hoc"]
    if out is None:
        name = "mean" if snapshots else f"{about['length']:g}"
        out = directory.made_model(name, round(built.model.info["kimg"] * 1000))
        _check_out(directory, out, overwrite)
    save_model(out, built.model)
    values = {"file": str(out), **about, **({"metric": best, "tried": rows} if rows else {})}
    output.result(values, *_lines(out, built, rows, best))


def _check_out(run: RunDirectory, out: Path, overwrite: bool) -> None:
    check_ending("--out", out, ".safetensors", "a model")
    check_new([out], overwrite, [*run.models(), run.best])


def _search(
    run: RunDirectory, metric: str, lengths: tuple[float, ...], data: str | None, count: int, device: str,
    kimg: float | None, output: Output,
) -> tuple[PostHoc, list[dict[str, Any]]]:  # fmt: skip
    from pggan.data.store.store import Store
    from pggan.generation.model import Model
    from pggan.metrics.evaluate import evaluate_model
    from pggan.training.run.post_hoc import search, stored_averages
    from pggan.utils.devices import pick_device

    level, where, spec = stored_averages(run, kimg)[-1].level, pick_device(device), METRICS[metric]
    if spec.side > 2**level:
        raise UsageError(f"--best {metric} takes pictures of {spec.side}x{spec.side} and larger, these are {2**level}")
    store = Store(data or str(run.read_options()[0].data))

    def score(model: ModelFile) -> float:
        generate = Model(model, where).seed_images  # RGBA premultiplied, as in the store
        value = evaluate_model(generate, store, 2**level, [metric], count, device=where)[spec.figure]
        if math.isnan(value):
            raise UsageError(f"--best {metric} has no value on these pictures, most of which are equal; take another")
        output.note(f"length {model.info['post_hoc']['length']:g}: {spec.figure} {value:.4g}")
        return value

    return search(run, lengths, score, spec.better, kimg)


def _lines(out: Path, built: PostHoc, rows: list[dict[str, Any]], metric: str | None) -> list[str]:
    """The result as text."""
    about = built.model.info["post_hoc"]
    if "snapshots" in about:
        return [f"{out}: mean of {built.files} snapshots"]
    lines = [f"{'length':>7} {metric:>10} {'off by':>8}"] if rows else []
    lines += [f"{row['length']:>7g} {row['score']:>10.4g} {row['error']:>8.1%}" for row in rows]
    over = about["images"] / 1000
    note = "; more snapshots would fit it better" if built.error > 0.1 else ""
    if built.error > FAR:
        note = ": far from what you asked for; train with more snapshots, or ask for a greater length"
    return [
        *lines,
        f"{out}: length {about['length']:g} over {over:g} kimg, of {built.files} stored averages; its profile is off "
        f"by {built.error:.1%}{note}",
    ]
