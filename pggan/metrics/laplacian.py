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
    return _downsample_rows(_downsample_rows(x.mT).mT)


def upsample(x: Tensor) -> Tensor:
    """Doubles the size: zeros between the pixels, then twice the same filter along both axes."""
    return _upsample_rows(_upsample_rows(x.mT).mT)


def _downsample_rows(x: Tensor) -> Tensor:
    even, odd = x[..., ::2], x[..., 1::2]
    # mirrored without the border pixel itself: x[-1] = x[1], x[-2] = x[2], x[size] = x[size - 2]
    out = even * 6
    out += odd * 4
    out[..., 1:].add_(odd[..., :-1], alpha=4)
    out[..., :1].add_(odd[..., :1], alpha=4)
    out[..., 1:] += even[..., :-1]
    out[..., :1] += even[..., 1:2]
    out[..., :-1] += even[..., 1:]
    out[..., -1:] += even[..., -1:]
    return out.mul_(1 / 16)


def _upsample_rows(x: Tensor) -> Tensor:
    even, odd = x * 6, x * 4
    even[..., 1:] += x[..., :-1]
    even[..., :1] += x[..., 1:2]
    even[..., :-1] += x[..., 1:]
    even[..., -1:] += x[..., -1:]
    odd[..., :-1].add_(x[..., 1:], alpha=4)
    odd[..., -1:].add_(x[..., -1:], alpha=4)
    return torch.stack((even, odd), dim=-1).flatten(-2).mul_(1 / 8)
