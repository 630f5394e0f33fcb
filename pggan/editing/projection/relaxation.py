"""Relaxation: a search with more freedom than latents have, which ends at latents.

A search among latents alone stays in the nearest of many local minima. Here the output of the first dense layer is
searched, which latents reach a subspace of only; the distance from that subspace costs little at first, and ever more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from pggan.editing.latent_space import differentiable_images
from pggan.editing.projection.search_variables import AdamVariables
from pggan.generation.model import Model
from pggan.networks.generator import Generator, InputBlock, ProgressiveGenerator

# Adam's rate, for features of unit variance.
RATE = 0.1
# Weight of the mean squared distance from the subspace, for features of unit variance; it rises quadratically to this.
PENALTY = 1.0
# The rate rises over the first share of the steps, and falls to 0 over the last.
WARM_UP, COOL_DOWN = 0.05, 0.1
# Noise on features of unit variance; it decays quadratically to 0 at this share of the steps.
NOISE, NOISE_UNTIL = 0.1, 0.7
# The worse half of the restarts ends after this share of the steps.
HALVED_AFTER = 1 / 3

# Receives images and losses of a step.
Watch = Callable[[Tensor, Tensor], None]


def can_relax(model: Model) -> bool:
    """Returns whether a model has a first dense layer that takes latents alone, with more outputs than inputs."""
    generator = model.file.generator
    if not isinstance(generator, ProgressiveGenerator) or generator.reference is not None or model.truncation != 1:
        return False
    config = generator.config
    return not (config.label_size or config.code_size) and 16 * config.fmaps(1) > config.latent_size


class _FeatureBlock(nn.Module):
    """The first block without its dense layer's matrix."""

    def __init__(self, block: InputBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block.from_dense(x)


def _takes_features(model: Model) -> Model:
    """Returns a model that takes the outputs of the first dense layer instead of latents; it shares all weights."""
    view = cast(Generator, copy.copy(model.file.generator))
    blocks = dict(cast(ProgressiveGenerator, view).blocks.items())
    first = next(iter(blocks))
    features = nn.ModuleDict({**blocks, first: _FeatureBlock(cast(InputBlock, blocks[first]))})
    view._modules = {**view._modules, "blocks": features, "mapping": None}
    view.config = replace(view.config, latent_size=16 * view.config.fmaps(1), normalize_latents=False, mapping_layers=0)
    return Model(replace(model.file, generator=view), model.device)


def relax(
    model: Model, latents: Tensor, loss: Callable[[Tensor], Tensor], steps: int, random: torch.Generator, watch: Watch
) -> Tensor:
    """Finds latents whose images are near to a picture, better ones than a search among latents finds from there.

    Args:
        model: A model for which `can_relax`.
        latents: Starts (N, latent_size).
        loss: Distance (N,) of images from the picture.
        steps: Steps of Adam.
        random: Draws the noise on the features.
        watch: Receives the images of every step.

    Returns:
        Latents of the better half of the starts, (N / 2, latent_size), the best first.
    """
    generator, view = cast(ProgressiveGenerator, model.file.generator), _takes_features(model)
    weight = cast(InputBlock, next(iter(generator.blocks.values()))).dense.weight_operand(torch.float32).detach()
    basis = torch.linalg.qr(weight)[0]
    with torch.no_grad():
        features = generator.first_inputs(latents, None) @ weight.t()
    scale = float(features.std())
    variables = AdamVariables({"features": features / scale})
    for step in range(steps):
        progress = step / steps
        variables.require_gradients()
        values = variables.values["features"]
        sigma = NOISE * max(0.0, 1 - progress / NOISE_UNTIL) ** 2
        noise = torch.randn(values.shape, generator=random).to(values) * sigma
        images = differentiable_images(view, scale * (values + noise), None)
        losses = loss(images)
        watch(images.detach(), losses.detach())
        outside = values - (values @ basis) @ basis.t()
        total = losses + PENALTY * progress**2 * outside.square().mean(dim=1)
        variables.step(total.sum(), RATE * min(1.0, 0.05 + progress / WARM_UP, (1 - progress) / COOL_DOWN))
        if step == round(HALVED_AFTER * steps) and len(values) > 1:
            variables.select(total.detach().argsort(stable=True)[: (len(values) + 1) // 2])
    features = scale * variables.values["features"].detach()
    return torch.linalg.lstsq(weight, features.t()).solution.t().contiguous()
