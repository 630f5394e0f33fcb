"""Colours of pictures in [-1, 1] as matrices about grey 0; the grey axis is that of equal red, green and blue."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def scaled(factor: Tensor) -> Tensor:
    """Contrast: matrices (N, 3, 3) that multiply by `factor` (N,)."""
    return _circulant(factor, torch.zeros_like(factor), torch.zeros_like(factor))


def luma_flip(flips: Tensor, like: Tensor) -> Tensor:
    """Light to dark with hue and saturation kept, where `flips` (N,) is true: I - 2 v v'; `like` gives the type."""
    share = flips.to(like.dtype) * (2.0 / 3.0)
    return _circulant(1 - share, -share, -share)


def hue_rotation(angle: Tensor) -> Tensor:
    """Rotations by `angle` (N,) radians about the grey axis."""
    cos, sin = angle.cos(), angle.sin() / math.sqrt(3.0)
    rest = (1 - cos) / 3
    return _circulant(cos + rest, rest - sin, rest + sin)


def saturation(factor: Tensor) -> Tensor:
    """What is not grey times `factor` (N,): v v' + (I - v v') s."""
    rest = (1 - factor) / 3
    return _circulant(factor + rest, rest, rest)


def _circulant(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.stack([a, b, c, c, a, b, b, c, a], dim=1).reshape(-1, 3, 3)


def apply(x: Tensor, matrices: Tensor) -> Tensor:
    """RGB pictures (N, 3, R, R) times matrices (N, 3, 3), channel by channel in the pictures' own precision."""
    entry = matrices[:, :, :, None, None]
    return torch.stack([sum(entry[:, row, k] * x[:, k] for k in range(3)) for row in range(3)], dim=1)  # type: ignore[misc]
