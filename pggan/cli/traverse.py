"""`pggan traverse`: a grid or a video of what each structured code of an InfoGAN model does."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from pggan.cli.options import (
    SEEDS,
    ModelChoice,
    Output,
    fps_option,
    model_options,
    numbers_type,
    output_options,
    scale_option,
    seconds_option,
)
from pggan.generation.seeds import Seeds
from pggan.generation.video_formats import check_fps, video_format
from pggan.networks.latents import MAX_CONTINUOUS
from pggan.utils.errors import UsageError

MOST_SEEDS = 64
DEFAULT_SECONDS, DEFAULT_FPS = 6.0, 30.0


@cloup.command("traverse")
@model_options
@cloup.option_group(
    "Codes",
    cloup.option("--codes", type=numbers_type(int), show_default="all", help="Which codes to show, by number, as 0,2."),
    cloup.option("--seeds", type=SEEDS, default="0", help="Seeds of the noise and of the other codes."),
    cloup.option(
        "--steps", type=click.IntRange(2, 100), default=10, metavar="N", help="Values of a continuous code in its row."
    ),
    cloup.option(
        "--range", "reach", type=click.FloatRange(0.01, MAX_CONTINUOUS), default=1.0, metavar="X",
        help="Continuous codes go from minus this to this. Training draws them from -1 to 1.",
    ),
)  # fmt: skip
@cloup.option_group(
    "Files",
    cloup.option(
        "--out", default="traverse.png", type=click.Path(path_type=Path),
        help="File to write: .png for a grid, or .mp4, .gif or .webp for a looping video.",
    ),
    seconds_option(type=click.FloatRange(0.1, 3600), show_default=f"{DEFAULT_SECONDS}"),
    fps_option(show_default=f"{DEFAULT_FPS}"),
    scale_option,
)  # fmt: skip
@output_options
def command(
    model: ModelChoice, output: Output, out: Path, codes: tuple[int, ...] | None, seeds: Seeds, steps: int,
    reach: float, seconds: float | None, fps: float | None, scale: int | None,
) -> None:  # fmt: skip
    """Show what each structured code of an InfoGAN model does.

    MODEL is a file, a run directory or a shipped model's name, trained with --categorical or --continuous. One code
    changes, everything else is held. In a grid, a row shows the values of one code from left to right, with a row for
    each of the seeds. In a video, a row is a code and a column is a seed, and every code passes through its values.
    """
    is_grid = out.suffix.lower() == ".png"
    if not is_grid:
        check_fps(video_format(out), fps or DEFAULT_FPS)
    elif seconds is not None or fps is not None or scale is not None:
        raise UsageError("--seconds, --fps and --scale are about videos; give --out with .mp4, .gif or .webp")
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory; give a file name, as {out / 'traverse.png'}")
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise UsageError(f"--seeds: 1 to {MOST_SEEDS} of them")
    loaded = model.load()
    from pggan.generation.traverse import TraverseOptions, traverse_grid, traverse_video

    options = TraverseOptions(codes or (), tuple(seeds), steps, reach)
    if is_grid:
        rows = len(options.codes_of(loaded.codes)) * len(options.seeds)
        with output.progress("traversing", rows, "rows") as advance:
            result = traverse_grid(loaded, out, options, advance)
        numbers = ", ".join(map(str, result["codes"]))
        line = f"{result['file']}: codes {numbers}, {result['columns']} values a row at most"
    else:
        seconds, fps = seconds or DEFAULT_SECONDS, fps or DEFAULT_FPS
        options.codes_of(loaded.codes)  # refuses a model without codes before the progress bar appears
        with output.progress("traversing", round(seconds * fps), "frames") as advance:
            result = traverse_video(loaded, out, options, seconds, fps, scale, advance)
        line = (
            f"{result['file']}: {result['frames']} frames of {result['width']}x{result['height']}, "
            f"{result['seconds']:g} s"
        )
    output.result({"model": str(loaded.path), **result}, line)
