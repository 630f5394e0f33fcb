"""Moves of whole pixels: mirroring, quarter turns and translations, exact copies of pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def mirrored(index: Tensor, side: int) -> Tensor:
    """Any whole coordinate to 0 .. side - 1, as if the picture were mirrored at its edges again and again."""
    within = torch.remainder(index, 2 * side)
    return torch.minimum(within, 2 * side - 1 - within)


def blit(x: Tensor, flips: Tensor, turns: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """Mirrors left to right where `flips` (N,) is true, then turns by `turns` (N,) quarters counterclockwise, then
    shifts by whole pixels (N,), right and down; what comes in is the picture mirrored at its edge.
    """
    side = x.shape[-1]
    row, column = _places(side, shift_x, shift_y, x.device)
    row, column = mirrored(row, side), mirrored(column, side)
    quarter = (turns.long() % 4)[:, None, None]
    far_row, far_column = side - 1 - row, side - 1 - column
    source_row = _pick(quarter, row, column, far_row, far_column)
    source_column = _pick(quarter, column, far_row, far_column, row)
    source_column = torch.where(flips[:, None, None], side - 1 - source_column, source_column)
    return _gather(x, source_row, source_column)


def shift_into_zeros(x: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """Shifts by whole pixels (N,), right and down; what comes in is 0."""
    side = x.shape[-1]
    row, column = _places(side, shift_x, shift_y, x.device)
    inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    moved = _gather(x, row.clamp(0, side - 1), column.clamp(0, side - 1))
    return moved * inside[:, None].to(x.dtype)


def _places(side: int, shift_x: Tensor, shift_y: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns (N, R, R) that are read where a picture is shifted."""
    at = torch.arange(side, device=device)
    row, column = at[None, :, None] - shift_y.long()[:, None, None], at[None, None, :] - shift_x.long()[:, None, None]
    shape = (len(shift_x), side, side)
    return row.expand(shape), column.expand(shape)


def _pick(quarter: Tensor, none: Tensor, one: Tensor, two: Tensor, three: Tensor) -> Tensor:
    return torch.where(quarter == 0, none, torch.where(quarter == 1, one, torch.where(quarter == 2, two, three)))


def _gather(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    n, c, h, w = x.shape
    index = (row * w + column).reshape(n, 1, h * w).expand(n, c, h * w)
    return x.reshape(n, c, h * w).gather(2, index).reshape(n, c, h, w)
