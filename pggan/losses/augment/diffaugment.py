"""DiffAugment with the policies colour, translation and cutout.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training".
"""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.config.content.channels import RGBA
from pggan.losses.augment import colour
from pggan.losses.augment.blitting import shift_into_zeros
from pggan.losses.augment.draws import Draws

UNIFORMS = ("brightness", "saturation", "contrast", "shift_x", "shift_y", "cut_x", "cut_y")
# Largest translation, and side of the square that is cut out, as shares of the image's side.
SHIFT, CUT = 0.125, 0.5


def diffaugment(x: Tensor, uniform: Tensor) -> Tensor:
    """Augments images (N, C, R, R); `uniform` (N, 7) from U[0, 1), columns `UNIFORMS`."""
    draws = Draws(uniform.to(x.dtype), None, UNIFORMS)
    # what is filled in has the value 0: mid-grey; of RGBA, where 0 is shifted to it, transparent
    blank = 1.0 if x.shape[1] == RGBA else 0.0
    coloured = colour.beside_alpha(x, lambda q, alpha: colours(q, draws, alpha)) + blank
    return cutout(translate(coloured, draws), draws) - blank


def colours(x: Tensor, draws: Draws, alpha: Tensor | float = 1.0) -> Tensor:
    """Adds brightness in +-0.5; scales saturation by 0 to 2 (RGB only) and contrast about the mean by 0.5 to 1.5.

    `x` and `alpha` are as `colour.beside_alpha` has them.
    """

    def column(name: str) -> Tensor:
        return draws[name][:, None, None, None]

    x = x + (column("brightness") - 0.5) * alpha
    if x.shape[1] > 1:
        grey = x.mean(dim=1, keepdim=True)
        x = grey + (x - grey) * (column("saturation") * 2)
    # of what is seen: weighted by alpha
    share = alpha.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-4) if isinstance(alpha, Tensor) else alpha
    mean = x.mean(dim=(1, 2, 3), keepdim=True) / share * alpha
    return mean + (x - mean) * (column("contrast") + 0.5)


def translate(x: Tensor, draws: Draws) -> Tensor:
    """Translates by whole pixels, up to an eighth of the side each way; the border is filled with 0."""
    limit = int(x.shape[-1] * SHIFT + 0.5)
    return shift_into_zeros(x, *((draws[name] * (2 * limit + 1)).floor() - limit for name in ("shift_x", "shift_y")))


def cutout(x: Tensor, draws: Draws) -> Tensor:
    """Sets a square of half the side to 0; its centre is anywhere in the image, so that part of it may lie outside."""
    side = x.shape[-1]
    size = int(side * CUT + 0.5)
    at = torch.arange(side, device=x.device)

    def inside(name: str) -> Tensor:
        first = (draws[name] * (side + 1 - size % 2)).floor() - size // 2
        return (at >= first[:, None]) & (at < first[:, None] + size)

    hole = inside("cut_y")[:, :, None] & inside("cut_x")[:, None, :]
    return x * (~hole)[:, None].to(x.dtype)
