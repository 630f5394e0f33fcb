"""`pggan traverse`: a grid or a video of what structured codes of an InfoGAN model or directions do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.latent_options import LatentChoice, Reach, latent_options, reach_options, task_of
from pggan.cli.options import (
    SEEDS,
    FilePath,
    ModelChoice,
    NumberRange,
    Output,
    background_option,
    fps_option,
    is_given,
    label_option,
    model_options,
    no_mark_option,
    numbers_type,
    output_options,
    scale_option,
    seconds_option,
)
from pggan.generation.seeds import Seeds
from pggan.generation.video_formats import check_fps, video_format
from pggan.networks.latents import MAX_CONTINUOUS, TRAVERSE_REACH, TRAVERSE_STEPS
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.config.content.channels import Colour
    from pggan.editing.latents_file import LatentSet
    from pggan.generation.model import Model

# seconds, frames per second, enlargement, background
VideoSettings = tuple[float, float, "int | None", "tuple[int, int, int]"]

MOST_SEEDS = 64
DEFAULT_SECONDS, DEFAULT_FPS = 6.0, 30.0


@cloup.command("traverse")
@model_options
@cloup.option_group(
    "Codes and labels",
    cloup.option("--codes", type=numbers_type(int), show_default="all", help="Which codes to show, by number, as 0,2."),
    cloup.option("--seeds", type=SEEDS, default="0", help="Seeds of the noise and of the other codes."),
    label_option,
    cloup.option(
        "--steps", type=click.IntRange(2, 100), show_default=f"{TRAVERSE_STEPS}", metavar="N",
        help="Values of a continuous code, a number or a direction in its row.",
    ),
    cloup.option(
        "--range", "code_range", type=NumberRange(0.01, MAX_CONTINUOUS), show_default=f"{TRAVERSE_REACH}", metavar="X",
        help="Continuous codes go from minus this to this. Training draws them from -1 to 1.",
    ),
)  # fmt: skip
@cloup.option_group(
    "Directions",
    cloup.option(
        "--directions", type=FilePath(path_type=Path), metavar="FILE", show_default="structured codes",
        help="Show directions of this file, which pggan directions wrote, instead of codes.",
    ),
    cloup.option(
        "--direction", "names", multiple=True, metavar="NAME", show_default="all",
        help="Which of them. Repeat for further directions.",
    ),
    reach_options,
)  # fmt: skip
@latent_options
@cloup.option_group(
    "Files",
    cloup.option(
        "--out", default="traverse.png", type=FilePath(path_type=Path),
        help="File to write: .png for a grid, or .mp4, .gif or .webp for a looping video.",
    ),
    seconds_option(type=NumberRange(0.1, 3600), show_default=f"{DEFAULT_SECONDS}"),
    fps_option(show_default=f"{DEFAULT_FPS}"),
    scale_option,
    background_option,
    no_mark_option,
)  # fmt: skip
@output_options
def command(
    model: ModelChoice, output: Output, out: Path, codes: tuple[int, ...] | None, seeds: Seeds, steps: int | None,
    code_range: float | None, seconds: float | None, fps: float | None, scale: int | None, directions: Path | None,
    names: tuple[str, ...], degrees: float | None, spreads: float | None, saved: LatentChoice, background: Colour,
    label: str | None,
) -> None:  # fmt: skip
    """Show what structured codes, labels or directions do.

    MODEL is a file, a run directory, hf://user/name or a shipped model's name. One code of a model trained with
    --categorical or --continuous changes, or a label of --label, or a direction of --directions; everything else is
    held. In a grid, a row shows the values from left to right, with a row for each of the seeds. In a video, a row is a
    code, label or direction and a column is a seed, and every one passes through its values.

    Labels of --label without a value change instead of codes: age passes from its lowest to its highest value, classes
    come one after the other. With a value they are held: --label age,hair=red.
    """
    _check_out(out, fps or DEFAULT_FPS)
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise UsageError(f"--seeds: 1 to {MOST_SEEDS} of them")
    if directions is None and (names or degrees is not None or spreads is not None or saved.files):
        raise UsageError("--direction, --degrees, --spreads, --latents are about directions; give --directions FILE")
    if saved.files and is_given("seeds"):
        raise UsageError("--latents and --seeds exclude each other: give one of them")
    if code_range is not None and (directions is not None or label is not None):
        raise UsageError("--range is about continuous codes; how far a direction goes is --degrees or --spreads")
    if sum((directions is not None, bool(codes), label is not None)) > 1:
        raise UsageError("--codes, --label and --directions exclude each other: give one of them")
    loaded = saved.load(model)
    video = (seconds or DEFAULT_SECONDS, fps or DEFAULT_FPS, scale, background)
    if directions is None:
        changing, held = _split_labels(label)
        choices = (codes or (), tuple(seeds), steps or TRAVERSE_STEPS, code_range or TRAVERSE_REACH, changing, held)
        result, line = _show_codes(loaded, out, choices, video, output)
    else:
        latents = _latents(loaded, saved, seeds)
        moves = (directions, names, Reach(degrees, spreads).amount(loaded), steps or TRAVERSE_STEPS)
        result, line = _show_directions(loaded, saved, out, moves, latents, video, output)
    output.result({"model": str(loaded.path), **result}, line)


def _check_out(out: Path, fps: float) -> None:
    """Raises `UsageError` where the file cannot be written, or options are about the other kind of file."""
    if out.suffix.lower() != ".png":
        check_fps(video_format(out), fps)
        if is_given("steps"):
            raise UsageError("--steps is about the rows of a grid; a video passes through its values without steps")
    elif any(is_given(name) for name in ("seconds", "fps", "scale", "background")):
        raise UsageError(
            "--seconds, --fps, --scale and --background are about videos; give --out as .mp4, .gif or .webp"
        )
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory; give a file name, as {out / 'traverse.png'}")


def _split_labels(text: str | None) -> tuple[tuple[str, ...], str | None]:
    """Returns the names of the labels that change, and those that are held, as other commands take `--label`."""
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    changing = tuple(part for part in parts if "=" not in part)
    if text is not None and not changing:
        raise UsageError("--label has to name a label that changes, without a value, as age or age,hair=red")
    return changing, ",".join(part for part in parts if "=" in part) or None


def _video_line(result: dict[str, Any]) -> str:
    return (
        f"{result['file']}: {result['frames']} frames of {result['width']}x{result['height']}, {result['seconds']:g} s"
    )


def _latents(model: Model, saved: LatentChoice, seeds: Seeds) -> LatentSet:
    from pggan.editing.latent_sources import read_all_latents
    from pggan.editing.latents_file import LatentSet

    latents = read_all_latents(saved.files, model, saved.force) if saved.files else LatentSet.of_seeds(model, seeds)
    if len(latents) > MOST_SEEDS:
        raise UsageError(f"--latents: {len(latents)} of them; {MOST_SEEDS} at most are shown")
    return latents


def _show_directions(
    model: Model, saved: LatentChoice, out: Path, moves: tuple[Path, tuple[str, ...], float, int], latents: LatentSet,
    video: VideoSettings, output: Output,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    from pggan.editing.direction_views import UNITS, direction_sheet, direction_video
    from pggan.editing.directions_file import read_directions

    file, names, amount, steps = moves
    directions = read_directions(file).check_model(model, saved.force)
    directions = directions.select(names) if names else directions
    if out.suffix.lower() == ".png":
        with output.progress("traversing", len(directions) * len(latents), "rows") as advance:
            result = direction_sheet(model, out, directions, latents, amount, steps, task_of(advance))
        moved = f"{amount:g} {UNITS[directions.space]} to either side"
        return result, f"{result['file']}: {', '.join(directions.names)}, {moved}"
    with output.progress("traversing", round(video[0] * video[1]), "frames") as advance:
        result = direction_video(model, out, directions, latents, amount, *video, task_of(advance))
    return result, _video_line(result)


def _show_codes(
    loaded: Model, out: Path, choices: tuple[Any, ...], video: VideoSettings, output: Output
) -> tuple[dict[str, Any], str]:
    from pggan.generation.traverse import TraverseOptions, traverse_grid, traverse_video

    options = TraverseOptions(*choices)
    tracks = options.tracks(loaded)  # refuses a model without codes
    if not any(track.is_number for track in tracks):
        for name, flag in (("steps", "--steps"), ("code_range", "--range")):
            if is_given(name):
                raise UsageError(f"{flag} is about continuous codes and numbers; what is shown has its own values")
    if out.suffix.lower() == ".png":
        rows = len(tracks) * len(options.seeds)
        with output.progress("traversing", rows, "rows") as advance:
            result = traverse_grid(loaded, out, options, advance)
        shown = (
            "labels " + ", ".join(options.labels) if options.labels else "codes " + ", ".join(map(str, result["codes"]))
        )
        return result, f"{result['file']}: {shown}, {result['columns']} values a row at most"
    with output.progress("traversing", round(video[0] * video[1]), "frames") as advance:
        result = traverse_video(loaded, out, options, *video, advance)
    return result, _video_line(result)
