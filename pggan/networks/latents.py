"""Latents and structured codes: one seed addresses one picture, whatever the batch, the count or the other seeds
(numpy only).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import UsageError

MAX_SEED = 2**32 - 1


def seed_latent(seed: int, latent_size: int) -> NDArray[np.float32]:
    """The latent of a seed, (latent_size,): `RandomState(seed).randn(latent_size)`, as the StyleGAN tools draw it."""
    return seed_latents([seed], latent_size)[0]


def seed_latents(seeds: Iterable[int], latent_size: int) -> NDArray[np.float32]:
    """(N, latent_size): the latent of each seed."""
    state, rows = np.random.RandomState(0), []
    for seed in seeds:
        state.seed(seed)  # as a new RandomState(seed), in a tenth of its time
        rows.append(state.randn(latent_size).astype(np.float32))
    return np.stack(rows) if rows else np.zeros((0, latent_size), np.float32)


def one_hot(classes: Iterable[int], size: int) -> NDArray[np.float32]:
    """(N, size); a class of -1 (unknown) is a row of zeros."""
    wanted = np.asarray(list(classes), dtype=np.int64)
    rows = np.zeros((len(wanted), size), np.float32)
    known = wanted >= 0
    rows[np.flatnonzero(known), wanted[known]] = 1
    return rows


# Codes have a stream of their own, so that a seed's latent and classes are the same with and without them.
CODES = 1
# Continuous codes are drawn from -1 to 1; pictures may be asked for beyond.
FURTHEST = 3.0


@dataclass(frozen=True)
class CodeSpace:
    """Structured codes (InfoGAN): `categorical`, the number of values of each; `continuous`, how many.

    Codes are numbered from 0, categorical ones first. As the generator takes them: categorical ones one-hot, then the
    continuous ones, `size` numbers in all.
    """

    categorical: tuple[int, ...] = ()
    continuous: int = 0

    @property
    def size(self) -> int:
        return sum(self.categorical) + self.continuous

    @property
    def count(self) -> int:
        """How many codes there are."""
        return len(self.categorical) + self.continuous

    def draw(self, random: np.random.Generator | np.random.RandomState, count: int) -> NDArray[np.float32]:
        """(count, size): categorical codes evenly, continuous ones from U(-1, 1)."""
        rows = np.zeros((count, self.size), np.float32)
        at = 0
        for values in self.categorical:
            chosen = np.minimum((random.uniform(size=count) * values).astype(np.int64), values - 1)
            rows[np.arange(count), at + chosen] = 1
            at += values
        rows[:, at:] = random.uniform(-1, 1, (count, self.continuous))
        return rows

    def of_seeds(self, seeds: Iterable[int], chosen: Mapping[int, float] | None = None) -> NDArray[np.float32]:
        """The codes of seeds, (N, size), those of `chosen` (number to value) instead of the seeds' own.

        Raises `UsageError` for a code or a value that there is not.
        """
        drawn = [self.draw(np.random.RandomState([seed, CODES]), 1) for seed in seeds]
        rows = np.concatenate(drawn) if drawn else np.zeros((0, self.size), np.float32)
        for number, value in (chosen or {}).items():
            self.put(rows, number, value)
        return rows

    def put(self, rows: NDArray[np.float32], number: int, value: float) -> None:
        """Sets code `number` of codes (N, size). Raises `UsageError` for a code or a value that there is not."""
        if not 0 <= number < self.count:
            has = f"codes 0 to {self.count - 1}" if self.count else "no codes"
            raise UsageError(f"this model has {has}, not a code {number}")
        if number < len(self.categorical):
            values = self.categorical[number]
            if value != int(value) or not 0 <= value < values:
                raise UsageError(f"code {number} has the values 0 to {values - 1}, not {value:g}")
            at = sum(self.categorical[:number])
            rows[:, at : at + values] = 0
            rows[:, at + int(value)] = 1
        else:
            if not -FURTHEST <= value <= FURTHEST:  # nor NaN
                raise UsageError(f"code {number} goes from {-FURTHEST:g} to {FURTHEST:g}, not to {value:g}")
            rows[:, sum(self.categorical) + number - len(self.categorical)] = value

    def describe(self, row: NDArray[np.float32]) -> list[float]:
        """The value of every code of one row, (size,): numbers of categorical ones, the continuous ones themselves."""
        found: list[float] = []
        at = 0
        for values in self.categorical:
            found.append(int(row[at : at + values].argmax()))
            at += values
        return found + [round(float(value), 6) for value in row[at:]]
