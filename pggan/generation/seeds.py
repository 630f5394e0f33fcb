"""Lists of seeds, stored as ranges so that millions take no memory (free of torch and numpy)."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import overload

from pggan.utils.errors import UsageError

MAX_SEED = 2**32 - 1


class Seeds(Sequence[int]):
    """A sequence of seeds, 0 to 2**32 - 1, stored as ascending ranges in their order. Slices are `Seeds`, too."""

    def __init__(self, ranges: Iterable[range]) -> None:
        joined: list[range] = []  # adjacent ones as one
        for run in filter(None, ranges):
            if run.step != 1 or run[0] < 0 or run[-1] > MAX_SEED:
                raise UsageError(f"seeds {run[0]} to {run[-1]} are not from 0 to {MAX_SEED}")
            if joined and joined[-1].stop == run.start:
                run = range(joined.pop().start, run.stop)
            joined.append(run)
        self.ranges = tuple(joined)
        self._ends = list(accumulate(map(len, self.ranges)))  # positions after each range

    @classmethod
    def parse(cls, text: str) -> Seeds:
        """Parses `12`, `5-9` (both ends included) or a list `0,5-9,12`; raises `UsageError` for other text."""
        return cls(_parse_part(part.strip(), text) for part in text.split(","))

    @classmethod
    def of(cls, seeds: Iterable[int]) -> Seeds:
        """Makes `Seeds` of any numbers, consecutive ones as a range; raises `UsageError` for one out of range."""
        if isinstance(seeds, Seeds):
            return seeds
        if isinstance(seeds, range) and seeds.step == 1:
            return cls([seeds])
        return cls(range(seed, seed + 1) for seed in map(int, seeds))

    def repeated(self) -> int | None:
        """Returns a seed that occurs more than once, None if all differ."""
        runs = sorted(self.ranges, key=lambda run: run.start)
        return next((b.start for a, b in pairwise(runs) if b.start < a.stop), None)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Seeds: ...
    def __getitem__(self, index: int | slice) -> int | Seeds:
        positions = range(len(self))[index]
        if isinstance(positions, int):
            i = bisect_right(self._ends, positions)
            return self.ranges[i][positions - self._ends[i]]  # negative: counted from the range's end
        if positions.step != 1:
            return Seeds.of(self[position] for position in positions)
        return Seeds(self._slice(positions.start, positions.stop))

    def _slice(self, start: int, stop: int) -> Iterator[range]:
        for i in range(bisect_right(self._ends, start), len(self.ranges)):
            run, offset = self.ranges[i], self._ends[i] - len(self.ranges[i])
            if offset >= stop:
                return
            yield run[max(0, start - offset) : stop - offset]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seeds) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __str__(self) -> str:
        """Returns the text that `parse` reads."""
        return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in self.ranges)

    def __repr__(self) -> str:
        return f"Seeds.parse({str(self)!r})"


def check_seeds(seeds: Iterable[int]) -> None:
    """Raises `UsageError` for a seed out of range, or that is no whole number."""
    for seed in () if isinstance(seeds, Seeds) else seeds:
        try:
            number = operator.index(seed)
        except TypeError:
            raise UsageError(f"seed {seed!r} is no whole number") from None
        if not 0 <= number <= MAX_SEED:
            raise UsageError(f"seed {seed} is not from 0 to {MAX_SEED}")


def _parse_part(part: str, text: str) -> range:
    first, dash, last = (number.strip() for number in part.partition("-"))
    ends = [first, last] if dash else [first]
    shown = text if len(text) <= 40 else text[:37] + "..."
    if not all(end.isascii() and end.isdecimal() and len(end) <= 20 for end in ends):
        raise UsageError(f"{shown!r} is not a list of seeds like 7 or 0,5-9,12")
    low, high = int(ends[0]), int(ends[-1])
    if high > MAX_SEED or low > MAX_SEED:
        raise UsageError(f"seed {max(low, high)} is too large; seeds go from 0 to {MAX_SEED}")
    if low > high:
        raise UsageError(f"the range {part} runs backwards; write {high}-{low}")
    return range(low, high + 1)
