"""Colour transforms of images in [-1, 1] as matrices (N, 3, 3). v is the unit vector of the grey axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def contrast(factor: Tensor) -> Tensor:
    """Contrast: multiplies colours by `factor` (N,)."""
    return _circulant(factor, torch.zeros_like(factor), torch.zeros_like(factor))


def luma_flip(flips: Tensor, like: Tensor) -> Tensor:
    """Swaps light and dark, not hue and saturation, where `flips` (N,): I - 2 v v'. `like` has the dtype."""
    share = flips.to(like.dtype) * (2.0 / 3.0)
    return _circulant(1 - share, -share, -share)


def hue_rotation(angle: Tensor) -> Tensor:
    """Rotates colours by `angle` (N,) radians about the grey axis."""
    cos, sin = angle.cos(), angle.sin() / math.sqrt(3.0)
    rest = (1 - cos) / 3
    return _circulant(cos + rest, rest - sin, rest + sin)


def saturation(factor: Tensor) -> Tensor:
    """Multiplies the part off the grey axis by `factor` s (N,): v v' + (I - v v') s."""
    rest = (1 - factor) / 3
    return _circulant(factor + rest, rest, rest)


def _circulant(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Makes matrices with the rows (a, b, c), (c, a, b), (b, c, a)."""
    return torch.stack([a, b, c, c, a, b, b, c, a], dim=1).reshape(-1, 3, 3)


def apply(x: Tensor, matrices: Tensor) -> Tensor:
    """Multiplies the colours of RGB images (N, 3, R, R) by matrices (N, 3, 3), in the images' own precision."""
    entry = matrices[:, :, :, None, None]
    return torch.stack([sum(entry[:, row, k] * x[:, k] for k in range(3)) for row in range(3)], dim=1)  # type: ignore[misc]
