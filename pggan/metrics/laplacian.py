"""Laplacian pyramids of images (Burt and Adelson 1983), with the filters of OpenCV's pyrDown and pyrUp."""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST = 16  # side of the lowest level, in pixels


def laplacian_pyramid(images: Tensor) -> dict[int, Tensor]:
    """Decomposes images into frequency bands.

    Every filter's result is rounded to float32 once, as in the release: float32 computes the largest level exactly, the
    others are computed in float64.

    Args:
        images: float32 (N, C, R, R) of 8-bit values; R is a power of two, at least 16.

    Returns:
        Levels by side: band-pass images from R down to 32, the low-pass rest at 16.
    """
    levels: dict[int, Tensor] = {}
    current, dtype = images, torch.float32
    while current.shape[-1] > LOWEST:
        smaller = downsample(current.to(dtype)).float()
        levels[current.shape[-1]] = current - upsample(smaller.to(dtype)).float()
        current, dtype = smaller, torch.float64
    levels[current.shape[-1]] = current
    return levels


def downsample(x: Tensor) -> Tensor:
    """Halves the size: binomial filter 1 4 6 4 1 / 16 along both axes, every other pixel."""
    return _downsample_axis(_downsample_axis(x, -2), -1)


def upsample(x: Tensor) -> Tensor:
    """Doubles the size: zeros between the pixels, then twice the same filter along both axes."""
    return _upsample_axis(_upsample_axis(x, -2), -1)


def _downsample_axis(x: Tensor, axis: int) -> Tensor:
    size = x.shape[axis]
    even = x.unfold(axis, 1, 2).squeeze(-1)
    odd = torch.narrow(x, axis, 1, size - 1).unfold(axis, 1, 2).squeeze(-1)
    half = size // 2
    # mirrored without the border pixel itself: x[-1] = x[1], x[-2] = x[2], x[size] = x[size - 2]
    out = even * 6
    out += odd * 4
    _skip(out, odd, axis, 1).add_(odd.narrow(axis, 0, half - 1), alpha=4)
    out.narrow(axis, 0, 1).add_(odd.narrow(axis, 0, 1), alpha=4)
    _skip(out, even, axis, 1).add_(even.narrow(axis, 0, half - 1))
    out.narrow(axis, 0, 1).add_(even.narrow(axis, 1, 1))
    out.narrow(axis, 0, half - 1).add_(even.narrow(axis, 1, half - 1))
    out.narrow(axis, half - 1, 1).add_(even.narrow(axis, half - 1, 1))
    return out.mul_(1 / 16)


def _skip(out: Tensor, like: Tensor, axis: int, count: int) -> Tensor:
    """Returns `out` without its first `count` entries along an axis as long as that of `like`."""
    return out.narrow(axis, count, like.shape[axis] - count)


def _upsample_axis(x: Tensor, axis: int) -> Tensor:
    size = x.shape[axis]
    even = x * 6
    _skip(even, x, axis, 1).add_(x.narrow(axis, 0, size - 1))
    even.narrow(axis, 0, 1).add_(x.narrow(axis, 1, 1))
    even.narrow(axis, 0, size - 1).add_(x.narrow(axis, 1, size - 1))
    even.narrow(axis, size - 1, 1).add_(x.narrow(axis, size - 1, 1))
    odd = x * 4
    odd.narrow(axis, 0, size - 1).add_(x.narrow(axis, 1, size - 1), alpha=4)
    odd.narrow(axis, size - 1, 1).add_(x.narrow(axis, size - 1, 1), alpha=4)
    both = torch.stack((even, odd), dim=x.ndim + axis + 1)
    return both.flatten(x.ndim + axis, x.ndim + axis + 1).mul_(1 / 8)
