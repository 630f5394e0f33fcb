"""`pggan generate`: pictures of seeds as PNG files, and a grid of them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.options import (
    CODE_VALUE,
    GRID_SIZE,
    SEEDS,
    ModelChoice,
    Output,
    label_option,
    model_options,
    output_options,
    raw_option,
    truncation_option,
)
from pggan.generation.seeds import MAX_SEED, Seeds
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.generation.model import Model

DEFAULT_COUNT = 64


@dataclass(frozen=True)
class Request:
    """What to make: the options of the command, but for the seeds and those that commands share."""

    out: Path
    label: str | None
    codes: tuple[tuple[int, float], ...]
    grid: tuple[int, int] | None
    no_grid: bool
    only_grid: bool
    layout: str
    batch: int | None
    mode: str
    truncation: float
    raw: bool

    def check(self) -> None:
        """Raises `UsageError` for options that exclude each other."""
        if self.no_grid and (self.grid is not None or self.only_grid):
            raise UsageError("--no-grid excludes --grid and --only-grid")
        if len(dict(self.codes)) < len(self.codes):
            raise UsageError("--code gives the same code twice; give one value")
        if self.layout == "flat":
            if os.environ.get("WORLD_SIZE", "1") != "1":
                raise UsageError("several processes (WORLD_SIZE) share --layout folders or tar; give one of them")
        elif self.grid is not None or self.only_grid:
            raise UsageError(f"--layout {self.layout} makes no grid; leave --grid and --only-grid out")
        elif self.codes:
            raise UsageError(f"--layout {self.layout} keeps each seed's own codes; leave --code out")


@cloup.command("generate")
@model_options
@cloup.option_group(
    "Pictures",
    cloup.option(
        "--n", "--count", "count", type=click.IntRange(1, MAX_SEED), metavar="N", show_default=str(DEFAULT_COUNT),
        help="Number of pictures: seeds 0 to N - 1.",
    ),
    cloup.option("--seeds", type=SEEDS, show_default="0 to N - 1", help="These seeds instead: 7 or 0,5-9,12."),
    label_option,
    truncation_option,
    raw_option,
    cloup.option(
        "--code", "codes", multiple=True, type=CODE_VALUE, show_default="each seed's own",
        help="Set a structured code of an InfoGAN model, as 0=3. Repeat for further codes.",
    ),
)  # fmt: skip
@cloup.option_group(
    "Files",
    cloup.option("--out", default="generated", type=click.Path(path_type=Path), help="Folder to write to."),
    cloup.option(
        "--layout", type=click.Choice(["flat", "folders", "tar"]), default="flat",
        help="flat: all pictures in one folder. folders, tar: shards of 1000 pictures, for very many of them. The "
        "same command resumes; several processes (torchrun -m pggan generate ...) share the work.",
    ),
    cloup.option(
        "--grid", type=GRID_SIZE, show_default="all pictures, up to 10x10; none of one",
        help="Columns x rows of grid.png.",
    ),
    cloup.option("--no-grid", is_flag=True, help="Do not write grid.png."),
    cloup.option("--only-grid", is_flag=True, help="Write grid.png alone."),
)  # fmt: skip
@cloup.option_group(
    "Speed",
    cloup.option(
        "--batch", type=click.IntRange(1, 65536), metavar="N", show_default="what fits the memory",
        help="Pictures computed at a time.",
    ),
    cloup.option(
        "--mode", type=click.Choice(["auto", "eager", "compiled"]), default="auto",
        help="auto: compile the generator where the number of pictures repays the time that compiling takes.",
    ),
)  # fmt: skip
@output_options
def command(model: ModelChoice, output: Output, count: int | None, seeds: Seeds | None, **options: Any) -> None:
    """Make new pictures with a model.

    MODEL is a file, a run directory or a shipped model's name (none: faces).

    A seed is a picture: its latent is numpy.random.RandomState(seed).randn(latent_size), whatever the batch and the
    other seeds. Each PNG's metadata (entry pggan, JSON) says seed and model. Files of the same names are replaced.
    """
    request = Request(**options)
    request.check()
    chosen = _seeds(count, seeds, request)
    write = _write_folder if request.layout == "flat" else _write_shards
    write(model, chosen, request, output)


def _seeds(count: int | None, seeds: Seeds | None, request: Request) -> Seeds:
    if count is not None and seeds is not None:
        raise UsageError("--n and --seeds exclude each other: give one of them")
    if seeds is None:
        if count is None and request.only_grid and request.grid is not None:
            count = request.grid[0] * request.grid[1]
        return Seeds([range(count or DEFAULT_COUNT)])
    if (repeated := seeds.repeated()) is not None:
        raise UsageError(f"--seeds: {repeated} is there twice; a seed is one picture")
    return seeds


def _write_folder(choice: ModelChoice, seeds: Seeds, request: Request, output: Output) -> None:
    """--layout flat: every picture in one folder, with a grid."""
    model = choice.load(mode=request.mode, note=output.note, truncation=request.truncation, raw=request.raw)
    from pggan.generation.grid import grid_shape
    from pggan.generation.images import write_images

    grid = None if request.no_grid else request.grid or grid_shape(len(seeds))
    if len(seeds) == 1 and request.grid is None and not request.only_grid:
        grid = None
    start = time.perf_counter()
    with output.progress("generating", len(seeds)) as advance:
        written = write_images(
            model, seeds, request.out, label=request.label, codes=dict(request.codes), grid=grid,
            images=not request.only_grid, batch=request.batch, advance=advance,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    rate = len(written.seeds) / max(seconds, 1e-9)
    values = {
        "model": str(model.path),
        "resolution": model.resolution,
        "folder": str(request.out),
        "seeds": str(written.seeds),
        "pictures": len(written.seeds) if written.images else 0,
        "files": list(written.names()) if output.as_json else [],
        "grid": str(written.grid) if written.grid else None,
        "seconds": round(seconds, 3),
        "img_per_second": round(rate, 2),
        "mode": model.runner.describe(),
    }
    size, lines = f"{model.resolution}x{model.resolution}", []
    if written.images:
        lines.append(f"{len(written.seeds)} pictures of {size} in {request.out} ({rate:.1f} img/s)")
    if written.grid:
        lines.append(f"grid: {written.grid}")
    output.result(values, *lines, *_mode_line(model, request, output))


def _write_shards(choice: ModelChoice, seeds: Seeds, request: Request, output: Output) -> None:
    """--layout folders or tar: this process's share of the shards."""
    start = time.perf_counter()
    from pggan.generation.shards import write_shards
    from pggan.utils.distributed import world_from_environment

    world = world_from_environment()
    shown = output if world.is_main_process else replace(output, quiet=True)
    model = choice.load(mode=request.mode, note=shown.note, truncation=request.truncation, raw=request.raw)
    with shown.progress("generating", len(seeds) // world.size) as advance:
        written = write_shards(model, seeds, request.out, request.layout, request.label, request.batch, world, advance)
    if not world.is_main_process:
        return
    values = {
        "model": str(model.path),
        "folder": str(request.out),
        "layout": request.layout,
        "pictures": written.images,
        "shards": written.shards,
        "made": written.written,
        "seconds": round(time.perf_counter() - start, 3),
        "mode": model.runner.describe(),
    }
    others = f" ({written.written} made by the first of {world.size} processes)" if world.size > 1 else ""
    line = f"{written.images} pictures in {written.shards} shards in {request.out}{others}"
    output.result(values, line, *_mode_line(model, request, output))


def _mode_line(model: Model, request: Request, output: Output) -> list[str]:
    """How the pictures were computed, where the user asked for a mode or `auto` compiled."""
    shown = not output.quiet and (request.mode != "auto" or model.runner.shape is not None)
    return [f"mode: {model.runner.describe()}"] if shown else []
