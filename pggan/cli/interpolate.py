"""`pggan interpolate`: a video of faces that turn into each other."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from pggan.cli.options import (
    GRID_SIZE,
    SEEDS,
    ModelChoice,
    Output,
    fps_option,
    label_option,
    model_options,
    output_options,
    scale_option,
    seconds_option,
    truncation_option,
)
from pggan.generation.seeds import Seeds
from pggan.generation.video_formats import check_fps, video_format
from pggan.utils.errors import UsageError

MOST_SEEDS = 10_000


@cloup.command("interpolate")
@model_options
@cloup.option_group(
    "Walk",
    cloup.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="SEED", help="Seed of the random walk."
    ),
    cloup.option(
        "--seeds", type=SEEDS, show_default="a random walk", help="Walk between these seeds instead: 1,5,9."
    ),
    cloup.option("--loop/--no-loop", default=True, help="With --seeds: return to the first one at the end."),
    cloup.option(
        "--method", type=click.Choice(["slerp", "linear"]), default="slerp",
        help="With --seeds: how latents are interpolated. Latents are normalised, so that both methods take the same "
        "path; slerp takes it at an even speed.",
    ),
    label_option,
    truncation_option,
)  # fmt: skip
@cloup.option_group(
    "Video",
    cloup.option(
        "--out", default="walk.mp4", type=click.Path(path_type=Path),
        help="File to write; its ending chooses the format: .mp4 (H.264), .gif or .webp.",
    ),
    seconds_option(type=click.FloatRange(0.05, 86400), default=8.0),
    fps_option(default=30.0),
    cloup.option("--grid", type=GRID_SIZE, default="1x1", help="Columns x rows of walks side by side, as 3x2."),
    scale_option,
)  # fmt: skip
@output_options
def command(
    model: ModelChoice, output: Output, out: Path, seconds: float, fps: float, grid: tuple[int, int], seed: int,
    seeds: Seeds | None, loop: bool, method: str, label: str | None, truncation: float, scale: int | None,
) -> None:  # fmt: skip
    """Make a video of faces that turn into each other.

    MODEL is a file, a run directory or a shipped model's name (none: faces). The video is a smooth random
    loop, or a walk between --seeds. Its frames go to the encoder one by one, so that memory does not grow with length.
    """
    check_fps(video_format(out), fps)
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory; give a file name, as {out / 'walk.mp4'}")
    if seeds is not None and not 2 <= len(seeds) <= MOST_SEEDS:
        raise UsageError(f"--seeds: a walk between seeds needs 2 to {MOST_SEEDS} of them, as 3,8")
    if seeds is None and (not loop or method != "slerp"):
        raise UsageError("--no-loop and --method are about walks between --seeds; give those, or leave them out")
    if seeds is not None and seed:
        raise UsageError("--seed is about the random walk and --seeds names the pictures: give one of them")
    if not seconds * fps >= 2:  # "not >=" refuses NaN, too, which passes every range
        raise UsageError(f"--seconds {seconds:g} at --fps {fps:g} is less than two frames; give more of either")
    loaded = model.load(truncation=truncation)
    from pggan.generation.video import VideoOptions, interpolate

    options = VideoOptions(seconds, fps, grid, seed, tuple(seeds or ()), loop, method, label, scale)
    with output.progress("interpolating", options.frames, "frames") as advance:
        video = interpolate(loaded, out, options, advance)
    output.result(
        {"model": str(loaded.path), **video},
        f"{video['file']}: {video['frames']} frames of {video['width']}x{video['height']}, {video['seconds']:g} s",
    )
