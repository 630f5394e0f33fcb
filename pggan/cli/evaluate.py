"""`pggan evaluate`: how good and how varied a model's pictures are, or a folder's."""

from __future__ import annotations

import json
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pggan.cli.options import MetricNames, as_json, best, device, quiet
from pggan.cli.progress_bar import Advance, progress
from pggan.config.metrics import METRICS
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    import torch

    from pggan.metrics.evaluate import Comparison
    from pggan.metrics.image_sets import ImageSet
    from pggan.utils.distributed import World

INPUTS = ["imagenet", "unit", "signed", "bytes"]


@click.command(
    "evaluate",
    epilog="\b\nMetrics:\n"
    + "\n".join(f"  {m.name:<12} {m.summary} ({m.count:,} pictures, {m.better} is better)" for m in METRICS),
)
@click.argument("model", required=False, type=click.Path())
@click.option(
    "--data", required=True, type=click.Path(), help="Real pictures: a data store, or what prepare-data reads."
)
@click.option(
    "--metrics", "names", type=MetricNames(), default="swd,msssim,neighbours", show_default=True, help="See below."
)
@click.option(
    "--n", "--count", "count", type=click.IntRange(2, 1_000_000), help="Generated pictures.  [default: as published]"
)
@click.option("--res", type=click.IntRange(4, 4096), help="Side of the pictures of a folder.  [default: their own]")
@click.option(
    "--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of patches, directions, subsets."
)
@click.option("--first-seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="The first picture's.")
@click.option(
    "--inception-weights", type=click.Path(path_type=Path), help="torch-fidelity's file.  [default: downloaded]"
)
@click.option("--embedding", help="An ONNX file, or efficientnet-lite0: the network of fd, kd, epr and eneighbours.")
@click.option(
    "--embedding-input", type=click.Choice(INPUTS), help="Scale of the ONNX file's input.  [default: the file's]"
)
@click.option(
    "--neighbours", type=click.Path(path_type=Path), help="PNG of generated pictures beside their nearest real ones."
)
@click.option("--k", type=click.IntRange(1, 16), default=4, show_default=True, help="Nearest ones in it.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of real statistics.  [default: DATA.metrics]")
@click.option("--no-cache", is_flag=True, help="Keep no statistics.")
@best
@device
@as_json
@quiet
def command(
    model: str | None, data: str, names: tuple[str, ...], count: int | None, res: int | None, seed: int,
    first_seed: int, inception_weights: Path | None, embedding: str | None, embedding_input: str | None,
    neighbours: Path | None, k: int, cache: Path | None, no_cache: bool, best: bool, device: str,
    as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Compare the pictures of MODEL with real ones: a model file, a run, a shipped name (none: the shipped one), or a
    folder of pictures or anything else that prepare-data reads.

    Statistics of the real pictures are made once and kept beside them. Several processes (torchrun -m pggan evaluate
    ...) share the work.
    """
    if cache is not None and no_cache:
        raise UsageError("--cache and --no-cache exclude each other")
    if embedding is None and any(METRICS[name].needs == "embedding" for name in names):
        which = ", ".join(name for name in names if METRICS[name].needs == "embedding")
        raise UsageError(f"{which}: give the network with --embedding FILE, or --embedding efficientnet-lite0")
    if neighbours is not None and not {"neighbours", "eneighbours"} & set(names):
        names = (*names, "eneighbours" if embedding else "neighbours")
    _check_places(neighbours, cache)
    from pggan.utils.devices import pick_device
    from pggan.utils.distributed import own_device, process_group

    where = pick_device(own_device(device))
    with process_group(where) as world:
        start = time.perf_counter()
        fakes, reals = _both(model, data, res, first_seed, where, best)
        from pggan.metrics.cache import Cache
        from pggan.metrics.embeddings import embeddings_for
        from pggan.metrics.evaluate import compare

        embeddings = embeddings_for(names, inception_weights, embedding, where, embedding_input)
        kept = Cache(None) if no_cache else Cache(cache) if cache is not None else Cache.beside(reals.place)

        def stage(what: str, total: int) -> AbstractContextManager[Advance]:
            return progress(what, total, quiet=quiet or as_json or not world.is_main_process)

        found = compare(
            fakes, reals, names, count=count, seed=seed, device=where, embeddings=embeddings, cache=kept, world=world,
            stage=stage,
        )  # fmt: skip
        if world.is_main_process:
            if neighbours is not None:
                from pggan.metrics.neighbour_grid import write_neighbour_grid

                write_neighbour_grid(neighbours, found, fakes, reals, k)
            _tell(found, fakes, reals, neighbours, time.perf_counter() - start, as_json, world)


def _check_places(neighbours: Path | None, cache: Path | None) -> None:
    """Before hours of work, not after them."""
    if neighbours is not None and (neighbours.is_dir() or neighbours.suffix.lower() != ".png"):
        raise UsageError(f"--neighbours {neighbours}: give the name of a PNG file, as {neighbours.with_suffix('.png')}")
    if cache is not None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--cache {cache}: {error.strerror}; give another folder, or --no-cache") from None
        if not os.access(cache, os.W_OK):
            raise UsageError(f"--cache {cache} cannot be written; give another folder, or --no-cache")


def _is_model(what: str | None) -> bool:
    from pggan.utils.paths import MODELS, shipped

    if what is None:
        return True
    path = Path(what)
    if path.suffix == ".safetensors" or (path / MODELS).is_dir():
        return True
    return not path.exists() and (what in shipped() or not any(mark in what for mark in ":{*"))


def _both(
    what: str | None, data: str, res: int | None, first_seed: int, where: torch.device, best: bool
) -> tuple[ImageSet, ImageSet]:
    """Generated and real pictures of one size."""
    from pggan.metrics.image_sets import GeneratedImages, open_images

    fakes: ImageSet
    if best or _is_model(what):
        from pggan.generation.model import load
        from pggan.utils.paths import find_model

        model = load(find_model(what, best), str(where))
        if res is not None and res != model.resolution:
            raise UsageError(f"--res {res}: {model.name} makes pictures of {model.resolution}x{model.resolution}")
        fakes = GeneratedImages(model.generate, model.resolution, model.channels, first_seed, model.name)
    else:
        assert what is not None
        fakes = open_images(what, res)
    return fakes, open_images(data, fakes.resolution)


def _tell(
    found: Comparison, fakes: ImageSet, reals: ImageSet, grid: Path | None, seconds: float, as_json: bool, world: World
) -> None:
    if as_json:
        about = {
            "pictures": fakes.name,
            "data": reals.name,
            "resolution": reals.resolution,
            "metrics": {key: _json_number(value) for key, value in found.figures.items()},
            "generated": {job.name: job.count for job in found.jobs},
            "real": {job.name: len(set(job.reals)) for job in found.jobs},
            "cached": found.reals.cached,
            "neighbours": str(grid) if grid is not None else None,
            "processes": world.size,
            "seconds": round(seconds, 3),
        }
        click.echo(json.dumps(about))
        return
    for job in found.jobs:
        spec, figure = METRICS[job.name], METRICS[job.name].figure
        against = f" against {len(set(job.reals)):,} real ones" if job.reals else ""
        click.echo(f"{spec.summary} ({job.count:,} pictures{against}; {spec.better} is better)")
        for key, value in found.figures.items():
            if _belongs(key, job.name, figure) and not key.endswith("_std"):
                error = found.figures.get(f"{key}_std")
                click.echo(f"  {key}: {value:.4g}" + (f" +- {error:.2g}" if error is not None else ""))
    if grid is not None:
        click.echo(f"nearest real pictures: {grid}")


def _json_number(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None


def _belongs(key: str, name: str, figure: str) -> bool:
    """Whether a figure is of this metric."""
    own = {
        "pr": ("precision", "recall"),
        "epr": ("embedding_precision", "embedding_recall"),
        "neighbours": ("nearest_ratio", "copied", "duplicates", "duplicate_pairs"),
    }
    if name == "eneighbours":
        return key in {f"embedding_{each}" for each in own["neighbours"]}
    if name in own:
        return key in own[name]
    return key == figure or key.startswith(f"{name}_")
