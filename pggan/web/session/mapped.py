"""What points need of a model with a mapping network: w of seeds, and moves in units of w's spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pggan.editing.latent_space import Spread, straight_move, to_w
from pggan.generation.model import Model

Vector = NDArray[np.float32]
# A slider's reach each way, in standard deviations of w.
MOST_SPREADS = 3.0


@dataclass(frozen=True)
class Mapped:
    """The latents w of one model."""

    model: Model

    def to_w(self, row: Vector, labels: Vector) -> Vector:
        """Returns w (latent_size,) of a latent with its codes and its label vector (label_size,)."""
        w: Vector = to_w(self.model, row[None], labels[None] if self.model.label_size else None)[0]
        return w

    def step(self, direction: Vector, spreads: float) -> Vector:
        """Returns a move (latent_size,) along a direction."""
        return straight_move(self.model, np.zeros_like(direction), direction, spreads)

    def relatives(self, w: Vector, degrees: float, count: int) -> list[Vector]:
        """Returns w of a family, see `Spread.relatives`. The same ones every time."""
        seed = int(np.frombuffer(np.ascontiguousarray(w, "<f4").tobytes(), np.uint8).astype(np.uint32).sum())
        return list(Spread.of(self.model).relatives(w, degrees, count, seed))
