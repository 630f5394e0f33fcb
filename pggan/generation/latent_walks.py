"""Walks through latent space as pure functions of the frame number: a walk of any length takes no memory.

The generator normalises its latents, so that only their direction counts: slerp and linear interpolation take the same
path, slerp at constant speed.
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
# Seconds between the random points of a loop, and how many points on each side are blended.
POINT_SECONDS, REACH = 1.0, 4
FEWEST_POINTS = 3

Latents = NDArray[np.float32]


def slerp(a: NDArray[np.floating], b: NDArray[np.floating], t: float) -> NDArray[np.float64]:
    """Spherical linear interpolation of vectors (..., Z): the angle and the length change linearly with t, 0 to 1.

    Where there is no arc (zero, parallel or opposite vectors) it is linear; never NaN.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    length_a, length_b = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    unit_a, unit_b = (v / np.maximum(length, 1e-300) for v, length in ((a, length_a), (b, length_b)))
    cosine = np.clip((unit_a * unit_b).sum(axis=-1, keepdims=True), -1, 1)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    has_arc = (sine > 1e-6) & (length_a > 0) & (length_b > 0)
    divisor = np.where(has_arc, sine, 1.0)
    unit = (np.sin((1 - t) * angle) * unit_a + np.sin(t * angle) * unit_b) / divisor
    blend: NDArray[np.float64] = np.where(has_arc, unit * ((1 - t) * length_a + t * length_b), (1 - t) * a + t * b)
    return blend


@dataclass(frozen=True)
class LoopWalk:
    """A smooth random walk that ends where it began: random points on a circle in time, blended by a Gaussian.

    Every grid cell has a walk of its own. At every frame a latent has unit variance.
    """

    frames: int
    cells: int
    latent_size: int
    fps: float
    seed: int = 0

    @property
    def points(self) -> int:
        """Random points of the loop."""
        return max(FEWEST_POINTS, round(self.frames / self.fps / POINT_SECONDS))

    def latents(self, frame: int) -> Latents:
        """Returns the latents (cells, latent_size) of a frame; frame `frames` is frame 0 again."""
        position = (frame % self.frames) / self.frames * self.points
        nearest = round(position)
        weights: dict[int, float] = {}
        for unwrapped in range(nearest - REACH, nearest + REACH + 1):
            point = unwrapped % self.points
            weights[point] = weights.get(point, 0.0) + float(np.exp(-0.5 * (position - unwrapped) ** 2))
        norm = float(np.sqrt(sum(w * w for w in weights.values())))
        noise = sum(w * self._noise(point) for point, w in sorted(weights.items()))
        return np.asarray(noise / norm, np.float32)

    def _noise(self, point: int) -> NDArray[np.float64]:
        # RandomState: its stream is frozen, so that a seed is the same walk with any numpy
        return np.random.RandomState([self.seed, point]).randn(self.cells, self.latent_size)


@dataclass(frozen=True)
class SeedWalk:
    """A walk through the latents of `seeds` in turn, and back to the first one if `loop`.

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

    def segment(self, frame: int) -> tuple[int, int, float]:
        """Returns the indices of the two seeds that a frame lies between, and its position from 0 to below 1."""
        count = len(self.seeds)
        segments, steps = (count, self.frames) if self.loop else (count - 1, max(1, self.frames - 1))
        first, position = divmod(frame * segments, steps)
        return first % count, (first + 1) % count, position / steps

    def blend(self, rows: NDArray[np.floating], frame: int, method: str | None = None) -> Latents:
        """Blends rows (seeds, K), one for each seed, for every cell at a frame: (cells, K)."""
        first, second, t = self.segment(frame)
        count = len(self.seeds)
        a = rows[[(first + cell) % count for cell in range(self.cells)]]
        b = rows[[(second + cell) % count for cell in range(self.cells)]]
        blend = slerp(a, b, t) if (method or self.method) == "slerp" else (1 - t) * a + t * b
        return np.asarray(blend, np.float32)

    @cached_property
    def _seed_latents(self) -> Latents:
        return seed_latents(self.seeds, self.latent_size)

    def latents(self, frame: int) -> Latents:
        """Returns the latents (cells, latent_size) of a frame."""
        return self.blend(self._seed_latents, frame)
