"""Latents: one seed addresses one picture, whatever the batch, the count or the other seeds (numpy only)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

MAX_SEED = 2**32 - 1


def seed_latent(seed: int, latent_size: int) -> NDArray[np.float32]:
    """The latent of a seed, (latent_size,): `RandomState(seed).randn(latent_size)`, as the StyleGAN tools draw it."""
    return np.random.RandomState(seed).randn(latent_size).astype(np.float32)


def seed_latents(seeds: Iterable[int], latent_size: int) -> NDArray[np.float32]:
    """(N, latent_size)."""
    rows = [seed_latent(seed, latent_size) for seed in seeds]
    return np.stack(rows) if rows else np.zeros((0, latent_size), np.float32)


def one_hot(classes: Iterable[int], size: int) -> NDArray[np.float32]:
    """(N, size); a class of -1 (unknown) is a row of zeros."""
    wanted = np.asarray(list(classes), dtype=np.int64)
    rows = np.zeros((len(wanted), size), np.float32)
    known = wanted >= 0
    rows[np.flatnonzero(known), wanted[known]] = 1
    return rows
