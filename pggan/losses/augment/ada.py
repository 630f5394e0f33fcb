"""The augmentations of ADA (Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", appendix
B): pixel blitting, geometric and colour transforms, each done to a picture with probability p and of the published
strengths.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pggan.losses.augment import colour
from pggan.losses.augment.blitting import blit
from pggan.losses.augment.draws import Draws
from pggan.losses.augment.geometry import product, resample, rotation, scaling, translation

# a name with "?" decides whether, the one without how much
UNIFORMS = (
    "flip?", "flip", "turn?", "turn", "shift?", "shift_x", "shift_y",
    "scale?", "before?", "before", "stretch?", "after?", "after", "move?",
    "brightness?", "contrast?", "luma?", "luma", "hue?", "hue", "saturation?",
)  # fmt: skip
NORMALS = ("scale", "stretch", "move_x", "move_y", "brightness", "contrast", "saturation")

# Whole and fractional translations as shares of the side; logarithms (base 2) of scales; spread of brightness.
SHIFT, MOVE = 0.125, 0.125
SCALE, STRETCH, CONTRAST, SATURATION = 0.2, 0.2, 0.5, 1.0
BRIGHTNESS = 0.2


def ada(x: Tensor, p: Tensor, uniform: Tensor, normal: Tensor, filter: Tensor) -> Tensor:
    """Augments pictures (N, C, R, R). `p` 0-d; `uniform` (N, 21), `normal` (N, 7); `filter`: `geometry.lowpass`.

    At p 0 pictures come back bit for bit.
    """
    drawn = Draws(uniform.to(x.dtype), normal.to(x.dtype), UNIFORMS, NORMALS)
    p = p.to(x.dtype)
    return colours(transform(blits(x, p, drawn), p, drawn, filter), p, drawn)


def blits(x: Tensor, p: Tensor, drawn: Draws) -> Tensor:
    """Mirroring (half of those chosen), quarter turns (0 to 3), translation by whole pixels up to an eighth."""
    side = x.shape[-1]

    def shift(name: str) -> Tensor:
        pixels = ((drawn[name] * 2 - 1) * (SHIFT * side)).round()
        return torch.where(drawn.gate("shift?", p), pixels, 0)

    flips = drawn.gate("flip?", p) & (drawn["flip"] < 0.5)
    turns = torch.where(drawn.gate("turn?", p), (drawn["turn"] * 4).floor(), 0)
    return blit(x, flips, turns, shift("shift_x"), shift("shift_y"))


def transform(x: Tensor, p: Tensor, drawn: Draws, filter: Tensor) -> Tensor:
    """Scale, rotation, stretch, rotation, translation, resampled once; untouched pictures are not resampled."""
    sources, touched = inverse_transforms(p, drawn)
    return torch.where(touched[:, None, None, None], resample(x, sources, filter), x)


def inverse_transforms(p: Tensor, drawn: Draws) -> tuple[Tensor, Tensor]:
    """Matrices (N, 3, 3) from places of the result to those that they show, and whether there is anything to do (N,).

    Either rotation is done with probability 1 - sqrt(1 - p), so that some rotation is with p.
    """
    rotated = 1 - (1 - p).sqrt()
    doing = {name: drawn.gate(name + "?", p) for name in ("scale", "stretch", "move")}
    doing |= {name: drawn.gate(name + "?", rotated) for name in ("before", "after")}

    def amount(name: str, values: Tensor) -> Tensor:
        return torch.where(doing[name], values, 0)

    scale = torch.exp2(-amount("scale", drawn["scale"] * SCALE))
    stretch = torch.exp2(-amount("stretch", drawn["stretch"] * STRETCH))
    before, after = (amount(name, (drawn[name] * 2 - 1) * math.pi) for name in ("before", "after"))
    # the side is 2 long
    move_x, move_y = (amount("move", drawn[name] * (2 * MOVE)) for name in ("move_x", "move_y"))
    sources = product(
        scaling(scale, scale), rotation(-before), scaling(stretch, 1 / stretch), rotation(-after),
        translation(-move_x, -move_y),
    )  # fmt: skip
    return sources, torch.stack(list(doing.values())).any(dim=0)


def colours(x: Tensor, p: Tensor, drawn: Draws) -> Tensor:
    """Brightness, contrast, luma flip, hue and saturation; grey pictures have the first three."""
    doing = {name: drawn.gate(name + "?", p) for name in ("brightness", "contrast", "luma", "hue", "saturation")}

    def amount(name: str, values: Tensor) -> Tensor:
        return torch.where(doing[name], values, 0)

    brightness = amount("brightness", drawn["brightness"] * BRIGHTNESS)
    contrast = torch.exp2(amount("contrast", drawn["contrast"] * CONTRAST))
    flips = doing["luma"] & (drawn["luma"] < 0.5)
    x = x + brightness[:, None, None, None]
    if x.shape[1] == 1:
        return x * torch.where(flips, -contrast, contrast)[:, None, None, None]
    matrices = product(
        colour.saturation(torch.exp2(amount("saturation", drawn["saturation"] * SATURATION))),
        colour.hue_rotation(amount("hue", (drawn["hue"] * 2 - 1) * math.pi)),
        colour.luma_flip(flips, x),
        colour.scaled(contrast),
    )
    return colour.apply(x, matrices)
