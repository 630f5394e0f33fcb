"""Sample grids of a run, small enough to travel inside a page, and the timelapse of some of their tiles."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

# Grids evenly over time; the last one of every phase comes on top.
GRIDS = 24
# Bytes of pictures: with base64 and the curves a page stays below 8 MB whatever the run.
GRID_BYTES, REAL_BYTES, LAPSE_BYTES = 2_900_000, 450_000, 700_000
# A grid is at most so wide and so tall in a page.
GRID_WIDTH, GRID_HEIGHT = 960, 3840
# Side of the tiles of a sample grid: small stages are enlarged to it (`training.snapshots`).
TILE = 64
# The timelapse: tiles across and down, their side, frames, the whole length, rests at the end.
ACROSS, DOWN, SIDE, FRAMES, LENGTH_MS, REST_MS = 4, 2, 128, 48, 12_000, 2500
CAPTION = 28
# Larger ones are no grids of a run: those have 4 million pixels at most by default.
MOST_PIXELS = 64_000_000
LADDER = ((1.0, 82), (1.0, 70), (0.8, 65), (0.65, 55), (0.5, 45), (0.35, 35), (0.2, 25))
_NAME = re.compile(r"(\d{1,13})-(\d{1,5})x\2(?:-fade(\d{2,3}))?\.png")
_REALS = re.compile(r"reals-(\d{1,5})x\1\.png")


@dataclass(frozen=True)
class Sample:
    """A sample grid: its file, and the moment its name says. `fade`: percent, None where the level is stable."""

    path: Path
    nimg: int
    resolution: int
    fade: int | None

    @property
    def stage(self) -> str:
        side = f"{self.resolution}x{self.resolution}"
        return side if self.fade is None else f"{side} fading in, {self.fade} %"


@dataclass(frozen=True)
class Picture:
    """An encoded picture with its size in pixels."""

    data: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        return f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"


@dataclass
class Gallery:
    """What the page shows. `reals` by resolution; `columns`, `rows`: of the newest grid; `found`: all grids there."""

    grids: list[tuple[Sample, Picture]] = field(default_factory=list)
    reals: dict[int, Picture] = field(default_factory=dict)
    lapse: Picture | None = None
    still: Picture | None = None
    columns: int = 0
    rows: int = 0
    real_columns: int = 0
    found: int = 0
    unreadable: int = 0


def gallery(folder: Path) -> Gallery:
    """The pictures of a run's samples folder, encoded within their allowance. Damaged ones are counted and left out."""
    samples = find(folder)
    shown, framed = set(choose(samples, GRIDS)), set(_spread(samples, FRAMES))
    made = Gallery(found=len(samples))
    frames: list[tuple[Sample, Image.Image]] = []
    left, waiting = GRID_BYTES, len(shown)
    for sample in samples:
        if sample not in shown and sample not in framed:
            continue
        image = _load(sample.path)
        if image is None:
            made.unreadable += 1
        else:
            made.columns, made.rows = _shape(image, sample.resolution)
            if sample in shown:
                picture = encode(image, left // waiting)
                left -= len(picture.data)
                made.grids.append((sample, picture))
            if sample in framed:
                frames.append((sample, _corner(image, sample.resolution)))
        waiting -= sample in shown
    _add_reals(made, folder)
    _add_lapse(made, frames)
    return made


def find(folder: Path) -> list[Sample]:
    """The sample grids of a folder in the order of their images."""
    found = []
    for path in folder.glob("*.png") if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match and path.is_file() and int(match[2]) >= 1:
            found.append(Sample(path, int(match[1]), int(match[2]), int(match[3]) if match[3] else None))
    return sorted(found, key=lambda sample: (sample.nimg, sample.resolution, sample.path.name))


def choose(samples: list[Sample], count: int) -> list[Sample]:
    """Some samples evenly through the run, and the last of every phase."""
    last = {(sample.resolution, sample.fade is not None): sample for sample in samples}
    wanted = {*_spread(samples, count), *list(last.values())[-2 * GRIDS :]}
    return [sample for sample in samples if sample in wanted]


def _spread(samples: list[Sample], count: int) -> list[Sample]:
    if len(samples) <= count:
        return samples
    return [samples[round(n * (len(samples) - 1) / (count - 1))] for n in range(count)]


def _load(path: Path) -> Image.Image | None:
    """A PNG as RGB, None where it is damaged, or too large to be what it says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                if image.width * image.height > MOST_PIXELS:
                    return None
                return image.convert("RGB")
    except Exception:  # noqa: BLE001 - damaged files make Pillow raise all sorts
        return None


def encode(image: Image.Image, allowance: int, width: int = GRID_WIDTH) -> Picture:
    """A WebP of at most `allowance` bytes (or the smallest there is), no wider than `width`."""
    first = min(1.0, width / image.width, GRID_HEIGHT / image.height)
    smallest: Picture | None = None
    for share, quality in LADDER:
        factor = first * share
        small = image if factor == 1 else image.resize(_scaled(image, factor), Image.Resampling.LANCZOS)
        data = _webp(small, quality)
        if smallest is None or len(data) < len(smallest.data):
            smallest = Picture(data, small.width, small.height)
        if len(data) <= allowance:
            break
    assert smallest is not None
    return smallest


def _scaled(image: Image.Image, factor: float) -> tuple[int, int]:
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _webp(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=4)
    return out.getvalue()


def _tile(resolution: int) -> int:
    return resolution * max(1, TILE // resolution)


def _shape(image: Image.Image, resolution: int) -> tuple[int, int]:
    """Columns and rows of a grid."""
    tile = _tile(resolution)
    return max(1, image.width // tile), max(1, image.height // tile)


def _corner(image: Image.Image, resolution: int) -> Image.Image:
    """What the timelapse follows of a grid, its first tiles, which are the same latents all along, at its size."""
    columns, rows = _shape(image, resolution)
    tile, across, down = _tile(resolution), min(columns, ACROSS), min(rows, DOWN)
    how = Image.Resampling.LANCZOS if tile > SIDE else Image.Resampling.NEAREST
    return image.crop((0, 0, across * tile, down * tile)).resize((across * SIDE, down * SIDE), how)


def _add_reals(made: Gallery, folder: Path) -> None:
    """Real pictures in the shape of the sample grids, so that both can stand side by side at one scale."""
    matches = [(m, path) for path in folder.glob("reals-*.png") if (m := _REALS.fullmatch(path.name))]
    files = sorted((int(m[1]), path) for m, path in matches if path.is_file() and int(m[1]) >= 1)
    left = REAL_BYTES
    for waiting, (resolution, path) in zip(range(len(files), 0, -1), files):
        image = _load(path)
        if image is None:
            made.unreadable += 1
            continue
        tall = _stacked(image, resolution, made.rows or DOWN)
        picture = encode(tall, left // waiting, GRID_WIDTH // 2)
        left -= len(picture.data)
        made.reals[resolution] = picture
        made.real_columns = max(1, tall.width // _tile(resolution))


def _stacked(image: Image.Image, resolution: int, rows: int) -> Image.Image:
    """The pictures of a grid in `rows` rows, as many as fill whole columns; empty tiles at its end are left out."""
    tile, (columns, height) = _tile(resolution), _shape(image, resolution)
    boxes = [(c * tile, r * tile, (c + 1) * tile, (r + 1) * tile) for r in range(height) for c in range(columns)]
    while len(boxes) > 1 and image.crop(boxes[-1]).getbbox() is None:
        boxes.pop()
    rows = min(rows, len(boxes))
    across = min(len(boxes) // rows, max(1, columns // 2))
    tall = Image.new("RGB", (across * tile, rows * tile))
    for number, box in enumerate(boxes[: across * rows]):
        tall.paste(image.crop(box), (number % across * tile, number // across * tile))
    return tall


def _add_lapse(made: Gallery, samples: list[tuple[Sample, Image.Image]]) -> None:
    """The animation, of fewer frames and lower quality where it would be too large."""
    if len(samples) < 2:
        return
    last = samples[-1][0].nimg
    # a run may have changed its grid: the tiles that every frame has
    size = min(image.width for _, image in samples), min(image.height for _, image in samples)
    frames = [_frame(sample, image, size, last) for sample, image in samples]
    made.still = Picture(_webp(frames[-1], 75), *frames[-1].size)
    for quality, keep in ((68, 1), (55, 1), (45, 1), (45, 2), (40, 3), (35, 4), (25, 8)):
        kept = frames[::-keep][::-1]
        each = max(150, min(700, LENGTH_MS // len(kept)))
        out = io.BytesIO()
        times = [each] * (len(kept) - 1) + [REST_MS]
        kept[0].save(out, "WEBP", save_all=True, append_images=kept[1:], duration=times, quality=quality, method=3)
        if len(out.getvalue()) <= LAPSE_BYTES:
            made.lapse = Picture(out.getvalue(), *kept[0].size)
            return


def _frame(sample: Sample, corner: Image.Image, size: tuple[int, int], last: int) -> Image.Image:
    """A frame: the tiles, a line of words, a line of progress."""
    width, height = size
    frame = Image.new("RGB", (width, height + CAPTION), (16, 18, 22))
    frame.paste(corner.crop((0, 0, width, height)))
    pen = ImageDraw.Draw(frame)
    font = ImageFont.load_default(14)
    pen.text((6, height + 5), sample.stage, (240, 240, 240), font)
    pen.text((width - 6, height + 5), f"{sample.nimg / 1000:,.1f} kimg", (240, 240, 240), font, anchor="ra")
    reached = round(width * sample.nimg / max(last, 1))
    pen.rectangle((0, height + CAPTION - 3, reached, height + CAPTION), (86, 180, 233))
    return frame
