"""The order of pictures: a pure function of the seed and the images seen, cut up among processes by position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import DataError

# Stream of the split in two, beside the epochs' ones.
SPLIT = 0x5B117
# Fewest pictures held out that a mean over them says something of.
LEAST_HELD_OUT = 8


def split(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Picture numbers to train on and those held out, ascending, decided by (seed, count, share) alone.

    Of one seed, a larger share holds out those of a smaller one, too. Raises `DataError` where either side would be
    left with too few.
    """
    held = round(count * share)
    if share and (held < LEAST_HELD_OUT or count - held < 1):
        need = LEAST_HELD_OUT / count
        mend = "leave it out: there are too few pictures"
        if held >= LEAST_HELD_OUT:
            mend = "give less, so that some are left to train on"
        elif need < 0.5:
            mend = f"give {np.ceil(need * 100) / 100:g} or more"
        raise DataError(f"--held-out {share:g} of {count} pictures holds out {held}; {mend}")
    order = np.random.default_rng((seed, SPLIT, SPLIT)).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


class Sampler:
    """Each epoch is a permutation decided by (seed, epoch) and shows each picture once.

    Position p is the p-th image that training sees, counted over all processes from the run's beginning; what stands
    there depends on nothing else, so that resuming and the number of workers or processes change nothing. `among`:
    the picture numbers that take part, where not all `count` do.
    """

    def __init__(self, count: int, seed: int, mirror: bool = True, among: NDArray[np.int64] | None = None) -> None:
        self.among = among
        self.count = count if among is None else len(among)
        if self.count < 1:
            raise DataError("the data holds no pictures; prepare it again")
        self.seed, self.mirror = seed, mirror
        self._epochs: dict[int, tuple[NDArray[np.int64], NDArray[np.bool_]]] = {}

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if epoch not in self._epochs:
            random = np.random.default_rng((self.seed, epoch))
            order = random.permutation(self.count)
            if self.among is not None:
                order = self.among[order]
            mirrored = random.random(self.count) < 0.5 if self.mirror else np.zeros(self.count, bool)
            # two epochs at a time: a batch may reach over a border
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1} | {epoch: (order, mirrored)}
        return self._epochs[epoch]

    def at(self, nimg: int, count: int, rank: int = 0, world: int = 1) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Picture numbers (n,) and whether each is mirrored (n,): of the positions `nimg` to `nimg + count - 1` those
        that leave the remainder `rank` when divided by `world`; all of them for one process.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        end, nimg = nimg + count, nimg + (rank - nimg) % world
        indices, mirrored = [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
        while nimg < end:
            epoch, start = divmod(nimg, self.count)
            order, flips = self._epoch(epoch)
            part = slice(start, start + end - nimg, world)
            indices.append(order[part])
            mirrored.append(flips[part])
            nimg += len(indices[-1]) * world
        return np.concatenate(indices), np.concatenate(mirrored)
