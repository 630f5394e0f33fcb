"""`pggan interpolate`: a video from face to face."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pggan.cli.options import GridSize, SeedRange, as_json, best, device, quiet
from pggan.generation.seeds import Seeds
from pggan.generation.video_formats import check_fps, video_format
from pggan.utils.errors import UsageError

MOST_SEEDS = 10_000


@click.command("interpolate")
@click.argument("model", required=False, type=click.Path())
@click.option(
    "--out",
    default="walk.mp4",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Video; its ending chooses .mp4 (H.264), .gif or .webp.",
)
@click.option("--seconds", type=click.FloatRange(0.05, 86400), default=8.0, show_default=True, help="Length.")
@click.option("--fps", type=click.FloatRange(1, 120), default=30.0, show_default=True, help="Frames a second.")
@click.option("--grid", type=GridSize(), default="1x1", show_default=True, help="Several walks side by side, as 3x2.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the random walk.")
@click.option("--seeds", type=SeedRange(), help="Walk from picture to picture of these seeds instead: 1,5,9.")
@click.option("--loop/--no-loop", default=True, show_default=True, help="With --seeds: back to the first one.")
@click.option(
    "--method",
    type=click.Choice(["slerp", "linear"]),
    default="slerp",
    show_default=True,
    help="With --seeds: latents are normalised, so both take the same path; slerp at an even speed.",
)
@click.option("--label", help="Class of a conditional model throughout.  [default: each seed's or cell's own, blended]")
@click.option("--scale", type=click.IntRange(1, 64), help="Enlarge by this factor.  [default: to 256 pixels a side]")
@best
@device
@as_json
@quiet
def command(
    model: str | None,
    out: Path,
    seconds: float,
    fps: float,
    grid: tuple[int, int],
    seed: int,
    seeds: Seeds | None,
    loop: bool,
    method: str,
    label: str | None,
    scale: int | None,
    best: bool,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make a video of MODEL's faces turning into each other: a smooth random loop, or a walk between --seeds.

    MODEL is a file, a run directory or a shipped model's name (none: the shipped one). Frames go to the encoder as they
    are made, so that memory does not grow with the length.
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
    if not seconds * fps >= 2:  # nor NaN, which is in no range
        raise UsageError(f"--seconds {seconds:g} at --fps {fps:g} is less than two frames; give more of either")

    from pggan.cli.progress_bar import progress
    from pggan.utils.paths import find_model

    path = find_model(model, best)
    from pggan.generation.model import load
    from pggan.generation.video import VideoOptions, interpolate

    walk = VideoOptions(seconds, fps, grid, seed, tuple(seeds or ()), loop, method, label, scale)
    with progress("interpolating", walk.frames, unit="frames", quiet=quiet or as_json) as advance:
        made = interpolate(load(path, device), out, walk, advance)
    if as_json:
        click.echo(json.dumps({"model": str(path), **made}))
    else:
        click.echo(
            f"{made['file']}: {made['frames']} frames of {made['width']}x{made['height']}, {made['seconds']:g} s"
        )
