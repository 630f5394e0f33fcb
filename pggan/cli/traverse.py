"""`pggan traverse`: what each structured code of an InfoGAN model does."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pggan.cli.options import Numbers, SeedRange, as_json, best, device, quiet
from pggan.generation.seeds import Seeds
from pggan.generation.video_formats import check_fps, video_format
from pggan.networks.latents import FURTHEST
from pggan.utils.errors import UsageError

MOST_SEEDS = 64


@click.command("traverse")
@click.argument("model", required=False, type=click.Path())
@click.option(
    "--out",
    default="traverse.png",
    show_default=True,
    type=click.Path(path_type=Path),
    help="A .png: a grid, or .mp4, .gif, .webp: a looping video.",
)
@click.option("--codes", type=Numbers(int), help="Which codes, by number, as 0,2.  [default: all]")
@click.option("--seeds", type=SeedRange(), default="0", show_default=True, help="Whose noise and other codes.")
@click.option("--steps", type=click.IntRange(2, 100), default=10, show_default=True, help="Of a continuous code's row.")
@click.option(
    "--range",
    "reach",
    type=click.FloatRange(0.01, FURTHEST),
    default=1.0,
    show_default=True,
    help="Continuous codes go from minus this to this; training draws them from -1 to 1.",
)
@click.option("--seconds", type=click.FloatRange(0.1, 3600), help="Length of a video.  [default: 6]")
@click.option("--fps", type=click.FloatRange(1, 120), help="Frames a second of a video.  [default: 30]")
@click.option("--scale", type=click.IntRange(1, 64), help="Enlarge a video by this.  [default: to 256 pixels a side]")
@best
@device
@as_json
@quiet
def command(
    model: str | None,
    out: Path,
    codes: tuple[int, ...] | None,
    seeds: Seeds,
    steps: int,
    reach: float,
    seconds: float | None,
    fps: float | None,
    scale: int | None,
    best: bool,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what each structured code of MODEL does: one code a row, everything else held.

    MODEL is a file, a run directory or a shipped model's name, trained with --categorical or --continuous. In a grid a
    row shows a code's values from left to right, a row for each of the seeds; in a video a column is a seed, and
    every code passes through its values.
    """
    still = out.suffix.lower() == ".png"
    if not still:
        check_fps(video_format(out), fps or 30.0)
    elif seconds is not None or fps is not None or scale is not None:
        raise UsageError("--seconds, --fps and --scale are about videos; give --out with .mp4, .gif or .webp")
    if out.is_dir():
        raise UsageError(f"--out {out} is a directory; give a file name, as {out / 'traverse.png'}")
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise UsageError(f"--seeds: 1 to {MOST_SEEDS} of them")

    from pggan.cli.progress_bar import progress
    from pggan.utils.paths import find_model

    path = find_model(model, best)
    from pggan.generation.model import load
    from pggan.generation.traverse import TraverseOptions, traverse_grid, traverse_video

    loaded, what = load(path, device), TraverseOptions(codes or (), tuple(seeds), steps, reach)
    rows = len(what.codes_of(loaded.codes)) * len(what.seeds)
    length, rate = seconds or 6.0, fps or 30.0
    with progress(
        "traversing",
        rows if still else round(length * rate),
        unit="rows" if still else "frames",
        quiet=quiet or as_json,
    ) as advance:
        if still:
            made = traverse_grid(loaded, out, what, advance)
        else:
            made = traverse_video(loaded, out, what, length, rate, scale, advance)
    if as_json:
        click.echo(json.dumps({"model": str(path), **made}))
    elif still:
        click.echo(
            f"{made['file']}: codes {', '.join(map(str, made['codes']))}, {made['columns']} values a row at most"
        )
    else:
        click.echo(
            f"{made['file']}: {made['frames']} frames of {made['width']}x{made['height']}, {made['seconds']:g} s"
        )
