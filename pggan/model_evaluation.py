"""`pggan.evaluate`: opens a model or a folder of pictures and measures it against data (torch-free)."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pggan.config.content.channels import WHITE, Colour
from pggan.config.metrics import METRICS, NEAREST, READY, chosen
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.generation.model import Model
    from pggan.metrics.cache import Cache
    from pggan.metrics.evaluate import Comparison
    from pggan.metrics.image_sets import ImageSet
    from pggan.utils.distributed import World

# Opens a piece of work: its name and its units; yields what counts units as done.
OpenWork = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
# Endings of models; those of other programs, which have to be imported first, are told from pictures by them.
MODEL_ENDINGS = (".safetensors", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin")


@dataclass(frozen=True)
class EvaluateOptions:
    """What to measure, and how."""

    metrics: tuple[str, ...]
    best: bool = False  # of a run, its best model instead of its newest one
    device: str = "auto"
    raw: bool = False  # the generator itself instead of its average
    count: int | None = None  # generated pictures; None: each metric's own number
    first_seed: int = 0  # of the generated pictures
    res: int | None = None  # side to which pictures of a folder are read; None: their own
    seed: int = 0  # of random patches, directions and subsets
    inception_weights: Path | None = None  # torch-fidelity's file; None: downloaded
    embedding: str | None = None  # the network of fd, kd, epr and eneighbours: an ONNX file, or efficientnet-lite0
    embedding_input: str | None = None  # range of the pixels that the ONNX file takes; None: the file's
    neighbours: Path | None = None  # PNG to write: generated pictures beside their nearest real ones
    k: int | None = None  # real pictures beside each generated one; None: `NEAREST`
    cache: Path | None = None  # folder of the statistics of real pictures; None: beside the data
    no_cache: bool = False  # keep no statistics
    background: Colour = WHITE  # behind pictures with transparency

    def __post_init__(self) -> None:
        """Adds the metric that `neighbours` needs. Raises `UsageError` before hours of work, not after."""
        if self.cache is not None and self.no_cache:
            raise UsageError("--cache and --no-cache exclude each other")
        # before a large archive is opened, which can take minutes
        if self.embedding is None and (names := [name for name in self.metrics if METRICS[name].needs == "embedding"]):
            raise UsageError(f"{', '.join(names)}: give the network with --embedding FILE, or --embedding {READY}")
        if self.embedding_input is not None and self.embedding is None:
            raise UsageError("--embedding-input is about --embedding; give that, too")
        if self.k is not None and self.neighbours is None:
            raise UsageError("--k is about --neighbours; give that, too")
        if self.neighbours is not None:
            _check_picture(self.neighbours)
            if not {"neighbours", "eneighbours"} & set(self.metrics):
                added = "eneighbours" if self.embedding else "neighbours"
                object.__setattr__(self, "metrics", (*self.metrics, added))
        if self.cache is not None:
            _check_cache(self.cache)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured. Of several processes, the main one has figures; the others have none."""

    pictures: str  # name of the generated ones
    data: str  # name of the real ones
    resolution: int
    background: str | None  # colour behind pictures with transparency, #rrggbb; None where all are opaque
    figures: dict[str, float]  # by name
    generated: dict[str, int]  # pictures by metric
    real: dict[str, int]  # different real pictures by metric
    cached: list[str]  # metrics whose statistics of real pictures were there already
    neighbours: Path | None  # the PNG that was written
    processes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        figures = values.pop("figures")
        # JSON has neither NaN nor infinity
        values["metrics"] = {key: value if math.isfinite(value) else None for key, value in figures.items()}
        grid = str(self.neighbours) if self.neighbours is not None else None
        return {**values, "neighbours": grid, "seconds": round(self.seconds, 3)}


def evaluate_options(metrics: str | Sequence[str], **fields: Any) -> EvaluateOptions:
    """Returns checked options; paths may be texts. Raises `UsageError` for unknown or wrong ones."""
    for name in ("inception_weights", "neighbours", "cache"):
        if fields.get(name) is not None:
            fields[name] = Path(fields[name])
    try:
        return EvaluateOptions(tuple(chosen(metrics)), **fields)
    except TypeError as error:  # an unknown name
        raise UsageError(f"evaluate: {str(error).partition('__init__() ')[2]}") from None


