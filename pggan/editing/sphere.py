"""Geometry of latents (numpy only): the generator normalises its input, so that a latent counts by its direction.

Latents lie on a sphere. Angles are in degrees; a move keeps a latent's length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating]


def unit(vectors: Vectors) -> NDArray[np.float64]:
    """Returns vectors (..., Z) divided by their lengths; a zero vector stays zero."""
    values = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(values / np.where(lengths > 0, lengths, 1.0))


def angle(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Returns the angles in degrees, 0 to 180, between vectors (..., Z).

    `2 atan2(|a - b|, |a + b|)` of unit vectors (Kahan): exact for small angles, where the arc cosine is not.
    """
    a, b = unit(a), unit(b)
    apart, together = np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)
    return np.asarray(np.degrees(2 * np.arctan2(apart, together)))


def tangent(latents: Vectors, directions: Vectors) -> NDArray[np.float64]:
    """Returns the unit tangents at `latents` (..., Z) towards `directions`; zero where the two are parallel."""
    at, towards = unit(latents), unit(directions)
    across = towards - (towards * at).sum(axis=-1, keepdims=True) * at
    lengths = np.linalg.norm(across, axis=-1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-9, across / np.maximum(lengths, 1e-9), 0.0))


def move(latents: Vectors, directions: Vectors, degrees: float | Vectors) -> NDArray[np.float32]:
    """Turns latents towards directions by an angle, along the great circle through both.

    Args:
        latents: (..., Z).
        directions: (..., Z), which broadcasts against `latents`.
        degrees: Angles (...) or one for all; negative ones turn away.

    Returns:
        float32 (..., Z), as long as before.
    """
    radians = np.radians(np.asarray(degrees, np.float64))[..., None]
    lengths = np.linalg.norm(np.asarray(latents, np.float64), axis=-1, keepdims=True)
    across = tangent(latents, directions)
    turned = lengths * (np.cos(radians) * unit(latents) + np.sin(radians) * across)
    is_parallel = (across == 0).all(axis=-1, keepdims=True)  # there is no way to turn
    return np.asarray(np.where(is_parallel, latents, turned), np.float32)


def at_angle(latent: Vectors, degrees: float, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Returns `count` latents (count, Z) that lie `degrees` from one latent (Z,), in random directions of a seed.

    Row k is the same for every count.
    """
    noise = [np.random.RandomState([seed, row]).randn(len(latent)) for row in range(count)]
    return move(np.broadcast_to(latent, (count, len(latent))), np.reshape(noise, (count, len(latent))), degrees)


def orthogonal(directions: Vectors, others: Vectors) -> NDArray[np.float64]:
    """Removes from directions (K, Z) what lies in the span of `others` (M, Z); returns unit rows.

    A direction within that span becomes zero.
    """
    rows = unit(directions)
    if len(others) == 0:
        return rows
    _, values, basis = np.linalg.svd(unit(others), full_matrices=False)
    basis = basis[values > 1e-9 * max(1.0, float(values.max()))]
    rest = rows - (rows @ basis.T) @ basis
    lengths = np.linalg.norm(rest, axis=-1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-6, rest / np.maximum(lengths, 1e-6), 0.0))
