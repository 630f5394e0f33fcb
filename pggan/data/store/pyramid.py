"""All resolutions of a picture, from full size to 4x4, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST = 4
# 2x2 means taken in a row after which float32 no longer holds every value exactly (8 bits and 2 more a level, of 24).
_LAST_EXACT = 8


def pyramid(image: NDArray[np.uint8]) -> dict[int, NDArray[np.uint8]]:
    """Levels of a square picture, uint8 (R, R, C) with R a power of two: {R: (C, R, R), ..., 4: (C, 4, 4)}.

    Each level is the 2x2 mean of the one above in float32 without rounding in between, rounded half to even for
    storage (the reference release's rule). Computed on integer sums as long as float32 holds the means exactly (from
    1024x1024 all the way), so that both ways give the same bytes; below that on float32, as the rule says.
    Raises `ValueError` for another shape.
    """
    side = image.shape[0]
    if image.ndim != 3 or image.shape[1] != side or side < LOWEST or side & (side - 1):
        raise ValueError(f"a square picture with a power of two as its side is needed, got {image.shape}")
    levels = {side: np.ascontiguousarray(image.transpose(2, 0, 1))}
    if side == LOWEST:
        return levels
    # The first halving takes two neighbours at once, as the two bytes of a 16-bit number: four times as fast.
    pairs = levels[side].view("<u2")
    columns = (pairs & np.uint16(255)) + (pairs >> np.uint16(8))
    sums: NDArray[Any] = columns[:, 0::2] + columns[:, 1::2]
    halvings = 1
    while True:
        side //= 2
        levels[side] = _mean(sums, halvings)
        if side == LOWEST:
            return levels
        if halvings == 4:  # 16 bits hold the sums of 16x16 pixels (and a rounding), no more
            sums = sums.astype(np.uint32)
        if halvings == _LAST_EXACT:
            sums = sums.astype(np.float32) * np.float32(4.0**-halvings)
        sums = _halve(sums)
        halvings += 1


def _halve(values: NDArray[Any]) -> NDArray[Any]:
    """Sums of 2x2 values (C, R, R); means where they are float32, which the integers' scale cannot follow."""
    if values.dtype == np.float32:
        corners = values[:, 0::2, 0::2] + values[:, 0::2, 1::2] + values[:, 1::2, 0::2] + values[:, 1::2, 1::2]
        return corners * np.float32(0.25)
    rows = values[:, 0::2] + values[:, 1::2]
    return rows[:, :, 0::2] + rows[:, :, 1::2]


def _mean(values: NDArray[Any], halvings: int) -> NDArray[np.uint8]:
    """The level itself: sums of 4**halvings pixels divided, ties to the even neighbour."""
    if values.dtype == np.float32:
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)
    one, shift = values.dtype.type(1), values.dtype.type(2 * halvings)
    rounded = (values >> shift) & one  # an odd quotient rounds its tie up
    rounded += values
    rounded += (one << (shift - one)) - one
    rounded >>= shift
    return rounded.astype(np.uint8)
