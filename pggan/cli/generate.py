"""`pggan generate`: pictures of seeds as PNG files, and a grid of them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.generate_latents import LatentRequest, family_options, write_latents
from pggan.cli.latent_options import LatentChoice, latent_options
from pggan.cli.options import (
    CODE_VALUE,
    GRID_SIZE,
    SEEDS,
    FilePath,
    ModelChoice,
    Output,
    label_option,
    model_options,
    no_mark_option,
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
            raise UsageError("--no-grid excludes --grid and --only-grid; leave one of them out")
        if len(dict(self.codes)) < len(self.codes):
            raise UsageError("--code gives the same code twice; give one value")
        if self.layout == "flat":
            if os.environ.get("WORLD_SIZE", "1") != "1":
                raise UsageError("several processes (WORLD_SIZE) share --layout folders or tar; give one of them")
        elif self.grid is not None or self.only_grid:
            raise UsageError(f"--layout {self.layout} makes no grid; leave --grid and --only-grid out")
        elif self.codes:
            raise UsageError(f"--layout {self.layout} keeps each seed's own codes; leave --code out")

    def grid_of(self, count: int) -> tuple[int, int] | None:
        """Returns columns and rows of the grid of `count` pictures; None for no grid."""
        from pggan.generation.grid import grid_shape

        is_single = count == 1 and self.grid is None and not self.only_grid
        return None if self.no_grid or is_single else self.grid or grid_shape(count)


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
@latent_options
@family_options
@cloup.option_group(
    "Files",
    cloup.option("--out", default="generated", type=FilePath(path_type=Path), help="Folder to write to."),
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
    no_mark_option,
)  # fmt: skip
@cloup.option_group(
    "Speed",
    cloup.option(
        "--batch", type=click.IntRange(1, 65536), metavar="N", show_default="what fits the memory",
        help="Pictures computed at a time. The last batch is filled up, so that a seed gives equal bits whatever the "
        "count: a batch above that makes it slower.",
    ),
    cloup.option(
        "--mode", type=click.Choice(["auto", "eager", "compiled"]), default="auto",
        help="auto: compile the generator where the number of pictures repays the time that compiling takes.",
    ),
)  # fmt: skip
@output_options
def command(
    model: ModelChoice, output: Output, count: int | None, seeds: Seeds | None, saved: LatentChoice,
    family: LatentRequest, **options: Any,
) -> None:  # fmt: skip
    """Make new pictures with a model.

    MODEL is a file, a run directory, hf://user/name or a shipped model's name (none: portraits).

    A seed is a picture: its latent is numpy.random.RandomState(seed).randn(latent_size), whatever the batch and the
    other seeds. Each PNG's metadata (entry pggan, JSON) says seed and model. Files of the same names are replaced.
    """
    request = Request(**options)
    request.check()
    has_seeds = seeds is not None or (count is not None and not family.is_family)
    family.check(saved, has_seeds, request.layout, request.mode)
    if saved.files or family.is_wanted:
        chosen = _seeds(None if family.is_family else count, seeds, request)
        write_latents(model, saved, family, chosen, count, request, output)
    elif request.layout == "flat":
        _write_folder(model, _seeds(count, seeds, request), request, output, saved)
    else:
        _write_shards(model, _seeds(count, seeds, request), request, output, saved)


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


def _write_folder(choice: ModelChoice, seeds: Seeds, request: Request, output: Output, saved: LatentChoice) -> None:
    """--layout flat: every picture in one folder, with a grid."""
    model = saved.load(choice, mode=request.mode, note=output.note, truncation=request.truncation, raw=request.raw)
    from pggan.generation.images import write_images

    grid = request.grid_of(len(seeds))
    if request.only_grid and grid is not None:
        seeds = seeds[: grid[0] * grid[1]]
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


def _write_shards(choice: ModelChoice, seeds: Seeds, request: Request, output: Output, saved: LatentChoice) -> None:
    """--layout folders or tar: this process's share of the shards."""
    start = time.perf_counter()
    from pggan.generation.shards import write_shards
    from pggan.utils.distributed import world_from_environment

    world = world_from_environment()
    shown = output if world.is_main_process else replace(output, quiet=True)
    model = saved.load(choice, mode=request.mode, note=shown.note, truncation=request.truncation, raw=request.raw)
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
