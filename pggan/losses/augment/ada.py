"""ADA's augmentations: pixel blitting, geometric and colour transforms, each with probability p for every image.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix B, with its strengths.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pggan.losses.augment import colour
from pggan.losses.augment.blitting import blit
from pggan.losses.augment.draws import Draws
from pggan.losses.augment.geometry import product, resample, rotation, scaling, translation

# a column "x?" decides whether x is applied, the column "x" how much
UNIFORMS = (
    "flip?", "flip", "turn?", "turn", "shift?", "shift_x", "shift_y",
    "scale?", "before?", "before", "stretch?", "after?", "after", "move?",
    "brightness?", "contrast?", "luma?", "luma", "hue?", "hue", "saturation?",
)  # fmt: skip
NORMALS = ("scale", "stretch", "move_x", "move_y", "brightness", "contrast", "saturation")

# Largest whole-pixel translation and standard deviation of the fractional one, as shares of the side.
SHIFT, MOVE = 0.125, 0.125
# Standard deviations of log2 of factors, and of the brightness that is added.
SCALE, STRETCH, CONTRAST, SATURATION = 0.2, 0.2, 0.5, 1.0
BRIGHTNESS = 0.2


def ada(x: Tensor, p: Tensor, uniform: Tensor, normal: Tensor, filter: Tensor) -> Tensor:
    """Augments images; at p = 0 they stay the same bit for bit.

    Args:
        x: Images (N, C, R, R).
        p: Probability of each augmentation, 0-d.
        uniform: (N, 21) from U[0, 1), columns `UNIFORMS`.
        normal: (N, 7) from N(0, 1), columns `NORMALS`.
        filter: `geometry.lowpass()`.
    """
    draws = Draws(uniform.to(x.dtype), normal.to(x.dtype), UNIFORMS, NORMALS)
    p = p.to(x.dtype)
    moved = transform(blits(x, p, draws), p, draws, filter)
    return colour.beside_alpha(moved, lambda q, alpha: colours(q, p, draws, alpha))


def blits(x: Tensor, p: Tensor, draws: Draws) -> Tensor:
    """Pixel blitting: horizontal flips (of half the chosen), 0 to 3 quarter turns, whole-pixel translations."""
    side = x.shape[-1]

    def shift(name: str) -> Tensor:
        pixels = ((draws[name] * 2 - 1) * (SHIFT * side)).round()
        return torch.where(draws.gate("shift?", p), pixels, 0)

    flips = draws.gate("flip?", p) & (draws["flip"] < 0.5)
    turns = torch.where(draws.gate("turn?", p), (draws["turn"] * 4).floor(), 0)
    return blit(x, flips, turns, shift("shift_x"), shift("shift_y"))


def transform(x: Tensor, p: Tensor, draws: Draws, filter: Tensor) -> Tensor:
    """Geometric transforms: scale, rotation, stretch, rotation, translation, in one resampling."""
    sources, touched = inverse_transforms(p, draws)
    return torch.where(touched[:, None, None, None], resample(x, sources, filter), x)


def inverse_transforms(p: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Returns matrices (N, 3, 3) from output to input coordinates, and whether an image is transformed at all (N,).

    Each of the two rotations has probability 1 - sqrt(1 - p), so that an image is rotated with probability p.
    """
    rotated = 1 - (1 - p).sqrt()
    active = {name: draws.gate(name + "?", p) for name in ("scale", "stretch", "move")}
    active |= {name: draws.gate(name + "?", rotated) for name in ("before", "after")}

    def amount(name: str, values: Tensor) -> Tensor:
        return torch.where(active[name], values, 0)

    scale = torch.exp2(-amount("scale", draws["scale"] * SCALE))
    stretch = torch.exp2(-amount("stretch", draws["stretch"] * STRETCH))
    before, after = (amount(name, (draws[name] * 2 - 1) * math.pi) for name in ("before", "after"))
    # the side has length 2
    move_x, move_y = (amount("move", draws[name] * (2 * MOVE)) for name in ("move_x", "move_y"))
    sources = product(
        scaling(scale, scale), rotation(-before), scaling(stretch, 1 / stretch), rotation(-after),
        translation(-move_x, -move_y),
    )  # fmt: skip
    return sources, torch.stack(list(active.values())).any(dim=0)


def colours(x: Tensor, p: Tensor, draws: Draws, alpha: Tensor | float = 1.0) -> Tensor:
    """Colour transforms: brightness, contrast, luma flip, hue and saturation; grey images have the first three.

    `x` and `alpha` are as `colour.beside_alpha` has them.
    """
    active = {name: draws.gate(name + "?", p) for name in ("brightness", "contrast", "luma", "hue", "saturation")}

    def amount(name: str, values: Tensor) -> Tensor:
        return torch.where(active[name], values, 0)

    brightness = amount("brightness", draws["brightness"] * BRIGHTNESS)
    contrast = torch.exp2(amount("contrast", draws["contrast"] * CONTRAST))
    flips = active["luma"] & (draws["luma"] < 0.5)
    x = x + brightness[:, None, None, None] * alpha
    if x.shape[1] == 1:
        return x * torch.where(flips, -contrast, contrast)[:, None, None, None]
    matrices = product(
        colour.saturation(torch.exp2(amount("saturation", draws["saturation"] * SATURATION))),
        colour.hue_rotation(amount("hue", (draws["hue"] * 2 - 1) * math.pi)),
        colour.luma_flip(flips, x),
        colour.contrast(contrast),
    )
    return colour.apply(x, matrices)
