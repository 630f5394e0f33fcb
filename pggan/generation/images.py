"""Generated images as PNG files with metadata that says how to generate them again, written by threads.

Every PNG has one iTXt entry `pggan`, JSON with the keys

- `seed`: the latent is `numpy.random.RandomState(seed).randn(latent_size)` (a grid has `seeds` and `grid` instead);
- `model`, `sha256`: name and digest of the model file (None for a model that is in no file);
- `resolution`: side of the generated image in pixels;
- `class`: None, or `{"number": ..., "name": ...}` of a conditional model, `{"value": ...}` of a label that is a number,
  by column where there are several (a grid: of the requested label);
- `codes`: values of structured codes, where the model has any;
- `raw`: true where the trained generator made it, not its average;
- `truncation`: where it is not 1;
- `pggan`: the version that wrote it;
- `attribution`: of the training data, where the model records one;
- `tuned`, `blend`: what was done to the model's weights, where something was;
- `name`, `latent`: of a latent that no seed makes (`pggan.editing.latent_sources`); `score`, `rejected_share`: of D.

Beside it is the synthetic mark (`marking/xmp.py`), for other programs.

`pggan generate MODEL --seeds SEED`, with `--label`, `--code`, `--raw` and `--truncation` as above, makes it again.
`read_metadata` reads the entry.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from pggan.config.content.channels import straight
from pggan.generation.grid import Grid, Images
from pggan.generation.marking.xmp import PNG_KEYWORD, synthetic_mark
from pggan.generation.model import Model
from pggan.generation.png import png_bytes
from pggan.generation.seeds import Seeds
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import DataError, UsageError
from pggan.utils.process_pool import available_cores
from pggan.utils.version import __version__

KEY = "pggan"
# Endings of files that people mean where they give one to an option that names a folder.
_FILE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".mp4", ".zip", ".tar")
# Bytes of an image for each thread that writes PNGs, with two threads at least. A folder takes one new file at a time,
# which costs as much as deflating some such pieces: more threads wait for each other there.
BYTES_PER_THREAD = 8 << 10
# Images queued for the threads while a GPU computes: enough that no thread is idle while a batch starts. On a CPU
# hardly any: torch's threads wait for each other in busy loops, and writers among them cost up to half the rate.
QUEUE = 32
CPU_QUEUE = 2

Advance = Callable[[int], None]
R = TypeVar("R")


class NamedImage(NamedTuple):
    """An image to be written as a PNG."""

    name: str  # of the file
    image: Images  # (H, W, C)
    about: dict[str, Any]  # metadata


@dataclass(frozen=True)
class WrittenImages:
    """What `write_images` wrote."""

    folder: Path
    seeds: Seeds
    suffix: str = ""  # of every name, before `.png`
    images: bool = True  # whether there are images, or the grid alone
    grid: Path | None = None  # file of the grid

    def names(self) -> Iterator[str]:
        """Yields the file names of the images, in the order of the seeds."""
        if self.images:
            yield from (image_name(seed, self.suffix) for seed in self.seeds)


@dataclass(frozen=True)
class ImageRequest:
    """Which images of a model are wanted."""

    seeds: Seeds
    label: int | str | None = None  # class of a conditional model; None: each seed's own
    codes: Mapping[int, float] | None = None  # values of structured codes by number, instead of the seeds' own
    batch: int | None = None  # images computed at once; None: what fits the memory


def write_images(
    model: Model,
    seeds: Iterable[int],
    out: str | Path,
    *,
    label: int | str | None = None,
    codes: Mapping[int, float] | None = None,
    grid: tuple[int, int] | None = None,
    images: bool = True,
    batch: int | None = None,
    advance: Advance = lambda count: None,
) -> WrittenImages:
    """Writes the images of seeds as PNGs, and a grid of the first ones.

    Files of the same names are replaced atomically; nothing else in `out` changes. One batch is written while the next
    one is computed, so that memory does not grow with the number of seeds.

    Args:
        model: The model.
        seeds: The seeds.
        out: Folder of the files, made if it is missing.
        label: As `Model.generate` takes it; None: each seed's own.
        codes: Values of structured codes by number.
        grid: Columns and rows; None: no grid.
        images: False: the grid alone.
        batch: Images computed at once; None: what fits the memory.
        advance: Is called with the number of images computed since the last call.

    Raises:
        UsageError: Seeds, labels, codes or grid do not fit.
        OSError: `out` cannot be written.
    """
    request = ImageRequest(Seeds.of(seeds), label, codes, batch)
    suffix, folder = file_suffix(model, label, codes), Path(out)
    model.seed_latents(request.seeds[:1], codes)  # refuses codes that the model lacks before any work
    canvas = Grid(*grid, model.resolution, model.channels) if grid is not None else None
    if canvas is not None and not images:
        request = ImageRequest(request.seeds[: canvas.columns * canvas.rows], label, codes, batch)
    make_folder(folder)
    about = describe(model)
    named = named_images(model, request, about, advance, canvas)
    if images:
        write_all(folder, named, writers(model))
    else:
        deque(named, maxlen=0)  # fills the grid
    path = None
    if canvas is not None:
        path = folder / f"grid{suffix}.png"
        write_png(path, canvas.image, _grid_about(model, request, canvas, about))
    return WrittenImages(folder, request.seeds, suffix, images, path)


def named_images(
    model: Model, request: ImageRequest, about: dict[str, Any], advance: Advance, canvas: Grid | None = None
) -> Iterator[NamedImage]:
    """Yields the image of every seed with its file name and metadata, computed in batches.

    Args:
        model: The model.
        request: Which images.
        about: The metadata that all images have in common.
        advance: Is called with the size of every batch, before its first image: nobody asks for more after the last.
        canvas: A grid that the images fill, too.
    """
    suffix, start = file_suffix(model, request.label, request.codes), 0
    for images in model.stream(request.seeds, request.label, request.batch, request.codes):
        part = request.seeds[start : start + len(images)]
        start += len(part)
        advance(len(part))
        if canvas is not None:
            canvas.add(images)
        codes = model.codes.of_seeds(part, request.codes) if model.codes.size else None
        for i, (seed, classes) in enumerate(zip(part, model.seed_entries(part, request.label))):
            code_about = {} if codes is None else {"codes": model.codes.describe(codes[i])}
            own_about = {"seed": seed, "class": model.labels.describe(classes), **code_about, **about}
            yield NamedImage(image_name(seed, suffix), images[i], own_about)


def _grid_about(model: Model, request: ImageRequest, canvas: Grid, about: dict[str, Any]) -> dict[str, Any]:
    choice = model.labels.choose(request.label) if request.label is not None else ()
    shown, shape = request.seeds[: canvas.filled], f"{canvas.columns}x{canvas.rows}"
    codes = {str(number): value for number, value in sorted((request.codes or {}).items())}
    grid_about = {"seeds": str(shown), "grid": shape, "class": model.labels.describe(choice), **about}
    return {**grid_about, "codes": codes} if codes else grid_about


def image_name(seed: int, suffix: str = "") -> str:
    """Returns `seed0000000012.png`: ten digits, as the largest seed has, so that names sort as seeds do."""
    return f"seed{seed:010d}{suffix}.png"


def file_suffix(model: Model, label: int | str | None, codes: Mapping[int, float] | None) -> str:
    """Returns `-blond` for a requested class, `-code0_3` for every code: the same seed with others is another file."""
    suffix = model.labels.file_name(() if label is None else model.labels.choose(label))
    suffix += "".join(f"-code{number}_{code_text(value)}" for number, value in sorted((codes or {}).items()))
    return suffix + ("-raw" if model.file.raw else "")


def code_text(value: float) -> str:
    """Returns a code's value in as few digits as keep its float32, for names and commands."""
    short, exact = f"{value:g}", np.float32(value)
    return short if np.float32(short) == exact else str(exact)


