"""DiffAugment (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training"), all three policies."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.losses.augment.blitting import shift_into_zeros
from pggan.losses.augment.draws import Draws

UNIFORMS = ("brightness", "saturation", "contrast", "shift_x", "shift_y", "cut_x", "cut_y")
# of a side: the furthest translation, and the square that is cut out
SHIFT, CUT = 0.125, 0.5


def diffaugment(x: Tensor, uniform: Tensor) -> Tensor:
    """Colour, translation and cutout of pictures (N, C, R, R); `uniform` (N, 7) from U[0, 1)."""
    drawn = Draws(uniform.to(x.dtype), None, UNIFORMS)
    return cutout(translate(colours(x, drawn), drawn), drawn)


def colours(x: Tensor, drawn: Draws) -> Tensor:
    """Brightness +-0.5, saturation 0 to 2 (not of grey pictures), contrast 0.5 to 1.5 about each picture's mean."""

    def each(name: str) -> Tensor:
        return drawn[name][:, None, None, None]

    x = x + (each("brightness") - 0.5)
    if x.shape[1] > 1:
        grey = x.mean(dim=1, keepdim=True)
        x = grey + (x - grey) * (each("saturation") * 2)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (each("contrast") + 0.5)


def translate(x: Tensor, drawn: Draws) -> Tensor:
    """Whole pixels, up to an eighth of the side each way; what comes in is 0."""
    most = int(x.shape[-1] * SHIFT + 0.5)
    return shift_into_zeros(x, *((drawn[name] * (2 * most + 1)).floor() - most for name in ("shift_x", "shift_y")))


def cutout(x: Tensor, drawn: Draws) -> Tensor:
    """0 in a square of half the side; its middle lies anywhere, so that part of it may lie outside."""
    side = x.shape[-1]
    size = int(side * CUT + 0.5)
    at = torch.arange(side, device=x.device)

    def inside(name: str) -> Tensor:
        first = (drawn[name] * (side + 1 - size % 2)).floor() - size // 2
        return (at >= first[:, None]) & (at < first[:, None] + size)

    hole = inside("cut_y")[:, :, None] & inside("cut_x")[:, None, :]
    return x * (~hole)[:, None].to(x.dtype)
