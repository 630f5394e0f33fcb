"""Colour transforms of images in [-1, 1] as matrices (N, 3, 3). v is the unit vector of the grey axis."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pggan.config.content.channels import RGBA


def beside_alpha(x: Tensor, change: Callable[[Tensor, Tensor | float], Tensor]) -> Tensor:
    """Changes the colours of images (N, C, R, R) and leaves alpha.

    A premultiplied colour p with alpha a, both in [0, 1], is stored as 2p - 1. Its straight colour s in [-1, 1], times
    a, is 2p - a; what is added to s is added a times.

    Args:
        x: Grey, RGB or premultiplied RGBA in [-1, 1].
        change: Gets `a s` (N, 1 or 3, R, R) and a (N, 1, R, R), or 1 where there is no alpha; returns the new `a s`.
    """
    if x.shape[1] != RGBA:
        return change(x, 1.0)
    alpha = (x[:, 3:] + 1) / 2
    before = x[:, :3] + 1 - alpha
    return torch.cat([x[:, :3] + (change(before, alpha) - before), x[:, 3:]], dim=1)


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
