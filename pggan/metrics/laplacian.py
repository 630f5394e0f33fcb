"""Laplacian pyramid of pictures (Burt and Adelson 1983), with OpenCV's pyrDown and pyrUp filters, mirrored borders."""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST = 16


def laplacian_pyramid(pictures: Tensor) -> dict[int, Tensor]:
    """Float32 (N, C, R, R) of 8-bit values, R a power of two of 16 at least, to {R: band, ..., 16: the rest}.

    Rounded once a filter, as the release does: float32 holds the largest level exactly, the others go through float64.
    """
    levels: dict[int, Tensor] = {}
    current, exact = pictures, torch.float32
    while current.shape[-1] > LOWEST:
        smaller = down(current.to(exact)).float()
        levels[current.shape[-1]] = current - up(smaller.to(exact)).float()
        current, exact = smaller, torch.float64
    levels[current.shape[-1]] = current
    return levels


def down(x: Tensor) -> Tensor:
    """Half the size: binomial filter 1 4 6 4 1 / 16 along both axes, every other pixel."""
    return _down(_down(x, -2), -1)


def up(x: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, the same filter doubled along both axes."""
    return _up(_up(x, -2), -1)


def _down(x: Tensor, axis: int) -> Tensor:
    size = x.shape[axis]
    even = x.unfold(axis, 1, 2).squeeze(-1)
    odd = torch.narrow(x, axis, 1, size - 1).unfold(axis, 1, 2).squeeze(-1)
    half = size // 2
    # mirrored without the border pixel itself: x[-1] = x[1], x[-2] = x[2], x[size] = x[size - 2]
    out = even * 6
    out += odd * 4
    _shifted(out, odd, axis, 1).add_(odd.narrow(axis, 0, half - 1), alpha=4)
    out.narrow(axis, 0, 1).add_(odd.narrow(axis, 0, 1), alpha=4)
    _shifted(out, even, axis, 1).add_(even.narrow(axis, 0, half - 1))
    out.narrow(axis, 0, 1).add_(even.narrow(axis, 1, 1))
    out.narrow(axis, 0, half - 1).add_(even.narrow(axis, 1, half - 1))
    out.narrow(axis, half - 1, 1).add_(even.narrow(axis, half - 1, 1))
    return out.mul_(1 / 16)


def _shifted(out: Tensor, like: Tensor, axis: int, by: int) -> Tensor:
    return out.narrow(axis, by, like.shape[axis] - by)


def _up(x: Tensor, axis: int) -> Tensor:
    size = x.shape[axis]
    even = x * 6
    _shifted(even, x, axis, 1).add_(x.narrow(axis, 0, size - 1))
    even.narrow(axis, 0, 1).add_(x.narrow(axis, 1, 1))
    even.narrow(axis, 0, size - 1).add_(x.narrow(axis, 1, size - 1))
    even.narrow(axis, size - 1, 1).add_(x.narrow(axis, size - 1, 1))
    odd = x * 4
    odd.narrow(axis, 0, size - 1).add_(x.narrow(axis, 1, size - 1), alpha=4)
    odd.narrow(axis, size - 1, 1).add_(x.narrow(axis, size - 1, 1), alpha=4)
    both = torch.stack((even, odd), dim=x.ndim + axis + 1)
    return both.flatten(x.ndim + axis, x.ndim + axis + 1).mul_(1 / 8)
