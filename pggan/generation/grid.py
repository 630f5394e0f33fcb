"""Grids of images: tiling, enlarging and shrinking uint8 images (numpy only)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import KINDS, RGBA, premultiply, straight
from pggan.generation.png import png_bytes
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

# The longest side of a `Grid` in pixels: larger images are shrunk to fit.
GRID_SIDE = 4096
# Small images are enlarged in a `Grid` to about this side.
SMALLEST_TILE = 64
# Images in a grid whose shape was not requested, at most.
AUTO_GRID = 100

Images = NDArray[np.uint8]


def grid_image(images: Images, columns: int, rows: int) -> Images:
    """Tiles images (N, H, W, C) row by row as one (rows * H, columns * W, C); missing ones are black.

    Raises `UsageError` for more images than tiles.
    """
    count, height, width, channels = images.shape
    if count > columns * rows:
        raise UsageError(f"{count} pictures do not fit a grid of {columns}x{rows}")
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:count] = images
    cells: Images = tiles.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * height, columns * width, channels)


def grid_shape(count: int) -> tuple[int, int]:
    """Returns the columns and rows of a nearly square grid for `count` images, at most 10x10."""
    shown = max(1, min(count, AUTO_GRID))
    columns = math.isqrt(shown - 1) + 1
    return columns, -(-shown // columns)


def enlarge(images: Images, factor: int) -> Images:
    """Repeats each pixel of images (..., H, W, C) `factor` times along both axes."""
    return images if factor == 1 else images.repeat(factor, axis=-3).repeat(factor, axis=-2)


def shrink(images: Images, factor: int) -> Images:
    """Averages boxes of `factor` x `factor` pixels of images (N, H, W, C), whose sides are multiples of `factor`."""
    if factor == 1:
        return images
    n, height, width, channels = images.shape
    boxes = images.reshape(n, height // factor, factor, width // factor, factor, channels)
    means: NDArray[np.float32] = np.rint(boxes.mean(axis=(2, 4), dtype=np.float32))
    return means.astype(np.uint8)


def to_pil(images: Images) -> list[Image.Image]:
    """Returns images as Pillow has them.

    >>> to_pil(np.zeros((2, 8, 8, 3), np.uint8))[0].size
    (8, 8)

    Args:
        images: uint8 (N, H, W, C) as `Model.generate` returns them, or one (H, W, C); C is 1, 3 or 4.

    Raises:
        UsageError: The array is none of that.
    """
    from PIL import Image

    return [Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image) for image in _checked(images)]


def image_grid(images: Images, columns: int | None = None) -> Grid:
    """Returns a grid of images, which shows itself in notebooks.

    >>> image_grid(np.zeros((5, 64, 64, 3), np.uint8), columns=3).image.shape
    (128, 192, 3)

    Args:
        images: uint8 (N, H, W, C), H and W equal, or one (H, W, C); C is 1 to 4.
        columns: None: a nearly square grid.

    Raises:
        UsageError: The array is none of that, or there are too many images for a grid.
    """
    images = _checked(images)
    if images.shape[1] != images.shape[2] or not len(images):
        raise UsageError(f"a grid is made of square pictures, not of an array {images.shape}")
    columns = math.isqrt(len(images) - 1) + 1 if columns is None else columns
    if columns < 1:
        raise UsageError(f"a grid has at least one column, not {columns}")
    grid = Grid(columns, -(-len(images) // columns), images.shape[1], images.shape[3])
    grid.add(premultiply(images) if images.shape[3] == RGBA else images)
    return grid


def _checked(images: Images) -> Images:
    """Returns images as (N, H, W, C)."""
    values = np.asarray(images)
    values = values[None] if values.ndim == 3 else values
    if values.dtype != np.uint8 or values.ndim != 4 or values.shape[3] not in KINDS:
        raise UsageError(f"pictures are uint8 (N, H, W, C) with 1, 3 or 4 channels, not {values.dtype} {values.shape}")
    return values


class Grid:
    """A grid that batches of images fill one after another, in memory for the grid itself alone.

    Its sides are at most 4096 pixels. Raises `UsageError` for no tiles, or too many a side.
    """

    def __init__(self, columns: int, rows: int, side: int, channels: int) -> None:
        if columns * rows == 0:
            raise UsageError("a grid has at least one column and one row")
        if max(columns, rows) > GRID_SIDE // 4:
            raise UsageError(f"a grid of {columns}x{rows} is too large; it has at most {GRID_SIDE // 4} tiles a side")
        self.columns, self.rows = columns, rows
        most = GRID_SIDE // max(columns, rows)  # pixels a tile's side
        self.factor, self.divisor = max(1, min(SMALLEST_TILE, most) // side), 1
        while side // self.divisor > most and self.divisor < side:
            self.divisor *= 2
        self.tile = side * self.factor // self.divisor
        self.image: Images = np.zeros((rows * self.tile, columns * self.tile, channels), np.uint8)
        self.filled = 0

    def add(self, images: Images) -> None:
        """Adds images (N, H, W, C) to the next tiles; those beyond the last tile are left out."""
        for image in images[: self.columns * self.rows - self.filled]:
            row, column = divmod(self.filled, self.columns)
            tile = enlarge(shrink(image[None], self.divisor)[0], self.factor)
            top, left = row * self.tile, column * self.tile
            self.image[top : top + self.tile, left : left + self.tile] = tile
            self.filled += 1

    def to_pil(self) -> Image.Image:
        return to_pil(straight(self.image))[0]

    def _repr_png_(self) -> bytes:
        return png_bytes(straight(self.image), {}, {})
