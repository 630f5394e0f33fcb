"""Pictures of seeds as PNG files, each of which says how to make it again; grids of pictures.

Every PNG has one iTXt entry `pggan`, JSON with the keys

- `seed`: the latent is `numpy.random.RandomState(seed).randn(latent_size)` (a grid has `seeds` and `grid` instead);
- `model`, `sha256`: name and digest of the model file (None for a model that is in no file);
- `resolution`: side of the generated picture;
- `class`: None, or `{"number": ..., "name": ...}` of a conditional model, by column where it has several
  (a grid: of what was asked for);
- `pggan`: the version that wrote it;
- `attribution`: of the training data, where the model records one.

`pggan generate MODEL --seeds SEED [--label NUMBER]` makes it again. `read_metadata` reads the entry.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pggan.generation.png import png_bytes
from pggan.generation.seeds import Seeds
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import DataError, UsageError
from pggan.utils.process_pool import available_cores
from pggan.utils.version import __version__

if TYPE_CHECKING:
    from pggan.generation.model import Model

KEY = "pggan"
# A grid is an overview: its tiles are shrunk until its sides are at most this many pixels.
GRID_SIDE = 4096
# Tiny pictures are enlarged in a grid to about this side.
SMALLEST_TILE = 64
# Pictures of a grid of no stated shape.
AUTO_GRID = 100
# Bytes of a picture for each thread that makes PNGs, two threads at least: a folder takes one new file at a time, which
# costs as much as deflating some such pieces, and threads that meet there cost more than they save.
PIECE = 8 << 10
# Pictures that wait for the threads while a GPU computes: enough that none is idle while a batch begins. On the CPU
# hardly any do: torch's threads wait for each other, and busily, so that writers among them cost up to half the rate.
AHEAD = 32
CPU_AHEAD = 2

Pictures = NDArray[np.uint8]
R = TypeVar("R")


def grid_image(pictures: Pictures, columns: int, rows: int) -> Pictures:
    """Pictures (N, H, W, C) row by row as one (rows * H, columns * W, C); tiles without a picture stay black.

    Raises `UsageError` where there are more pictures than tiles.
    """
    count, height, width, channels = pictures.shape
    if count > columns * rows:
        raise UsageError(f"{count} pictures do not fit a grid of {columns}x{rows}")
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:count] = pictures
    together = tiles.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return together.reshape(rows * height, columns * width, channels)


def grid_shape(count: int) -> tuple[int, int]:
    """Columns and rows of the grid that `count` pictures have where none is asked for, at most 10x10."""
    shown = max(1, min(count, AUTO_GRID))
    columns = math.isqrt(shown - 1) + 1
    return columns, -(-shown // columns)


def enlarge(pictures: Pictures, factor: int) -> Pictures:
    """Pictures (..., H, W, C), each pixel repeated `factor` times a side."""
    return pictures if factor == 1 else pictures.repeat(factor, axis=-3).repeat(factor, axis=-2)


def shrink(pictures: Pictures, factor: int) -> Pictures:
    """Pictures (N, H, W, C), each `factor` x `factor` pixels averaged; sides are whole multiples of `factor`."""
    if factor == 1:
        return pictures
    n, height, width, channels = pictures.shape
    boxes = pictures.reshape(n, height // factor, factor, width // factor, factor, channels)
    return np.rint(boxes.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


class Grid:
    """A grid filled from batches as they come: only the (at most 4096 x 4096) grid itself is kept.

    Raises `UsageError` for more tiles than the grid's side has pixels.
    """

    def __init__(self, columns: int, rows: int, side: int, channels: int) -> None:
        if max(columns, rows) > GRID_SIDE // 4:
            raise UsageError(f"a grid of {columns}x{rows} is too large; it has at most {GRID_SIDE // 4} tiles a side")
        self.columns, self.rows = columns, rows
        room = GRID_SIDE // max(columns, rows)
        self.factor, self.divisor = max(1, min(SMALLEST_TILE, room) // side), 1
        while side // self.divisor > room and self.divisor < side:
            self.divisor *= 2
        self.tile = side * self.factor // self.divisor
        self.image: Pictures = np.zeros((rows * self.tile, columns * self.tile, channels), np.uint8)
        self.filled = 0

    def add(self, pictures: Pictures) -> None:
        """Takes the next pictures (N, H, W, C); those beyond the last tile are left out."""
        for picture in pictures[: self.columns * self.rows - self.filled]:
            row, column = divmod(self.filled, self.columns)
            shown = enlarge(shrink(picture[None], self.divisor)[0], self.factor)
            top, left = row * self.tile, column * self.tile
            self.image[top : top + self.tile, left : left + self.tile] = shown
            self.filled += 1


def encode_png(picture: Pictures, about: dict[str, Any] | None = None) -> bytes:
    """A picture (H, W, C), C 1 to 4, as a PNG with `about` as its iTXt entry `pggan`."""
    if about is None:
        return png_bytes(picture, {}, {})
    software = f"pggan {__version__}"
    return png_bytes(picture, {KEY: json.dumps(about, ensure_ascii=False)}, {"Software": software})


def write_png(path: Path, picture: Pictures, about: dict[str, Any] | None = None, durable: bool = True) -> None:
    """Writes a picture (H, W, C) atomically, as `encode_png`; `durable`: on the disk when it returns."""
    data = encode_png(picture, about)
    replace_atomically(path, lambda temporary: _write(temporary, data), durable)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The `pggan` entry of a PNG; raises `DataError` where there is none."""
    try:
        with Image.open(path) as image:
            image.load()  # text may follow the pixels
            return dict(json.loads(image.info[KEY]))
    except (KeyError, ValueError, SyntaxError, Image.UnidentifiedImageError):
        raise DataError(f"{path} is not a picture that pggan generated: it has no readable entry {KEY!r}") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def describe(model: Model) -> dict[str, Any]:
    """What the pictures of a model have in common in their metadata."""
    about: dict[str, Any] = {
        "model": model.name,
        "sha256": file_digest(model.path) if model.path is not None else None,
        "resolution": model.resolution,
        "pggan": __version__,
    }
    if model.info.get("attribution"):
        about["attribution"] = model.info["attribution"]
    return about


