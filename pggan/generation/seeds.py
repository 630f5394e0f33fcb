"""Seeds as ranges: a million of them take no memory. Torch-free and numpy-free."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import overload

from pggan.utils.errors import UsageError

MAX_SEED = 2**32 - 1


class Seeds(Sequence[int]):
    """A sequence of seeds from 0 to 2**32 - 1, kept as ascending ranges in the order given; slices are `Seeds` too."""

    def __init__(self, ranges: Iterable[range]) -> None:
        self.ranges = tuple(part for part in ranges if part)
        self._ends = list(accumulate(len(part) for part in self.ranges))
        for part in self.ranges:
            if part.step != 1 or part[0] < 0 or part[-1] > MAX_SEED:
                raise UsageError(f"seeds {part[0]} to {part[-1]} are not from 0 to {MAX_SEED}")

    @classmethod
    def parse(cls, text: str) -> Seeds:
        """Reads `12`, `5-9` (both ends included) or a list of them, `0,5-9,12`; raises `UsageError` otherwise."""
        return cls(_parse_part(part.strip(), text) for part in text.split(","))

    @classmethod
    def of(cls, seeds: Iterable[int]) -> Seeds:
        """Seeds of any numbers, neighbours joined; raises `UsageError` for one out of range."""
        if isinstance(seeds, Seeds):
            return seeds
        if isinstance(seeds, range) and seeds.step == 1:
            return cls([seeds])
        ranges: list[range] = []
        for seed in seeds:
            seed = int(seed)
            if ranges and ranges[-1].stop == seed:
                ranges[-1] = range(ranges[-1].start, seed + 1)
            else:
                ranges.append(range(seed, seed + 1))
        return cls(ranges)

    def repeated(self) -> int | None:
        """A seed that is there more than once, None if all differ."""
        parts = sorted(self.ranges, key=lambda part: part.start)
        return next((b.start for a, b in pairwise(parts) if b.start < a.stop), None)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Seeds: ...
    def __getitem__(self, index: int | slice) -> int | Seeds:
        places = range(len(self))[index]
        if isinstance(places, int):
            part = bisect_right(self._ends, places)
            return self.ranges[part][places - self._ends[part]]  # from the part's end: negative
        if places.step != 1:
            return Seeds.of(self[place] for place in places)
        return Seeds(self._between(places.start, places.stop))

    def _between(self, start: int, stop: int) -> Iterator[range]:
        for at in range(bisect_right(self._ends, start), len(self.ranges)):
            part, offset = self.ranges[at], self._ends[at] - len(self.ranges[at])
            if offset >= stop:
                return
            yield part[max(0, start - offset) : stop - offset]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seeds) and self._joined() == other._joined()

    def __hash__(self) -> int:
        return hash(self._joined())

    def __str__(self) -> str:
        """As `parse` reads it."""
        return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in self._joined())

    def __repr__(self) -> str:
        return f"Seeds.parse({str(self)!r})"

    def _joined(self) -> tuple[tuple[int, int], ...]:
        joined: list[tuple[int, int]] = []
        for part in self.ranges:
            if joined and joined[-1][1] + 1 == part[0]:
                joined[-1] = (joined[-1][0], part[-1])
            else:
                joined.append((part[0], part[-1]))
        return tuple(joined)


def _parse_part(part: str, whole: str) -> range:
    first, dash, last = (piece.strip() for piece in part.partition("-"))
    ends = [first, last] if dash else [first]
    shown = whole if len(whole) <= 40 else whole[:37] + "..."
    if not all(end.isascii() and end.isdecimal() and len(end) <= 20 for end in ends):
        raise UsageError(f"{shown!r} is not a list of seeds like 7 or 0,5-9,12")
    low, high = int(ends[0]), int(ends[-1])
    if high > MAX_SEED or low > MAX_SEED:
        raise UsageError(f"seed {max(low, high)} is too large; seeds go from 0 to {MAX_SEED}")
    if low > high:
        raise UsageError(f"the range {part} runs backwards; write {high}-{low}")
    return range(low, high + 1)
