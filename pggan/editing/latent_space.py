"""The one place that knows which space a model's latents are moved in: z, the generator's input.

A mapping network adds w: `spread` would then be w's standard deviation along a direction, `first_dense_weight` that of
the first dense layer behind the mapping, and `LatentSet.space` says which of the two a file holds.
"""

from __future__ import annotations

from torch import Tensor

from pggan.generation.model import Model
from pggan.networks.layers import EqualizedWeight
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
            return module.effective_weight().detach().double().cpu()[:, : model.latent_size]
    raise ModelError(f"the generator of {model.name} has no dense layer; use --from pca, scores or marks")
