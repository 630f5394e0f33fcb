"""Random numbers (RNG) of a step, addressed instead of stored: (seed, images seen, purpose) decides every number.

A checkpoint holds no RNG state, and the same images seen get the same noise whatever came before.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

# What the numbers are for; each purpose has its own stream.
D_LATENTS, G_LATENTS, MIXING, FAKE_LABELS, G_LABELS = range(5)


def purpose(name: str) -> int:
    """Returns the stream of a name: the same in every version and on every machine, and none of those above."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") | 1 << 63


def stream_seed(seed: int, nimg: int, purpose: int) -> int:
    """Returns the seed of one stream of random numbers, 0 to below 2**63."""
    return int(np.random.SeedSequence((seed, nimg, purpose)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, nimg: int, purpose: int, device: torch.device) -> torch.Generator:
    """Returns a random number generator on `device` for one stream."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, nimg, purpose))


def normal(seed: int, nimg: int, purpose: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Float32 from N(0, 1), for the whole batch of all processes."""
    return torch.randn(shape, generator=generator(seed, nimg, purpose, device), device=device)


def uniform(seed: int, nimg: int, purpose: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Float32 from U[0, 1)."""
    return torch.rand(shape, generator=generator(seed, nimg, purpose, device), device=device)


def integers(seed: int, nimg: int, purpose: int, high: int, count: int) -> np.ndarray:
    """(count,) int64 from 0 to high - 1."""
    return np.random.default_rng(stream_seed(seed, nimg, purpose)).integers(0, high, count)