def describe(model: Model) -> dict[str, Any]:
    """Returns the metadata that all images of a model have in common."""
    about: dict[str, Any] = {
        "model": model.name,
        "sha256": hashlib.sha256(model.path.read_bytes()).hexdigest() if model.path is not None else None,
        "resolution": model.resolution,
        "pggan": __version__,
    }
    if model.truncation != 1:
        about["truncation"] = model.truncation
    if model.file.raw:
        about["raw"] = True
    notes = ("attribution", "tuned", "blend")
    return about | {key: model.info[key] for key in notes if model.info.get(key)}


def read_metadata(path: str | Path | BinaryIO) -> dict[str, Any]:
    """Returns the `pggan` entry of a PNG; raises `DataError` where there is none."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()  # text may follow the pixels
            return dict(json.loads(image.info[KEY]))
    except FileNotFoundError:
        raise
    except Exception:  # noqa: BLE001 (Pillow and the JSON reader raise a dozen kinds for damaged files)
        raise DataError(f"{path} is not a picture that pggan generated: it has no readable entry {KEY!r}") from None


def encode_png(image: Images, about: dict[str, Any] | None = None) -> bytes:
    """Encodes an image (H, W, C), C 1 to 4, RGBA premultiplied, as a PNG.

    With `about`, that is its iTXt entry `pggan`, and the synthetic mark is beside it; None is for real pictures.
    """
    image = straight(image)
    if about is None:
        return png_bytes(image, {}, {})
    texts = {KEY: json.dumps(about, ensure_ascii=False)}
    if (mark := synthetic_mark()) is not None:
        texts[PNG_KEYWORD] = mark
    return png_bytes(image, texts, {"Software": f"pggan {__version__}"})


def write_png(path: Path, image: Images, about: dict[str, Any] | None = None, durable: bool = True) -> None:
    """Writes an image as `encode_png` does, atomically; `durable`: it is on the disk when this returns."""
    data = encode_png(image, about)
    replace_atomically(path, lambda temporary: temporary.write_bytes(data), durable)


class Writers(NamedTuple):
    """The threads that encode and write PNGs."""

    threads: int
    queue: int  # images handed to the threads before the first of them is written, at most


def writers(model: Model) -> Writers:
    """Returns how many threads a model's PNGs are worth, one a core at most."""
    count = min(max(2, model.channels * model.resolution**2 // BYTES_PER_THREAD), available_cores())
    return Writers(count, CPU_QUEUE if model.device.type == "cpu" else max(QUEUE, 4 * count))


def write_all(folder: Path, images: Iterable[NamedImage], writers: Writers) -> None:
    """Writes PNGs in threads while `images` computes the next ones. Does not wait for the disk, see `write_png`."""

    def write(name: str, image: Images, about: dict[str, Any]) -> None:
        write_png(folder / name, image, about, durable=False)

    deque(in_threads(write, images, writers), maxlen=0)


def in_threads(work: Callable[..., R], items: Iterable[tuple[Any, ...]], writers: Writers) -> Iterator[R]:
    """Yields `work(*item)` of every item in order, computed in threads; a bounded number of items is queued.

    Deflating and writing files release the interpreter lock.
    """
    most = max(writers.queue, writers.threads)
    queued: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(writers.threads, thread_name_prefix="png")
    try:
        for item in items:
            if len(queued) >= most:
                yield queued.popleft().result()
            queued.append(pool.submit(work, *item))
        while queued:
            yield queued.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def make_folder(path: Path) -> None:
    """Makes a folder and its parents.

    Raises `UsageError` where a file is in the way or the name is a picture's, `OSError` where it cannot be made.
    """
    if path.suffix.lower() in _FILE_ENDINGS and not path.is_dir():
        raise UsageError(
            f"--out {path} names a folder here, and {path.suffix} is a file's ending; give a folder's name"
        )
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"{place} is a file, not a folder; choose another --out")
            break
    path.mkdir(parents=True, exist_ok=True)
