"""Sample grids and real images of a run as WebP small enough to embed in a page, and a timelapse of the first tiles."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

# Sample grids in a page, evenly spread over the run; the last one of every phase comes on top.
GRIDS = 24
# Bytes of grids, real images and timelapse: in base64, with the curves, a page stays below 8 MB.
GRID_BYTES, REAL_BYTES, LAPSE_BYTES = 2_900_000, 450_000, 700_000
# Largest grid in a page, in pixels.
GRID_WIDTH, GRID_HEIGHT = 960, 3840
# Side of a tile in pixels: `snapshots.enlarged` enlarges smaller images to it.
TILE = 64
# The timelapse: tiles across and down, pixels of a tile's side, frames, length and pause at the end.
ACROSS, DOWN, SIDE, FRAMES, LENGTH_MS, REST_MS = 4, 2, 128, 48, 12_000, 2500
# Height of the caption below the tiles, in pixels.
CAPTION = 28
# A larger file is not a grid of a run, whose default is 4 million pixels at most.
MAX_PIXELS = 64_000_000
# (scale, WebP quality), tried in order until a grid fits its share of bytes.
QUALITIES = ((1.0, 82), (1.0, 70), (0.8, 65), (0.65, 55), (0.5, 45), (0.35, 35), (0.2, 25))
# (WebP quality, every n-th frame), tried in order until the timelapse fits.
LAPSE_QUALITIES = ((68, 1), (55, 1), (45, 1), (45, 2), (40, 3), (35, 4), (25, 8))
_NAME = re.compile(r"(\d{1,13})-(\d{1,5})x\2(?:-fade(\d{2,3}))?\.png")
_REALS = re.compile(r"reals-(\d{1,5})x\1\.png")


@dataclass(frozen=True)
class Sample:
    """A sample grid's file, and what its name says. `fade`: percent, None where the level is stable."""

    path: Path
    nimg: int
    resolution: int
    fade: int | None

    @property
    def stage(self) -> str:
        side = f"{self.resolution}x{self.resolution}"
        return side if self.fade is None else f"{side} fading in, {self.fade} %"


@dataclass(frozen=True)
class EmbeddedImage:
    """A WebP file's content, and its size in pixels."""

    data: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        return f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"


@dataclass
class Gallery:
    """The images of a page."""

    grids: list[tuple[Sample, EmbeddedImage]] = field(default_factory=list)  # in the order of time
    reals: dict[int, EmbeddedImage] = field(default_factory=dict)  # by resolution
    timelapse: EmbeddedImage | None = None
    still: EmbeddedImage | None = None  # the timelapse's last frame
    columns: int = 0  # tiles of the newest grid
    rows: int = 0
    real_columns: int = 0  # tiles of the newest real images
    total: int = 0  # sample grids of the run, most of which a long one does not show
    unreadable: int = 0  # files that are damaged


