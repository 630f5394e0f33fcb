"""Pixel blitting: flips, quarter turns and translations that copy pixels exactly."""

from __future__ import annotations

import torch
from torch import Tensor


def mirrored(index: Tensor, side: int) -> Tensor:
    """Maps whole coordinates to 0 .. side - 1 by reflection at the image's edges, which repeats the edge pixels."""
    within = torch.remainder(index, 2 * side)
    return torch.minimum(within, 2 * side - 1 - within)


def blit(x: Tensor, flips: Tensor, turns: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """Flips, then turns, then shifts images; the border is filled by reflection.

    Args:
        x: Images (N, C, R, R).
        flips: (N,) booleans, left to right.
        turns: (N,) quarter turns counterclockwise.
        shift_x: (N,) whole pixels to the right.
        shift_y: (N,) whole pixels down.
    """
    side = x.shape[-1]
    row, column = _source_pixels(side, shift_x, shift_y, x.device)
    row, column = mirrored(row, side), mirrored(column, side)
    quarter = (turns.long() % 4)[:, None, None]
    flipped_row, flipped_column = side - 1 - row, side - 1 - column
    source_row = _pick(quarter, row, column, flipped_row, flipped_column)
    source_column = _pick(quarter, column, flipped_row, flipped_column, row)
    source_column = torch.where(flips[:, None, None], side - 1 - source_column, source_column)
    return _gather(x, source_row, source_column)


def shift_into_zeros(x: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """Shifts images by whole pixels (N,), right and down; the border is filled with 0."""
    side = x.shape[-1]
    row, column = _source_pixels(side, shift_x, shift_y, x.device)
    inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    moved = _gather(x, row.clamp(0, side - 1), column.clamp(0, side - 1))
    return moved * inside[:, None].to(x.dtype)


def _source_pixels(side: int, shift_x: Tensor, shift_y: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the rows and columns (N, R, R) of the pixels that shifted images show."""
    at = torch.arange(side, device=device)
    row, column = at[None, :, None] - shift_y.long()[:, None, None], at[None, None, :] - shift_x.long()[:, None, None]
    shape = (len(shift_x), side, side)
    return row.expand(shape), column.expand(shape)


def _pick(quarter: Tensor, none: Tensor, one: Tensor, two: Tensor, three: Tensor) -> Tensor:
    """Selects by the number of quarter turns."""
    return torch.where(quarter == 0, none, torch.where(quarter == 1, one, torch.where(quarter == 2, two, three)))


def _gather(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Reads the pixels at `row` and `column` (N, R, R) in every channel."""
    n, c, h, w = x.shape
    index = (row * w + column).reshape(n, 1, h * w).expand(n, c, h * w)
    return x.reshape(n, c, h * w).gather(2, index).reshape(n, c, h, w)
