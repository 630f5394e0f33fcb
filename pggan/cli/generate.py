"""`pggan generate`: pictures of seeds, and a grid of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click

from pggan.cli.options import CodeValue, GridSize, SeedRange, as_json, best, device, quiet
from pggan.generation.seeds import MAX_SEED, Seeds
from pggan.utils.errors import UsageError


@click.command("generate")
@click.argument("model", required=False, type=click.Path())
@click.option("--n", "--count", "count", type=click.IntRange(1, MAX_SEED), help="Seeds 0 to N - 1.  [default: 64]")
@click.option("--seeds", type=SeedRange(), help="Which seeds instead: 7 or 0,5-9,12.")
@click.option("--out", default="generated", show_default=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--label", help="Class of a conditional model, by name or number.  [default: each seed's own]")
@click.option(
    "--code",
    "codes",
    multiple=True,
    type=CodeValue(),
    help="Set a structured code of an InfoGAN model, as 0=3; again for others.  [default: each seed's own]",
)
@click.option("--grid", type=GridSize(), help="Shape of grid.png.  [default: all pictures, up to 10x10]")
@click.option("--no-grid", is_flag=True, help="No grid.png.")
@click.option("--only-grid", is_flag=True, help="Nothing but grid.png.")
@click.option(
    "--layout",
    type=click.Choice(["flat", "folders", "tar"]),
    default="flat",
    show_default=True,
    help="folders, tar: a thousand pictures in each, for very many of them. Run again, it goes on; several processes "
    "(torchrun -m pggan generate ...) share the work.",
)
@click.option("--batch", type=click.IntRange(1, 65536), help="Pictures at a time.  [default: what fits the memory]")
@click.option(
    "--mode",
    type=click.Choice(["auto", "eager", "compiled"]),
    default="auto",
    show_default=True,
    help="auto: compiled where so many pictures are to be made that it pays.",
)
@best
@device
@as_json
@quiet
def command(
    model: str | None,
    count: int | None,
    seeds: Seeds | None,
    out: Path,
    label: str | None,
    codes: tuple[tuple[int, float], ...],
    grid: tuple[int, int] | None,
    no_grid: bool,
    only_grid: bool,
    layout: str,
    batch: int | None,
    mode: str,
    best: bool,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make new pictures with MODEL: a file, a run directory or a shipped model's name (none: the shipped one).

    A seed is a picture: its latent is numpy.random.RandomState(seed).randn(latent_size), whatever the batch and the
    other seeds. Each PNG's metadata (entry pggan, JSON) says seed and model. Files of the same names are replaced.
    """
    if count is not None and seeds is not None:
        raise UsageError("--n and --seeds exclude each other: give one of them")
    if no_grid and (grid is not None or only_grid):
        raise UsageError("--no-grid excludes --grid and --only-grid")
    if layout != "flat" and (grid is not None or only_grid):
        raise UsageError(f"--layout {layout} makes no grid; leave --grid and --only-grid out")
    if layout != "flat" and codes:
        raise UsageError(f"--layout {layout} keeps each seed's own codes; leave --code out")
    if len(dict(codes)) < len(codes):
        raise UsageError("--code: the same code is there twice; it has one value")
    if layout == "flat" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("several processes share --layout folders or tar; give one of them")
    if only_grid and grid is not None and seeds is None and count is None:
        count = grid[0] * grid[1]
    wanted = seeds if seeds is not None else Seeds([range(count or 64)])
    if wanted.repeated() is not None:
        raise UsageError(f"--seeds: {wanted.repeated()} is there twice; a seed is one picture")

    from pggan.cli.progress_bar import progress
    from pggan.utils.paths import find_model

    path = find_model(model, best)
    from pggan.generation.grid import grid_shape
    from pggan.generation.images import write_images
    from pggan.generation.model import load

    if layout != "flat":
        _shards(path, wanted, out, layout, label, batch, mode, device, as_json, quiet)
        return
    loaded = load(path, device, mode=mode, note=_notes(quiet or as_json))
    shape = None if no_grid else grid or grid_shape(len(wanted))
    if len(wanted) == 1 and grid is None and not only_grid:
        shape = None
    start = time.perf_counter()
    with progress("generating", len(wanted), quiet=quiet or as_json) as advance:
        written = write_images(
            loaded,
            wanted,
            out,
            label=label,
            codes=dict(codes),
            grid=shape,
            images=not only_grid,
            batch=batch,
            advance=advance,
        )
    seconds = time.perf_counter() - start
    rate = len(written.seeds) / max(seconds, 1e-9)
    if as_json:
        about = {
            "model": str(path),
            "resolution": loaded.resolution,
            "folder": str(out),
            "seeds": str(written.seeds),
            "pictures": len(written.seeds) if written.images else 0,
            "files": list(written.names()),
            "grid": str(written.grid) if written.grid else None,
            "seconds": round(seconds, 3),
            "img_per_second": round(rate, 2),
            "mode": loaded.runner.describe(),
        }
        click.echo(json.dumps(about))
        return
    side = loaded.resolution
    if written.images:
        click.echo(f"{len(written.seeds)} pictures of {side}x{side} in {out} ({rate:.1f} img/s)")
    if written.grid:
        click.echo(f"grid: {written.grid}")
    if not quiet and (mode != "auto" or loaded.runner.shape is not None):
        click.echo(f"mode: {loaded.runner.describe()}")


def _notes(quiet: bool) -> Callable[[str], None]:
    return lambda message: None if quiet else click.echo(message, err=True)


def _shards(
    path: Path,
    seeds: Seeds,
    out: Path,
    layout: str,
    label: str | None,
    batch: int | None,
    mode: str,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """This process's share of very many pictures."""
    from pggan.cli.progress_bar import progress
    from pggan.generation.model import load
    from pggan.generation.shards import write_shards
    from pggan.utils.distributed import asked_for, own_device

    world = asked_for()
    start = time.perf_counter()
    share = len(seeds) // world.size
    silent = quiet or as_json or not world.is_main_process
    model = load(path, own_device(device), mode=mode, note=_notes(silent))
    with progress("generating", share, quiet=silent) as advance:
        done = write_shards(model, seeds, out, layout, label, batch, world, advance)
    if not world.is_main_process:
        return
    seconds = round(time.perf_counter() - start, 3)
    if as_json:
        about = {"model": str(path), "folder": str(out), "layout": layout, "pictures": done.images}
        about |= {"shards": done.shards, "made": done.written, "seconds": seconds, "mode": model.runner.describe()}
        click.echo(json.dumps(about))
    else:
        others = f" ({done.written} made by the first of {world.size} processes)" if world.size > 1 else ""
        click.echo(f"{done.images} pictures in {done.shards} shards in {out}{others}")
        if not quiet and (mode != "auto" or model.runner.shape is not None):
            click.echo(f"mode: {model.runner.describe()}")
