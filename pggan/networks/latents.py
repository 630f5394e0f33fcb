"""Latents and structured codes of seeds: a seed gives the same image in any batch (numpy only)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import UsageError


def seed_latents(seeds: Iterable[int], latent_size: int) -> NDArray[np.float32]:
    """Returns the latents of seeds, (N, latent_size): `RandomState(seed).randn(latent_size)`, as in StyleGAN."""
    state, rows = np.random.RandomState(0), []
    for seed in seeds:
        state.seed(seed)  # the same as a new RandomState(seed), in a tenth of its time
        rows.append(state.randn(latent_size).astype(np.float32))
    return np.stack(rows) if rows else np.zeros((0, latent_size), np.float32)


def one_hot(classes: Iterable[int], size: int) -> NDArray[np.float32]:
    """Returns one-hot rows (N, size) of class numbers; the unknown class -1 is a row of zeros."""
    numbers = np.asarray(list(classes), dtype=np.int64)
    rows = np.zeros((len(numbers), size), np.float32)
    known = numbers >= 0
    rows[np.flatnonzero(known), numbers[known]] = 1
    return rows


# Second word of the random seed of codes: their own stream leaves a seed's latent and class the same without codes.
CODES_STREAM = 1
# Bound of continuous codes that users set. Training draws them from U(-1, 1).
MAX_CONTINUOUS = 3.0
# A traversal that is not told otherwise: values in a row, and continuous codes from minus this to this.
TRAVERSE_STEPS, TRAVERSE_REACH = 10, 1.0


@dataclass(frozen=True)
class CodeSpace:
    """The structured codes of a model (InfoGAN), numbered from 0, categorical ones first.

    The generator reads a row of `size` numbers: categorical codes one-hot, then continuous codes.
    """

    # number of values of each categorical code
    categorical: tuple[int, ...] = ()
    # number of continuous codes
    continuous: int = 0

    @property
    def size(self) -> int:
        """Length of a row of codes."""
        return sum(self.categorical) + self.continuous

    @property
    def count(self) -> int:
        """Number of codes."""
        return len(self.categorical) + self.continuous

    def draw(self, random: np.random.Generator | np.random.RandomState, count: int) -> NDArray[np.float32]:
        """Draws rows (count, size): categorical codes uniformly, continuous codes from U(-1, 1)."""
        rows = np.zeros((count, self.size), np.float32)
        at = 0
        for values in self.categorical:
            drawn = np.minimum((random.uniform(size=count) * values).astype(np.int64), values - 1)
            rows[np.arange(count), at + drawn] = 1
            at += values
        rows[:, at:] = random.uniform(-1, 1, (count, self.continuous))
        return rows

    def of_seeds(self, seeds: Iterable[int], chosen: Mapping[int, float] | None = None) -> NDArray[np.float32]:
        """Returns the codes of seeds, (N, size), with those in `chosen` (code number to value) replaced.

        Raises `UsageError` for a code or a value that does not exist.
        """
        drawn = [self.draw(np.random.RandomState([seed, CODES_STREAM]), 1) for seed in seeds]
        rows = np.concatenate(drawn) if drawn else np.zeros((0, self.size), np.float32)
        for number, value in (chosen or {}).items():
            self.set_code(rows, number, value)
        return rows

    def set_code(self, rows: NDArray[np.float32], number: int, value: float) -> None:
        """Sets code `number` in rows (N, size), in place. Raises `UsageError` for a code or value that is not there."""
        if not 0 <= number < self.count:
            has = f"codes 0 to {self.count - 1}" if self.count else "no codes"
            raise UsageError(f"this model has {has}, not a code {number}")
        if number < len(self.categorical):
            values = self.categorical[number]
            if not 0 <= value < values or value != int(value):  # in this order NaN and infinity are refused, too
                raise UsageError(f"code {number} has the values 0 to {values - 1}, not {value:g}")
            at = sum(self.categorical[:number])
            rows[:, at : at + values] = 0
            rows[:, at + int(value)] = 1
        else:
            if not -MAX_CONTINUOUS <= value <= MAX_CONTINUOUS:  # refuses NaN, too
                raise UsageError(f"code {number} goes from {-MAX_CONTINUOUS:g} to {MAX_CONTINUOUS:g}, not to {value:g}")
            rows[:, sum(self.categorical) + number - len(self.categorical)] = value

    def describe(self, row: NDArray[np.float32]) -> list[float]:
        """Returns the values of all codes in a row (size,): categorical ones as their index."""
        *one_hots, continuous = np.split(row, np.cumsum(self.categorical))
        return [*(int(part.argmax()) for part in one_hots), *(round(float(value), 6) for value in continuous)]
