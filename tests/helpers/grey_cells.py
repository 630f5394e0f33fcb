"""Grey cells of a picture with a given difference hash."""

from __future__ import annotations

import numpy as np

from pggan.data.photos.duplicates import SIDE


def cells_of(value: int) -> bytes:
    """Returns cells whose hash is `value`: each differs by 3 from its left neighbour."""
    signs = np.unpackbits(np.frombuffer(value.to_bytes(SIDE * SIDE // 8, "big"), np.uint8)).reshape(SIDE, SIDE)
    steps = np.pad(np.where(signs, 3, -3), ((0, 0), (1, 0)))
    return (128 + steps.cumsum(axis=1)).astype(np.uint8).tobytes()
