"""Grids of images: tiling, enlarging and shrinking uint8 images (numpy only)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import UsageError

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
