"""Finds the same photograph twice: resized, recompressed, or its neighbour in a burst."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pggan.data.sources.image_io import to_pil

# The hash is SIDE x SIDE signs. Pictures that differ in at most MOST_DIFFERENT of them are one. Measured: copies of
# half the size saved as JPEG of quality 75 differ in 6 (median) to 20, two of 4,000 aligned portraits in 26 or more.
SIDE, MOST_DIFFERENT = 16, 20
# So many bands of the hash that two hashes with no more differences have one band in common.
_BANDS = MOST_DIFFERENT + 1
_BITS = SIDE * SIDE // _BANDS


def difference_hash(picture: NDArray[np.uint8]) -> int:
    """Returns whether each cell of a small grey copy of a picture (H, W, C) is brighter than its left neighbour."""
    grey = to_pil(picture).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    cells = np.asarray(grey, np.int16)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


class DuplicateFinder:
    """Compares pictures with all before them, by their hashes, in about constant time for each."""

    def __init__(self) -> None:
        self._bands: list[dict[int, list[tuple[int, str]]]] = [{} for _ in range(_BANDS)]

    def find(self, name: str, value: int) -> str | None:
        """Returns the name of an earlier picture that this one shows again, and remembers it otherwise."""
        buckets = [
            found.setdefault(value >> (band * _BITS) & ((1 << _BITS) - 1), []) for band, found in enumerate(self._bands)
        ]
        for bucket in buckets:
            for other, earlier in bucket:
                if (value ^ other).bit_count() <= MOST_DIFFERENT:
                    return earlier
        for bucket in buckets:
            bucket.append((value, name))
        return None
