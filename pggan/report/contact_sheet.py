"""A contact sheet of a data store: pictures side by side, their labels below, landmarks on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pggan.config.content.channels import over
from pggan.data.sources.aligned import crop_square
from pggan.data.sources.face_table import USED, FaceTable
from pggan.data.store.store import Store
from pggan.generation.images import write_png
from pggan.utils.errors import UsageError
from pggan.utils.formatting import printable

# Pictures on a sheet, the least side of a tile, and the height of a line of text, pixels.
DEFAULT_COUNT, SMALLEST_TILE, LINE = 48, 96, 13
MOST = 1024
_GAP, _GROUND, _INK, _MARK = 4, (24, 24, 27), (212, 212, 216), (74, 222, 128)


def write_contact_sheet(
    data: str | Path,
    out: str | Path,
    resolution: int | None = None,
    count: int = DEFAULT_COUNT,
    faces: str | Path | None = None,
) -> dict[str, Any]:
    """Writes a PNG of pictures of a store, evenly spread over it.

    Args:
        data: The store.
        out: The PNG.
        resolution: Which level is shown; None: the largest up to 256x256.
        count: Pictures, at most.
        faces: The report of `prepare-data --align auto` that the store was made with: its landmarks are drawn.

    Returns:
        The file (`sheet`), how many pictures it shows, and their `resolution`.

    Raises:
        UsageError: The store lacks the resolution, or `faces` is of other pictures.
        DataError: The store or the report cannot be read.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"--count {count} is not from 1 to {MOST}")
    out = Path(out)
    if out.suffix.lower() != ".png":
        raise UsageError(f"--sheet {out}: give the name of a PNG file, as {out.with_suffix('.png')}")
    with Store(data) as store:
        if not len(store):
            raise UsageError(f"{data} holds no pictures, so there is nothing to show")
        largest = max(r for r in store.resolutions if r <= max(256, min(store.resolutions)))
        side = largest if resolution is None else resolution
        if side not in store.resolutions:
            raise UsageError(f"--res {side}: the store has {', '.join(map(str, store.resolutions))}")
        points = None if faces is None else _points(store, faces)
        chosen = np.unique(np.linspace(0, len(store) - 1, min(count, len(store))).round().astype(int))
        images = over(store.read(side, chosen).transpose(0, 2, 3, 1))
        labels = [_label(store, int(index)) for index in chosen]
        marks = [None if points is None else points[index] for index in chosen]
    tiles = [_tile(*each) for each in zip(images, labels, marks)]
    write_png(out, _sheet(tiles))
    return {"sheet": str(out), "shown": len(tiles), "resolution": side}


def _points(store: Store, faces: str | Path) -> list[NDArray[np.float64]]:
    """Returns the landmarks (5, 2) of each picture of the store, as shares of its side."""
    rows = [row for row in FaceTable.read(str(faces)).rows if row.used == USED]
    if len(rows) != len(store):
        raise UsageError(
            f"--landmarks {faces} has {len(rows)} used faces, and the store {len(store)} pictures: give the report "
            "that it was made with"
        )
    points = []
    for row in rows:
        square = crop_square(row.points)
        away = np.array(row.landmarks).reshape(5, 2) - square.centre
        points.append(np.stack([away @ square.x_axis, away @ square.y_axis], 1) / square.side + 0.5)
    return points


def _label(store: Store, index: int) -> list[str]:
    """Returns the labels of a picture, a line each."""
    row = store.labels[index] if store.manifest.labels else ()
    return [
        f"{printable(column.name)}: {printable(column.text(int(value)))}"
        for column, value in zip(store.manifest.labels, row)
        if value >= 0
    ]


def _tile(image: NDArray[np.uint8], label: list[str], points: NDArray[np.float64] | None) -> Image.Image:
    """Returns a picture, enlarged where it is small, with its label below."""
    scale = -(-SMALLEST_TILE // image.shape[0])
    side = image.shape[0] * scale
    tile = Image.new("RGB", (side, side + LINE * len(label)), _GROUND)
    colours = np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[2] == 1 else image
    tile.paste(Image.fromarray(np.ascontiguousarray(colours)).resize((side, side), Image.Resampling.NEAREST))
    draw = ImageDraw.Draw(tile)
    for number, line in enumerate(label):
        draw.text((2, side + LINE * number), line, _INK)
    for x, y in () if points is None else points * side:
        radius = max(1, side // 64)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_MARK)
    return tile


def _sheet(tiles: list[Image.Image]) -> NDArray[np.uint8]:
    """Places the tiles, a little wider than high."""
    width, height = tiles[0].width, max(tile.height for tile in tiles)
    columns = min(len(tiles), max(1, round((1.5 * len(tiles) * height / width) ** 0.5)))
    rows = -(-len(tiles) // columns)
    size = columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP
    sheet = Image.new("RGB", size, _GROUND)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return np.asarray(sheet)