def run_evaluation(
    model: Model | str | Path | None, data: str | Path, options: EvaluateOptions, open_work: OpenWork
) -> Evaluation:
    """Measures a model, or pictures, against data; every process of a group has to call it."""
    from pggan.utils.devices import pick_device
    from pggan.utils.distributed import local_device, process_group

    device = pick_device(local_device(options.device))
    with process_group(device) as world:
        start = time.perf_counter()
        fakes = _generated(model, options, str(device))
        from pggan.metrics.image_sets import match_channels, opaque, open_images

        reals = open_images(str(data), fakes.resolution)
        match_channels(fakes, reals)
        fakes, reals = opaque(fakes, options.background), opaque(reals, options.background)
        comparison = _compare(options, fakes, reals, str(device), world, open_work)
        if world.is_main_process and options.neighbours is not None:
            from pggan.metrics.neighbour_grid import write_neighbour_grid

            shown = NEAREST if options.k is None else options.k
            write_neighbour_grid(options.neighbours, comparison, fakes, reals, shown)
        generated = {job.name: job.count for job in comparison.jobs}
        real = {job.name: len(set(job.reals)) for job in comparison.jobs}
        return Evaluation(
            fakes.name, reals.name, reals.resolution, _background(fakes, reals), comparison.figures, generated, real,
            comparison.reals.cached, options.neighbours, world.size, time.perf_counter() - start,
        )  # fmt: skip


def _background(*images: ImageSet) -> str | None:
    """Returns the colour behind pictures with transparency, as #rrggbb; None where all are opaque."""
    colours = [colour for one in images if (colour := getattr(one, "background", None))]
    return "#" + bytes(colours[0]).hex() if colours else None


def _check_picture(path: Path) -> None:
    if path.is_dir() or path.suffix.lower() != ".png":
        raise UsageError(f"--neighbours {path}: give the name of a PNG file, as {path.with_suffix('.png')}")
    from pggan.data.store.staging import check_place

    check_place(path, f"--neighbours {path}")


def _check_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--cache {folder}: {error.strerror}; give another folder, or --no-cache") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--cache {folder} cannot be written; give another folder, or --no-cache")


def _is_model(name: str) -> bool:
    """Whether MODEL names a model, not pictures; where it names nothing that exists, whether it looks like one."""
    from pggan.utils.caching.hub_files import HubAddress, is_address
    from pggan.utils.paths import MODELS, shipped

    if is_address(name):
        return not HubAddress.parse(name).is_dataset
    path = Path(name)
    if path.suffix.lower() in MODEL_ENDINGS or (path / MODELS).is_dir():
        return True
    return not path.exists() and (name in shipped() or not any(mark in name for mark in ":{*"))


def _generated(model: Model | str | Path | None, options: EvaluateOptions, device: str) -> ImageSet:
    """Opens the pictures to judge."""
    if isinstance(model, (str, Path)) and not options.best and not _is_model(str(model)):
        for flag, is_given in (("--raw", options.raw), ("--first-seed", options.first_seed)):
            if is_given:
                raise UsageError(f"{flag} is about pictures of a model, and {model} holds pictures; leave it out")
        from pggan.metrics.image_sets import open_images

        return open_images(str(model), options.res)
    if model is None or isinstance(model, (str, Path)):
        from pggan.utils.paths import find_model

        path = find_model(model, options.best)  # a wrong name is an error at once, before torch is imported
        from pggan.generation.model import load

        model = load(path, device, raw=options.raw)
    elif options.raw or options.best:
        raise UsageError("raw and best are about a model's name; this one is loaded already, leave them out")
    from pggan.metrics.image_sets import GeneratedImages

    side = model.resolution
    if options.res is not None and options.res != side:
        raise UsageError(f"--res {options.res}: {model.name} makes pictures of {side}x{side}")
    name = f"{model.name} (raw)" if options.raw else model.name
    return GeneratedImages(model.seed_images, side, model.channels, options.first_seed, name)


def _compare(
    options: EvaluateOptions, fakes: ImageSet, reals: ImageSet, device: str, world: World, open_work: OpenWork
) -> Comparison:
    from contextlib import nullcontext

    import torch

    from pggan.metrics.embeddings import embeddings_for
    from pggan.metrics.evaluate import compare

    embeddings = embeddings_for(
        options.metrics, options.inception_weights, options.embedding, torch.device(device), options.embedding_input
    )
    silent: OpenWork = lambda name, total: nullcontext(lambda count: None)  # noqa: E731
    return compare(
        fakes, reals, options.metrics, count=options.count, seed=options.seed, device=device, embeddings=embeddings,
        cache=_cache(options, reals), world=world, stage=open_work if world.is_main_process else silent,
    )  # fmt: skip


def _cache(options: EvaluateOptions, reals: ImageSet) -> Cache:
    from pggan.metrics.cache import Cache

    if options.no_cache:
        return Cache(None)
    return Cache(options.cache) if options.cache is not None else Cache.beside(reals.place)
