"""The order of training images: a function of the seed and the images seen, divided among processes by position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pggan.data.duplicate_groups import Groups, split_between_groups
from pggan.utils.errors import DataError

# Seed of the held-out split, distinct from those of the epochs.
SPLIT = 0x5B117
# Fewest held-out images of which a mean is meaningful.
MIN_HELD_OUT = 8


def split_held_out(
    count: int, share: float, seed: int, groups: Groups | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits image numbers into those to train on and those held out, both ascending.

    Only (count, share, seed, groups) decides. With the same seed, a larger share includes the images of a smaller one.

    Args:
        count: Images of the store.
        share: To hold out, from 0 to 1.
        seed: Of the run.
        groups: Images that show the same, which come into the same part; these change how many are held out.

    Raises:
        DataError: Either part would be too small.
    """
    held = round(count * share)
    if share and (held < MIN_HELD_OUT or count - held < 1):
        needed = MIN_HELD_OUT / count
        advice = "leave it out: there are too few pictures"
        if held >= MIN_HELD_OUT:
            advice = "give less, so that some are left to train on"
        elif needed < 0.5:
            advice = f"give {np.ceil(needed * 100) / 100:g} or more"
        raise DataError(f"--held-out {share:g} of {count} pictures holds out {held}; {advice}")
    order = np.random.default_rng((seed, SPLIT, SPLIT)).permutation(count)
    if share and groups:
        order, held = split_between_groups(order, groups, held, MIN_HELD_OUT)
        if not held:
            raise DataError(
                f"--held-out {share:g}: these {count} pictures are too few different ones, duplicates would be parted; "
                "prepare them with --duplicates drop, or leave it out"
            )
    return np.sort(order[held:]), np.sort(order[:held])


class Sampler:
    """Returns which image is at which position of the training.

    Each epoch is a permutation, decided by (seed, epoch), that shows each image once. Position p is the p-th image
    that training sees, counted over all processes from the beginning of the run. Nothing else matters, so that
    resuming and the number of workers or processes change nothing.

    Args:
        count: Images of the store.
        seed: Of the order.
        mirror: Flip half of the images.
        among: Numbers of the images to use; None: all.
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
            # two epochs are stored: a batch may span both
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1} | {epoch: (order, mirrored)}
        return self._epochs[epoch]

    def at(self, nimg: int, count: int, rank: int = 0, world: int = 1) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns image numbers (n,) and whether each is mirrored (n,).

        Args:
            nimg: The first position.
            count: Number of positions, of all processes together.
            rank: Take the positions p with p % world == rank.
            world: Number of processes.
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