def read_gallery(folder: Path) -> Gallery:
    """Encodes the images of a run's samples folder within the limits on bytes, and counts damaged ones."""
    samples = find_samples(folder)
    shown, framed = set(choose(samples, GRIDS)), set(_spread(samples, FRAMES))
    gallery = Gallery(total=len(samples))
    frames: list[tuple[Sample, Image.Image]] = []
    bytes_left, grids_left = GRID_BYTES, len(shown)
    for sample in samples:
        if sample not in shown and sample not in framed:
            continue
        image = _load(sample.path)
        if image is None:
            gallery.unreadable += 1
        else:
            gallery.columns, gallery.rows = _shape(image, sample.resolution)
            if sample in shown:
                grid = encode(image, bytes_left // grids_left)
                bytes_left -= len(grid.data)
                gallery.grids.append((sample, grid))
            if sample in framed:
                frames.append((sample, _first_tiles(image, sample.resolution)))
        grids_left -= sample in shown
    _add_reals(gallery, folder)
    _add_timelapse(gallery, frames)
    return gallery


def find_samples(folder: Path) -> list[Sample]:
    """Lists the sample grids of a folder, by images seen."""
    samples = []
    for path in folder.glob("*.png") if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match and path.is_file() and int(match[2]) >= 1:
            samples.append(Sample(path, int(match[1]), int(match[2]), int(match[3]) if match[3] else None))
    return sorted(samples, key=lambda sample: (sample.nimg, sample.resolution, sample.path.name))


def choose(samples: list[Sample], count: int) -> list[Sample]:
    """Chooses `count` samples, evenly through the run, and the last of every phase."""
    last = {(sample.resolution, sample.fade is not None): sample for sample in samples}
    chosen = {*_spread(samples, count), *list(last.values())[-2 * GRIDS :]}
    return [sample for sample in samples if sample in chosen]


def _spread(samples: list[Sample], count: int) -> list[Sample]:
    """At most `count` samples at even distances, first and last included."""
    if len(samples) <= count:
        return samples
    return [samples[round(n * (len(samples) - 1) / (count - 1))] for n in range(count)]


def _load(path: Path) -> Image.Image | None:
    """Reads a PNG as RGB, transparency over white; None where it is damaged, or too large to be a sample grid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                if image.mode == "RGBA":
                    background = Image.new("RGBA", image.size, "white")
                    return Image.alpha_composite(background, image).convert("RGB")
                return image.convert("RGB")
    except Exception:  # noqa: BLE001 - Pillow raises many kinds for damaged files
        return None


def encode(image: Image.Image, max_bytes: int, width: int = GRID_WIDTH) -> EmbeddedImage:
    """Encodes an image as WebP of at most `max_bytes`, or else the smallest possible, and at most `width` pixels."""
    largest = min(1.0, width / image.width, GRID_HEIGHT / image.height)
    smallest: EmbeddedImage | None = None
    for share, quality in QUALITIES:
        factor = largest * share
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        small = image if factor == 1 else image.resize(size, Image.Resampling.LANCZOS)
        data = _webp(small, quality)
        if smallest is None or len(data) < len(smallest.data):
            smallest = EmbeddedImage(data, small.width, small.height)
        if len(data) <= max_bytes:
            break
    assert smallest is not None
    return smallest


def _webp(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=4)
    return out.getvalue()


def _tile(resolution: int) -> int:
    """Side of a tile in a sample grid, in pixels."""
    return resolution * max(1, TILE // resolution)


def _shape(image: Image.Image, resolution: int) -> tuple[int, int]:
    """Columns and rows of a sample grid."""
    tile = _tile(resolution)
    return max(1, image.width // tile), max(1, image.height // tile)


def _first_tiles(image: Image.Image, resolution: int) -> Image.Image:
    """The tiles of a grid that the timelapse shows, the same latents in every grid, at the timelapse's size."""
    columns, rows = _shape(image, resolution)
    tile, across, down = _tile(resolution), min(columns, ACROSS), min(rows, DOWN)
    resampling = Image.Resampling.LANCZOS if tile > SIDE else Image.Resampling.NEAREST
    return image.crop((0, 0, across * tile, down * tile)).resize((across * SIDE, down * SIDE), resampling)


def _add_reals(gallery: Gallery, folder: Path) -> None:
    """Adds real images, as many rows as the sample grids have: both stand side by side at one scale."""
    matches = [(m, path) for path in folder.glob("reals-*.png") if (m := _REALS.fullmatch(path.name))]
    files = sorted((int(m[1]), path) for m, path in matches if path.is_file() and int(m[1]) >= 1)
    bytes_left = REAL_BYTES
    for files_left, (resolution, path) in zip(range(len(files), 0, -1), files):
        image = _load(path)
        if image is None:
            gallery.unreadable += 1
            continue
        tall = _rearranged(image, resolution, gallery.rows or DOWN)
        grid = encode(tall, bytes_left // files_left, GRID_WIDTH // 2)
        bytes_left -= len(grid.data)
        gallery.reals[resolution] = grid
        gallery.real_columns = max(1, tall.width // _tile(resolution))


def _rearranged(image: Image.Image, resolution: int, rows: int) -> Image.Image:
    """A grid's tiles in `rows` rows, as many as fill whole columns, without the empty ones at its end."""
    tile, (columns, height) = _tile(resolution), _shape(image, resolution)
    boxes = [(c * tile, r * tile, (c + 1) * tile, (r + 1) * tile) for r in range(height) for c in range(columns)]
    while len(boxes) > 1 and len(image.crop(boxes[-1]).getcolors() or ()) == 1:  # transparent over white, or black
        boxes.pop()
    rows = min(rows, len(boxes))
    across = min(len(boxes) // rows, max(1, columns // 2))
    tall = Image.new("RGB", (across * tile, rows * tile))
    for number, box in enumerate(boxes[: across * rows]):
        tall.paste(image.crop(box), (number % across * tile, number // across * tile))
    return tall


def _add_timelapse(gallery: Gallery, samples: list[tuple[Sample, Image.Image]]) -> None:
    """Adds the animation, with fewer frames and lower quality where it would be too large."""
    if len(samples) < 2:
        return
    last = samples[-1][0].nimg
    # a run may change its grid, so that only the tiles of the smallest one are in every frame
    size = min(image.width for _, image in samples), min(image.height for _, image in samples)
    frames = [_frame(sample, image, size, last) for sample, image in samples]
    gallery.still = EmbeddedImage(_webp(frames[-1], 75), *frames[-1].size)
    for quality, step in LAPSE_QUALITIES:
        shown = frames[::-step][::-1]  # the last one among them
        times = [max(150, min(700, LENGTH_MS // len(shown)))] * (len(shown) - 1) + [REST_MS]
        out = io.BytesIO()
        shown[0].save(out, "WEBP", save_all=True, append_images=shown[1:], duration=times, quality=quality, method=3)
        if len(out.getvalue()) <= LAPSE_BYTES:
            gallery.timelapse = EmbeddedImage(out.getvalue(), *shown[0].size)
            return


def _frame(sample: Sample, tiles: Image.Image, size: tuple[int, int], last: int) -> Image.Image:
    """A frame of the timelapse: tiles, stage and kimg, and a progress bar whose end is `last` images."""
    width, height = size
    frame = Image.new("RGB", (width, height + CAPTION), (16, 18, 22))
    frame.paste(tiles.crop((0, 0, width, height)))
    pen = ImageDraw.Draw(frame)
    font = ImageFont.load_default(14)
    pen.text((6, height + 5), sample.stage, (240, 240, 240), font)
    pen.text((width - 6, height + 5), f"{sample.nimg / 1000:,.1f} kimg", (240, 240, 240), font, anchor="ra")
    reached = round(width * sample.nimg / max(last, 1))
    pen.rectangle((0, height + CAPTION - 3, reached, height + CAPTION), (86, 180, 233))
    return frame
