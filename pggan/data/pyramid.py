"""All resolutions of a picture, from full size to 4x4, in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOWEST = 4


def pyramid(image: NDArray[np.uint8]) -> dict[int, NDArray[np.uint8]]:
    """Levels of a square picture, uint8 (R, R, C) with R a power of two: {R: (C, R, R), ..., 4: (C, 4, 4)}.

    Each level is the 2x2 mean of the one above in float32 without rounding in between, rounded half to even for
    storage (the reference release's rule). Computed on integer sums: below 2**24 float32 holds them exactly, so that
    both ways give the same bytes (up to 1024x1024, tested).
    """
    side = image.shape[0]
    if image.ndim != 3 or image.shape[1] != side or side < LOWEST or side & (side - 1):
        raise ValueError(f"a square picture with a power of two as its side is needed, got {image.shape}")
    levels = {side: np.ascontiguousarray(image.transpose(2, 0, 1))}
    # sums of 4**k pixels: 16 bits hold those of 16 by 16 pixels at most
    sums = levels[side].astype(np.uint16)
    shift = 0
    while side > LOWEST:
        if shift == 8:
            sums = sums.astype(np.uint32)
        rows = sums[:, 0::2] + sums[:, 1::2]
        sums = rows[:, :, 0::2] + rows[:, :, 1::2]
        side, shift = side // 2, shift + 2
        levels[side] = _round_half_even(sums, shift)
    return levels


def _round_half_even(sums: NDArray[np.unsignedinteger], shift: int) -> NDArray[np.uint8]:
    """`sums / 2**shift` rounded, ties to the even neighbour."""
    wide = sums.astype(np.uint32)
    odd = (wide >> shift) & 1
    return ((wide + ((1 << (shift - 1)) - 1) + odd) >> shift).astype(np.uint8)
