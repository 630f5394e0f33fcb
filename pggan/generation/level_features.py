"""Feature maps of single levels: read them, and blend those of two latents within one picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pggan.generation.model import Model
from pggan.networks.generator import ProgressiveGenerator
from pggan.networks.layers import at_least_float32
from pggan.networks.resampling import fade, upscale
from pggan.utils.devices import full_float32, widest_dtype
from pggan.utils.errors import UsageError


def progressive(model: Model) -> ProgressiveGenerator:
    """Returns a model's generator. Raises `UsageError` for a baseline, which has no levels."""
    generator = model.file.generator
    if not isinstance(generator, ProgressiveGenerator):
        raise UsageError(f"{model.name} is a baseline ({generator.config.arch}), which has no levels")
    return generator


def level_features(
    model: Model, latents: NDArray[np.float32], labels: NDArray[np.float32] | None, last: int
) -> Iterator[tuple[int, Tensor]]:
    """Yields each level from 2 to `last` with its feature maps (N, width, 2**level, 2**level)."""
    generator = progressive(model)
    x = _inputs(generator, latents, labels)
    for level, block in zip(range(2, last + 1), generator.blocks.values()):
        x = block(x)
        yield level, generator.without_reference(x)


@torch.inference_mode()
def synthesize_blend(
    model: Model,
    latents: NDArray[np.float32],
    labels: NDArray[np.float32] | None,
    weight: NDArray[np.float32],
    at: int,
    level: int,
    alpha: float = 1.0,
) -> Tensor:
    """Computes a picture of two latents: the first's feature maps up to a level, blended there with the second's.

    Nothing of the generator is changed meanwhile: other threads may draw with it.

    Args:
        model: A progressive model.
        latents: (2, latent_size + codes.size).
        labels: (2, label_size) of a conditional model.
        weight: Share of the second one, 0 to 1: (1, 1), or (H, W) for regions, fitted to the maps.
        at: The level whose maps are blended; beyond `level` it is that.
        level: Of the picture.
        alpha: Fade-in of that level.

    Returns:
        Network output (1, C, R, R).

    Raises:
        UsageError: The model is a baseline.
    """
    generator = progressive(model)
    at, blocks, to_rgb = min(at, level), list(generator.blocks.values()), list(generator.to_rgb.values())
    with full_float32(model.device):
        below = x = _inputs(generator, latents, labels)
        for number in range(2, level + 1):
            below, x = x, blocks[number - 2](x)
            if number == at:
                x = torch.cat([x[:-2], _mixed(x[-2:], weight)])
                below = below[:-1]  # where the picture fades, its coarse part is the first one's
        images = at_least_float32(to_rgb[level - 2](generator.without_reference(x)))
        if level > 2 and alpha < 1:
            coarse = upscale(at_least_float32(to_rgb[level - 3](generator.without_reference(below))))
            images = fade(images, coarse, torch.tensor(alpha, dtype=widest_dtype(model.device), device=model.device))
        return images.tanh() if generator.config.output == "tanh" else images


def _mixed(maps: Tensor, weight: NDArray[np.float32]) -> Tensor:
    """Returns the maps (1, F, R, R) between the two of (2, F, R, R)."""
    shares = torch.from_numpy(np.ascontiguousarray(weight)).to(maps)[None, None]
    side = maps.shape[-1]
    if shares.shape[-1] > side:
        shares = F.adaptive_avg_pool2d(shares, side)
    elif shares.shape[-1] > 1:
        shares = F.interpolate(shares, (side, side), mode="bilinear", align_corners=False)
    return maps[:1] + shares * (maps[1:] - maps[:1])


def _inputs(
    generator: ProgressiveGenerator, latents: NDArray[np.float32], labels: NDArray[np.float32] | None
) -> Tensor:
    like = next(generator.parameters())
    z = torch.from_numpy(np.array(latents)).to(like)
    return generator.first_inputs(z, None if labels is None else torch.from_numpy(np.array(labels)).to(like))
