"""Image pyramid by 2x2 means: all resolutions of an image, from full size to 4x4, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST = 4
# Halvings after which float32 (24 bits) holds every mean exactly: 8 bits of a pixel, and 2 more per halving.
_LAST_EXACT = 8


def pyramid(image: NDArray[np.uint8]) -> dict[int, NDArray[np.uint8]]:
    """Returns the levels of a square image, uint8 (R, R, C) with R a power of two: {R: (C, R, R), ..., 4: (C, 4, 4)}.

    Each level is the 2x2 mean of the level above in float32, rounded half to even only when it is stored (the rule of
    the reference release). Integer sums give the same bytes as long as float32 holds the means exactly, which is all
    the way from 1024x1024; lower levels of larger images are computed in float32. Raises `ValueError` for other shapes.
    """
    side = image.shape[0]
    if image.ndim != 3 or image.shape[1] != side or side < LOWEST or side & (side - 1):
        raise ValueError(f"a square picture with a power of two as its side is needed, got {image.shape}")
    levels = {side: np.ascontiguousarray(image.transpose(2, 0, 1))}
    if side == LOWEST:
        return levels
    # The first halving adds the two bytes of 16-bit numbers, which hold neighbouring pixels: four times as fast.
    pairs = levels[side].view("<u2")
    columns = (pairs & np.uint16(255)) + (pairs >> np.uint16(8))
    sums: NDArray[Any] = columns[:, 0::2] + columns[:, 1::2]
    halvings = 1
    while True:
        side //= 2
        levels[side] = _mean(sums, halvings)
        if side == LOWEST:
            return levels
        if halvings == 4:  # 16 bits hold sums of at most 16x16 pixels and the rounding
            sums = sums.astype(np.uint32)
        if halvings == _LAST_EXACT:
            sums = sums.astype(np.float32) * np.float32(4.0**-halvings)
        sums = _halve(sums)
        halvings += 1


def _halve(values: NDArray[Any]) -> NDArray[Any]:
    """Returns 2x2 sums of integers (C, R, R), or 2x2 means of float32 values."""
    if values.dtype == np.float32:
        corners = values[:, 0::2, 0::2] + values[:, 0::2, 1::2] + values[:, 1::2, 0::2] + values[:, 1::2, 1::2]
        return corners * np.float32(0.25)
    rows = values[:, 0::2] + values[:, 1::2]
    return rows[:, :, 0::2] + rows[:, :, 1::2]


def _mean(values: NDArray[Any], halvings: int) -> NDArray[np.uint8]:
    """Returns the level from sums of 4**halvings pixels (float32: from means), rounding ties to even."""
    if values.dtype == np.float32:
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)
    one, shift = values.dtype.type(1), values.dtype.type(2 * halvings)
    rounded = (values >> shift) & one  # an odd quotient rounds its tie up
    rounded += values
    rounded += (one << (shift - one)) - one
    rounded >>= shift
    return rounded.astype(np.uint8)
