"""Threads of this process, one a core, and what they compare: two sets of numbers, each in its own order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

# From so many numbers on counting takes a third of the time of sorting.
COUNTED = 1 << 18
BINS = 1 << 16  # their counts fit a core's cache
FULLEST = 1 / 64  # share of the numbers in one bin, above which bins are too coarse
PIECE = 1 << 18  # counted at once


@contextmanager
def cores(threads: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads, in each of which torch uses one core."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # what a thread sets holds for those that come after it


def compared(x: np.ndarray, y: np.ndarray, apart: float) -> float:
    """Mean of |x + apart - y| over as many float32 x and y, both in order: the Wasserstein distance of x + apart and y.

    The arrays are overwritten. Many numbers are counted in bins, which moves the result by some 1e-5 of it.
    """
    if len(x) >= COUNTED and (found := _counted(x, y, apart)) is not None:
        return found
    x.sort()  # numpy's uses vector instructions, torch's does not
    y.sort()
    x -= y
    x += apart
    return float(np.abs(x, out=x).mean())  # numpy sums pairwise: float32 loses nothing that is told


def _counted(x: np.ndarray, y: np.ndarray, apart: float) -> float | None:
    """The area between the two distributions, each a count in the same bins; None where too many share a bin."""
    pair = torch.from_numpy(x), torch.from_numpy(y)
    (x_low, x_high), (y_low, y_high) = ((float(low), float(high)) for low, high in (each.aminmax() for each in pair))
    low, high = min(x_low + apart, y_low), max(x_high + apart, y_high)
    if not 0 < high - low < float("inf"):
        return None
    scale = (BINS - 1) / (high - low)
    counts = [_bins(each, scale, (offset - low) * scale) for each, offset in zip(pair, (apart, 0.0))]
    if max(int(each.max()) for each in counts) > FULLEST * len(x):
        return None
    return float((counts[0] - counts[1]).cumsum(0).abs().sum()) / (scale * len(x))


def _bins(values: torch.Tensor, scale: float, offset: float) -> torch.Tensor:
    counts = torch.zeros(BINS, dtype=torch.int64)
    for part in values.split(PIECE):
        counts += torch.bincount((part * scale).add_(offset).clamp_(0, BINS - 1).to(torch.int32), minlength=BINS)
    return counts
