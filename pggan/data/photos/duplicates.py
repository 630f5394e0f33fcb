"""Finds the same photograph twice: resized, recompressed, or its neighbour in a burst."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pggan.data.sources.image_io import to_pil

# The hash is SIDE x SIDE signs. Pictures that differ in at most MOST_DIFFERENT of them may be one. Measured: copies of
# half the size saved as JPEG of quality 75 differ in 6 (median) to 20, two of 4,000 aligned portraits in 26 or more.
SIDE, MOST_DIFFERENT = 16, 20
# Grey cells from which the hash is made: SIDE rows of one more.
CELLS = SIDE * (SIDE + 1)
# On a plain ground most signs say nothing: of 600 aligned heads masked on white or black, 9 to 22 % of the pairs have
# such hashes. So pictures with more than MOST_FLAT steps of at most FLAT_STEP between cells are compared by the cells,
# too: standard deviation of the difference, of 255. Measured, masked: copies as above differ by at most 2.1 (of
# 128x128: 2.5), 5 % brighter ones by at most 4.4, so that a few of those are missed; different people by at least 4.3
# (in 180,000 pairs of each of two sets). Flat steps: 131 or more of masked heads; of portraits with their grounds 35 to
# 49 (medians of four sets).
FLAT_STEP, MOST_FLAT, MOST_DEVIATION = 2, 80, 4.0
# Bands of a hash: one more than the differences, so that two hashes of one picture have a band in common.
_BANDS = MOST_DIFFERENT + 1
_BITS = SIDE * SIDE // _BANDS
# Number of signs that differ, by the exclusive or of 16 of them.
_ONES = np.array([value.bit_count() for value in range(1 << 16)], np.uint8)


def grey_cells(picture: NDArray[np.uint8]) -> bytes:
    """Returns a small grey copy of a picture (H, W, C): SIDE rows of SIDE + 1 cells, by which it is compared."""
    return to_pil(picture).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX).tobytes()


def difference_hash(cells: bytes) -> int:
    """Returns the signs that say whether each cell is brighter than its left neighbour."""
    return int.from_bytes(np.packbits(_steps(cells) > 0).tobytes(), "big")


def _steps(cells: bytes) -> NDArray[np.int16]:
    return np.diff(np.frombuffer(cells, np.uint8).astype(np.int16).reshape(SIDE, SIDE + 1), axis=1)


def _words(value: int) -> NDArray[np.uint16]:
    return np.frombuffer(value.to_bytes(SIDE * SIDE // 8, "big"), np.uint16)


class DuplicateFinder:
    """Compares pictures with all before them, by their grey cells; only those of a similar hash cost time."""

    def __init__(self) -> None:
        self._bands: list[dict[int, list[int]]] = [{} for _ in range(_BANDS)]
        self._names: list[str] = []
        # hashes and cells, with room for more
        self._hashes: NDArray[np.uint16] = np.zeros((64, SIDE * SIDE // 16), np.uint16)
        self._cells: NDArray[np.uint8] = np.zeros((64, CELLS), np.uint8)

    def find(self, name: str, cells: bytes) -> str | None:
        """Returns the name of the first picture that this one shows again, and remembers it where there is none."""
        earlier = next(iter(self.near(cells)), None)
        if earlier is None:
            self.add(name, cells)
        return earlier

    def near(self, cells: bytes) -> list[str]:
        """Returns the names of the pictures that this one shows again, in their order."""
        near = self._similar(difference_hash(cells))
        if len(near) and (np.abs(_steps(cells)) <= FLAT_STEP).sum() > MOST_FLAT:
            deviations = (self._cells[near].astype(np.float32) - np.frombuffer(cells, np.uint8)).std(axis=1)
            near = near[deviations <= MOST_DEVIATION]
        return [self._names[number] for number in near]

    def _similar(self, value: int) -> NDArray[np.int64]:
        """Returns the numbers of the pictures with a similar hash, ascending."""
        buckets = self._buckets(value)
        numbers = np.arange(len(self._names))
        if sum(map(len, buckets)) < len(numbers):  # plain grounds share bands: all at once cost less then
            numbers = np.array(sorted(set().union(*buckets)), np.int64)
        different = _ONES[self._hashes[numbers] ^ _words(value)].sum(axis=1, dtype=np.uint16)
        return numbers[different <= MOST_DIFFERENT]

    def add(self, name: str, cells: bytes) -> None:
        """Remembers a picture."""
        value, number = difference_hash(cells), len(self._names)
        for bucket in self._buckets(value):
            bucket.append(number)
        self._names.append(name)
        if number == len(self._hashes):
            self._hashes = np.resize(self._hashes, (2 * number, self._hashes.shape[1]))
            self._cells = np.resize(self._cells, (2 * number, CELLS))
        self._hashes[number], self._cells[number] = _words(value), np.frombuffer(cells, np.uint8)

    def _buckets(self, value: int) -> list[list[int]]:
        return [
            buckets.setdefault(value >> (band * _BITS) & ((1 << _BITS) - 1), [])
            for band, buckets in enumerate(self._bands)
        ]


class DuplicateGroups:
    """Groups pictures that show the same: two are in one group where near-equal pictures lead from one to the other."""

    def __init__(self) -> None:
        self._finder = DuplicateFinder()
        self._before: dict[str, str] = {}  # by picture: one of its group that came before; itself for the first one

    def add(self, name: str, cells: bytes) -> None:
        """Compares a picture with all before it."""
        self._before[name] = name
        for earlier in self._finder.near(cells):
            one, other = self.first(earlier), self.first(name)
            self._before[other] = one
        self._finder.add(name, cells)

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
