"""Walks through latent space, as pure functions of the frame's number: a walk of any length takes no memory.

The generator normalises its latents, so that only their direction counts: slerp and linear interpolation take the same
path, at an even and at an uneven speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pggan.networks.latents import seed_latents
from pggan.utils.errors import UsageError

METHODS = ("slerp", "linear")
# Seconds between the random points that a smooth walk passes by, and how far each is felt, in those.
POINT_SECONDS, REACH = 1.0, 4
FEWEST_POINTS = 3

Latents = NDArray[np.float32]


def slerp(a: NDArray[np.floating], b: NDArray[np.floating], t: float) -> NDArray[np.float64]:
    """Spherical interpolation of vectors (..., Z): the direction turns evenly, the length changes linearly.

    Where there is no arc (zero, parallel or opposite vectors) it is linear; never NaN.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = [np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b)]
    whole = np.maximum(lengths, 1e-300)
    units = a / whole[0], b / whole[1]
    dot = np.clip((units[0] * units[1]).sum(axis=-1, keepdims=True), -1, 1)
    angle = np.arccos(dot)
    sine = np.sin(angle)
    curved = (sine > 1e-6) & (lengths[0] > 0) & (lengths[1] > 0)
    safe = np.where(curved, sine, 1.0)
    turned = (np.sin((1 - t) * angle) * units[0] + np.sin(t * angle) * units[1]) / safe
    return np.where(curved, turned * ((1 - t) * lengths[0] + t * lengths[1]), (1 - t) * a + t * b)


@dataclass(frozen=True)
class LoopWalk:
    """A smooth random walk that ends where it began: points on a circle in time, blended by a Gaussian.

    One walk a grid cell, each of its own noise, decided by `seed`; at every frame a latent has unit variance.
    """

    frames: int
    cells: int
    latent_size: int
    fps: float
    seed: int = 0

    @property
    def points(self) -> int:
        return max(FEWEST_POINTS, round(self.frames / self.fps / POINT_SECONDS))

    def latents(self, frame: int) -> Latents:
        """(cells, latent_size) at a frame; frame `frames` is frame 0 again."""
        position = (frame % self.frames) / self.frames * self.points
        nearest = round(position)
        weights: dict[int, float] = {}
        for point in range(nearest - REACH, nearest + REACH + 1):
            at = point % self.points
            weights[at] = weights.get(at, 0.0) + float(np.exp(-0.5 * (position - point) ** 2))
        norm = float(np.sqrt(sum(w * w for w in weights.values())))
        noise = sum(w * self._noise(at) for at, w in sorted(weights.items()))
        return np.asarray(noise / norm, np.float32)

    def _noise(self, point: int) -> NDArray[np.float64]:
        # RandomState: its stream is frozen, so that a seed is the same walk under any numpy
        return np.random.RandomState([self.seed, point]).randn(self.cells, self.latent_size)


@dataclass(frozen=True)
class SeedWalk:
    """From picture to picture: the latents of `seeds` in turn, and back to the first one if `loop`.

    Cell k of a grid begins at the k-th seed.
    """

    frames: int
    cells: int
    latent_size: int
    seeds: Sequence[int]
    loop: bool = True
    method: str = "slerp"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"unknown method {self.method!r}; choose one of: {', '.join(METHODS)}")
        if len(self.seeds) < 2:
            raise UsageError("a walk between seeds needs two of them at least, as --seeds 3,8")

    def stage(self, frame: int) -> tuple[int, int, float]:
        """Places in `seeds` that a frame lies between, and how far from the first to the second, 0 to below 1."""
        count = len(self.seeds)
        segments, steps = (count, self.frames) if self.loop else (count - 1, max(1, self.frames - 1))
        whole, part = divmod(frame * segments, steps)
        return whole % count, (whole + 1) % count, part / steps

    def blend(self, rows: NDArray[np.floating], frame: int, method: str | None = None) -> Latents:
        """Rows (seeds, K) that belong to the seeds, blended for every cell at a frame: (cells, K)."""
        first, second, t = self.stage(frame)
        count = len(self.seeds)
        a = rows[[(first + cell) % count for cell in range(self.cells)]]
        b = rows[[(second + cell) % count for cell in range(self.cells)]]
        mixed = slerp(a, b, t) if (method or self.method) == "slerp" else (1 - t) * a + t * b
        return np.asarray(mixed, np.float32)

    @cached_property
    def _rows(self) -> Latents:
        return seed_latents(self.seeds, self.latent_size)

    def latents(self, frame: int) -> Latents:
        """(cells, latent_size) at a frame."""
        return self.blend(self._rows, frame)