@dataclass(frozen=True)
class Written:
    """What `write_pictures` left: the folder, the seeds, the grid's file if any; `names` are made as they are read."""

    folder: Path
    seeds: Seeds
    suffix: str = ""
    pictures: bool = True
    grid: Path | None = None
    shape: tuple[int, int] | None = field(default=None)

    def names(self) -> Iterator[str]:
        """File names of the pictures, in the order of the seeds."""
        if self.pictures:
            yield from (picture_name(seed, self.suffix) for seed in self.seeds)


def picture_name(seed: int, suffix: str = "") -> str:
    """`seed0000000012.png`: ten digits, as the largest seed has, so that names sort as seeds do."""
    return f"seed{seed:010d}{suffix}.png"


def class_suffix(model: Model, label: int | str | None) -> str:
    """`-class3` where a class was asked for: the same seed of another class is another file."""
    if label is None:
        return ""
    return "-class" + "-".join("x" if number is None else str(number) for number in model.labels.choose(label))


def code_suffix(codes: Mapping[int, float] | None) -> str:
    """`-code0_3` for every code that was asked for."""
    return "".join(f"-code{number}_{value:g}" for number, value in sorted((codes or {}).items()))


def _asked(codes: Mapping[int, float] | None) -> dict[str, Any]:
    return {"codes": {str(number): value for number, value in sorted(codes.items())}} if codes else {}


