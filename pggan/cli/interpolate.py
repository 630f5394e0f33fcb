"""`pggan interpolate`: a video of faces that turn into each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.latent_options import LatentChoice, latent_options, task_of
from pggan.cli.options import (
    GRID_SIZE,
    SEEDS,
    FilePath,
    ModelChoice,
    NumberRange,
    Output,
    background_option,
    fps_option,
    label_option,
    model_options,
    no_mark_option,
    output_options,
    scale_option,
    seconds_option,
    truncation_option,
)
from pggan.generation.seeds import Seeds
from pggan.generation.video_formats import check_fps, video_format
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.config.content.channels import Colour
    from pggan.editing.keyframes import Keyframes
    from pggan.generation.model import Model

MOST_SEEDS = 10_000
DEFAULT_SECONDS = 8.0


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
    cloup.option(
        "--keyframes", type=FilePath(path_type=Path), metavar="FILE", show_default="a random walk",
        help="Walk along the keyframes of a JSON file, with their seconds and easing.",
    ),
    cloup.option(
        "--loop/--no-loop", default=True, help="With --seeds and --latents: return to the first one at the end."
    ),
    cloup.option(
        "--method", type=click.Choice(["slerp", "linear", "spline"]), default="slerp",
        help="With --seeds and --latents: how latents are interpolated. slerp and linear take the same path, since "
        "latents are normalised; slerp takes it at an even speed. spline (--latents) turns smoothly at each of them.",
    ),
    label_option,
    truncation_option,
)  # fmt: skip
@latent_options
@cloup.option_group(
    "Video",
    cloup.option(
        "--out", default="walk.mp4", type=FilePath(path_type=Path),
        help="File to write; its ending chooses the format: .mp4 (H.264), .gif or .webp.",
    ),
    seconds_option(
        type=NumberRange(0.05, 86400), show_default=f"{DEFAULT_SECONDS:g}; of keyframes, their own"
    ),
    fps_option(default=30.0),
    cloup.option("--grid", type=GRID_SIZE, default="1x1", help="Columns x rows of walks side by side, as 3x2."),
    scale_option,
    background_option,
    no_mark_option,
)  # fmt: skip
@output_options
def command(
    model: ModelChoice, output: Output, out: Path, seconds: float | None, fps: float, grid: tuple[int, int], seed: int,
    seeds: Seeds | None, keyframes: Path | None, loop: bool, method: str, label: str | None, truncation: float,
    scale: int | None, saved: LatentChoice, background: Colour,
) -> None:  # fmt: skip
    """Make a video of faces that turn into each other.

    MODEL is a file, a run directory, hf://user/name or a shipped model's name (none: portraits).
    The video is a smooth random loop, or a walk between --seeds, --latents or --keyframes. Its frames go to the encoder
    one by one, so that memory does not grow with length.
    """
    check_fps(video_format(out), fps)
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory; give a file name, as {out / 'walk.mp4'}")
    _check_sources(seeds, seed, saved, keyframes, loop, method)
    if saved.files or keyframes is not None:
        if grid != (1, 1) or label is not None:
            raise UsageError("kept latents have their own labels, and are one walk; leave --grid and --label out")
        loaded = saved.load(model, truncation=truncation)
        video = _write_keyframes(loaded, saved, keyframes, seconds, loop, method, out, fps, scale, background, output)
    else:
        length = DEFAULT_SECONDS if seconds is None else seconds
        if not length * fps >= 2:  # "not >=" refuses NaN, too, which passes every range
            raise UsageError(f"--seconds {length:g} at --fps {fps:g} is less than two frames; give more of either")
        loaded = saved.load(model, truncation=truncation)
        from pggan.generation.video import VideoOptions, interpolate

        options = VideoOptions(length, fps, grid, seed, tuple(seeds or ()), loop, method, label, scale, background)
        with output.progress("interpolating", options.frames, "frames") as advance:
            video = interpolate(loaded, out, options, advance)
    output.result(
        {"model": str(loaded.path), **video},
        f"{video['file']}: {video['frames']} frames of {video['width']}x{video['height']}, {video['seconds']:g} s",
    )


def _check_sources(
    seeds: Seeds | None, seed: int, saved: LatentChoice, keyframes: Path | None, loop: bool, method: str
) -> None:
    """Raises `UsageError` for options that exclude each other."""
    if sum((seeds is not None, bool(saved.files), keyframes is not None)) > 1:
        raise UsageError("--seeds, --latents and --keyframes exclude each other: give one of them")
    if seeds is not None and not 2 <= len(seeds) <= MOST_SEEDS:
        raise UsageError(f"--seeds: a walk between seeds needs 2 to {MOST_SEEDS} of them, as 3,8")
    if seeds is None and not saved.files and (not loop or method != "slerp"):
        what = "keyframes say their own" if keyframes is not None else "give those, or leave them out"
        raise UsageError(f"--no-loop and --method are about walks between --seeds or --latents; {what}")
    if method == ("linear" if saved.files else "spline"):
        raise UsageError("--method: seeds take slerp or linear, kept latents slerp or spline")
    if seed and (seeds is not None or saved.files or keyframes is not None):
        raise UsageError("--seed is about the random walk, and the pictures are named: give one of them")


def _write_keyframes(
    model: Model, saved: LatentChoice, file: Path | None, seconds: float | None, loop: bool, method: str, out: Path,
    fps: float, scale: int | None, background: Colour, output: Output,
) -> dict[str, Any]:  # fmt: skip
    from pggan.editing.keyframes import Keyframes, keyframe_video, read_keyframes
    from pggan.editing.latent_sources import read_all_latents

    keyframes: Keyframes
    if file is not None:
        if seconds is not None:
            raise UsageError("keyframes have their own seconds; leave --seconds out")
        keyframes = read_keyframes(file, model, saved.force)
    else:
        latents = read_all_latents(saved.files, model, saved.force)
        keyframes = Keyframes.evenly(latents, DEFAULT_SECONDS if seconds is None else seconds, loop, method)
    with output.progress("interpolating", keyframes.frames(fps), "frames") as advance:
        return keyframe_video(model, out, keyframes, fps, scale, background, task_of(advance))
