"""Finds the same photograph twice: resized, recompressed, or its neighbour in a burst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pggan.data.sources.image_io import to_pil

# The hash is SIDE x SIDE signs. Pictures that differ in at most MOST_DIFFERENT of them are one. Measured: copies of
# half the size saved as JPEG of quality 75 differ in 6 (median) to 20, two of 4,000 aligned portraits in 26 or more.
SIDE, MOST_DIFFERENT = 16, 20
# Bands of a hash: one more than the differences, so that two hashes of one picture have a band in common.
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
        earlier = next(self.near(value), None)
        if earlier is None:
            self.add(name, value)
        return earlier

    def near(self, value: int) -> Iterator[str]:
        """Yields the names of pictures that this one shows again; a name may come several times."""
        for bucket in self._buckets(value):
            for other, earlier in bucket:
                if (value ^ other).bit_count() <= MOST_DIFFERENT:
                    yield earlier

    def add(self, name: str, value: int) -> None:
        """Remembers a picture."""
        for bucket in self._buckets(value):
            bucket.append((value, name))

    def _buckets(self, value: int) -> list[list[tuple[int, str]]]:
        return [
            buckets.setdefault(value >> (band * _BITS) & ((1 << _BITS) - 1), [])
            for band, buckets in enumerate(self._bands)
        ]


class DuplicateGroups:
    """Groups pictures that show the same: two are in one group where near-equal pictures lead from one to the other."""

    def __init__(self) -> None:
        self._finder = DuplicateFinder()
        self._before: dict[str, str] = {}  # by picture: one of its group that came before; itself for the first one

    def add(self, name: str, value: int) -> None:
        """Compares a picture with all before it."""
        self._before[name] = name
        for earlier in set(self._finder.near(value)):
            one, other = self.first(earlier), self.first(name)
            self._before[other] = one
        self._finder.add(name, value)

    def first(self, name: str) -> str:
        """Returns the picture that stands for the group of this one."""
        while (before := self._before[name]) != name:
            self._before[name] = self._before[before]  # shortens the way
            name = before
        return name

    def numbers(self) -> dict[str, int]:
        """Returns the number of each picture's group, from 1 in their order; lone pictures have none."""
        sizes = Counter(map(self.first, self._before))
        numbers: dict[str, int] = {}  # by the first picture
        return {
            name: numbers.setdefault(first, len(numbers) + 1)
            for name in self._before
            if sizes[first := self.first(name)] > 1
        }