def write_pictures(
    model: Model,
    seeds: Iterable[int],
    out: str | Path,
    *,
    label: int | str | None = None,
    codes: Mapping[int, float] | None = None,
    grid: tuple[int, int] | None = None,
    pictures: bool = True,
    batch: int | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Written:
    """Writes the pictures of seeds as PNGs into the folder `out` (made if need be), and a grid of the first ones.

    `codes`: value by number of structured codes. `grid`: (columns, rows), None for no grid; `pictures` False: the grid
    only. Files of the same names are replaced, each at once and whole; nothing else in `out` is touched. One batch is
    written while the next one is made, so that the memory does not grow with the number of seeds. `advance(n)` is
    called as n more pictures are made.
    Raises `UsageError` for seeds, labels or grids that do not fit, `OSError` where `out` cannot be written.
    """
    wanted = Seeds.of(seeds)
    if grid is not None and grid[0] * grid[1] == 0:
        raise UsageError("a grid has at least one column and one row")
    suffix, folder = class_suffix(model, label) + code_suffix(codes), Path(out)
    model.seed_latents(wanted[:1], codes)  # refuses codes that the model lacks before anything is made
    canvas = Grid(*grid, model.resolution, model.channels) if grid is not None else None
    if canvas is not None and not pictures:
        wanted = wanted[: canvas.columns * canvas.rows]
    make_folder(folder)
    about = describe(model)
    files = _files(model, wanted, folder, suffix, label, codes, batch, canvas, about, advance)
    write_all(files if pictures else _drained(files), writers(model))
    path = None
    if canvas is not None:
        path = folder / f"grid{suffix}.png"
        write_png(path, canvas.image, {**_about_grid(model, wanted, canvas, about, label), **_asked(codes)})
    return Written(folder, wanted, suffix, pictures, path, grid)


File = tuple[Path, Pictures, dict[str, Any]]


def _files(
    model: Model,
    seeds: Seeds,
    folder: Path,
    suffix: str,
    label: int | str | None,
    codes: Mapping[int, float] | None,
    batch: int | None,
    canvas: Grid | None,
    about: dict[str, Any],
    advance: Callable[[int], None],
) -> Iterator[File]:
    """Path, picture and metadata of every seed, batch by batch; fills the grid on the way."""
    start = 0
    for pictures in model.stream(seeds, label, batch, codes):
        part = seeds[start : start + len(pictures)]
        start += len(part)
        if canvas is not None:
            canvas.add(pictures)
        own = model.codes.of_seeds(part, codes) if model.codes.size else None
        for i, (seed, classes) in enumerate(zip(part, model.seed_classes(part, label))):
            told = {} if own is None else {"codes": model.codes.describe(own[i])}
            yield (
                folder / picture_name(seed, suffix),
                pictures[i],
                {"seed": seed, "class": model.labels.describe(classes), **told, **about},
            )
        advance(len(part))


def _drained(files: Iterator[File]) -> Iterator[File]:
    for _ in files:
        pass
    return iter(())


def _about_grid(
    model: Model, seeds: Seeds, canvas: Grid, about: dict[str, Any], label: int | str | None
) -> dict[str, Any]:
    asked = model.labels.choose(label) if label is not None else ()
    shown, shape = seeds[: canvas.filled], f"{canvas.columns}x{canvas.rows}"
    return {"seeds": str(shown), "grid": shape, "class": model.labels.describe(asked), **about}


class Threads(NamedTuple):
    """How many there are, and how many items they are given at most before the first one is done."""

    workers: int
    ahead: int


def write_all(files: Iterable[File], threads: Threads) -> None:
    """Writes PNGs in threads, while `files` makes the next pictures. Without waiting for the disk: see `write_png`."""
    for _ in in_threads(lambda path, picture, about: write_png(path, picture, about, durable=False), files, threads):
        pass


def writers(model: Model) -> Threads:
    """Threads that a model's PNGs are worth, one a core at most."""
    count = min(max(2, model.channels * model.resolution**2 // PIECE), available_cores())
    return Threads(count, CPU_AHEAD if model.device.type == "cpu" else max(AHEAD, 4 * count))


def in_threads(work: Callable[..., R], items: Iterable[tuple[Any, ...]], threads: Threads) -> Iterator[R]:
    """`work(*item)` of every item, in their order, by a few threads; a bounded number wait: so does the memory.

    zlib and files let other threads run meanwhile.
    """
    ahead = max(threads.ahead, threads.workers)
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads.workers, thread_name_prefix="png")
    try:
        for item in items:
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, *item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def make_folder(path: Path) -> None:
    """Makes a folder and its parents. Raises `UsageError` where something else is in the way, or `OSError`."""
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"{place} is a file, not a folder; choose another --out")
            break
    path.mkdir(parents=True, exist_ok=True)
