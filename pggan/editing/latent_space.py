"""The one place that knows which space a model's latents are moved in: z, the generator's input.

A mapping network adds w: `latent_radius` would become w's spread about its average, `first_dense_weight` that of the
first dense layer behind the mapping, `differentiable_images` would take w, and `LatentSet.space` says which of the two
a file holds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.generation.model import Model
from pggan.networks.layers import EqualizedWeight
from pggan.utils.devices import full_float32, widest_dtype
from pggan.utils.errors import ModelError


def latent_radius(model: Model) -> float:
    """Returns the length of latents on the sphere: that of a typical random one, sqrt(latent_size)."""
    return float(model.latent_size**0.5)


def first_dense_weight(model: Model) -> Tensor:
    """Returns the weight of the first dense layer, its columns of the latent: (outputs, latent_size), float64, CPU.

    Raises `ModelError` for a generator without such a layer.
    """
    for module in model.file.generator.modules():
        if isinstance(module, EqualizedWeight) and module.weight.ndim == 2:
            return module.effective_weight().detach().cpu().double()[:, : model.latent_size]
    raise ModelError(f"the generator of {model.name} has no dense layer; use --from pca, scores or marks")


def differentiable_images(model: Model, inputs: Tensor, labels: Tensor | None) -> Tensor:
    """Computes images (N, C, R, R), about [-1, 1], through which gradients flow to latents and weights.

    Args:
        model: The model, at its file's level and alpha.
        inputs: Latents and codes (N, latent_size + code_size).
        labels: (N, label_size), None for a model without.
    """
    file = model.file
    alpha = (
        None if file.alpha >= 1 else torch.full((), file.alpha, dtype=widest_dtype(model.device), device=model.device)
    )
    with full_float32(model.device):
        images: Tensor = file.generator(inputs, file.level, alpha, labels)
    return images
