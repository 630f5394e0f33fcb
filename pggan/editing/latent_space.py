"""The space that a model's latents are moved in: z, the generator's input, or w, the output of a mapping network.

z counts by its direction alone: it lies on a sphere, and is moved by angles. w has no such symmetry: it is moved along
straight lines, in units of its spread (the standard deviation along the direction of the move).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pggan.editing.sphere import unit
from pggan.generation.model import Model
from pggan.networks.generator import Generator
from pggan.networks.layers import EqualizedWeight
from pggan.networks.mapping import MappingNetwork
from pggan.utils.devices import full_float32, widest_dtype
from pggan.utils.errors import ModelError, UsageError

SPACES = ("z", "w")
# Seeds whose w tell the spread.
SAMPLE = 2000
Values = NDArray[np.float64]


def space_of(model: Model) -> str:
    """Returns the space that directions of a model lie in: w where it has a mapping network, else z."""
    return "z" if model.file.generator.mapping is None else "w"


def latent_radius(model: Model) -> float:
    """Returns the length of latents z on the sphere: that of a typical random one, sqrt(latent_size)."""
    return float(model.latent_size**0.5)


def first_dense_weight(model: Model) -> Tensor:
    """Returns the weight of the first dense layer behind a mapping network, if there is one.

    Its columns are those of the latent: (outputs, latent_size), float64, CPU.

    Raises `ModelError` for a generator without such a layer.
    """
    for name, module in model.file.generator.named_modules():
        if isinstance(module, EqualizedWeight) and module.weight.ndim == 2 and not name.startswith("mapping."):
            return module.effective_weight().detach().cpu().double()[:, : model.latent_size]
    raise ModelError(f"the generator of {model.name} has no dense layer; use --from pca, scores or marks")


def differentiable_images(model: Model, inputs: Tensor, labels: Tensor | None) -> Tensor:
    """Computes images (N, C, R, R), about [-1, 1], through which gradients flow to latents and weights.

    Args:
        model: The model, at its file's level and alpha; for latents w what `takes_w` returns.
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


class _Truncation(nn.Module):
    """Stands in for a mapping network whose output is given: moves w to the average as far as that network does."""

    def __init__(self, mapping: MappingNetwork) -> None:
        super().__init__()
        self._mapping = (mapping,)  # in a tuple: its parameters are none of this module's

    @property
    def truncation(self) -> float:
        return self._mapping[0].truncation

    def forward(self, w: Tensor) -> Tensor:
        (mapping,) = self._mapping
        return w if mapping.truncation == 1 else torch.lerp(mapping.average.to(w), w, mapping.truncation)


def takes_w(model: Model) -> Model:
    """Returns a model that takes w (N, latent_size) instead of z, without labels and codes, which w contains.

    It shares all weights behind the mapping network, and the truncation, with the given one.

    Raises `UsageError` for a model without a mapping network.
    """
    mapping = _mapping_of(model)
    view = cast(Generator, copy.copy(model.file.generator))
    # without labels, codes and normalisation, a generator hands its input to the mapping network as it is
    view.config = replace(
        view.config, label_size=0, categorical=(), continuous=0, normalize_latents=False, mapping_layers=0
    )
    view._modules = {**view._modules, "mapping": _Truncation(mapping)}
    if view.reference is not None:
        view._buffers = {**view._buffers, "reference": _mapped_reference(model)}
    return Model(replace(model.file, generator=view, labels=None), model.device, model.path)


@torch.inference_mode()
def to_w(model: Model, inputs: NDArray[np.float32], labels: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Returns w (N, latent_size), before truncation, of latents and codes (N, Z) and labels (N, L).

    Raises `UsageError` for a model without a mapping network.
    """
    mapping, generator = _mapping_of(model), model.file.generator
    x = torch.from_numpy(np.array(inputs)).to(model.device)
    y = None if labels is None else torch.from_numpy(np.array(labels)).to(model.device)
    with full_float32(model.device):
        w = generator.without_reference(_untruncated(mapping, generator.normalized_inputs(x, y)))
    return np.asarray(w.float().cpu().numpy())


@dataclass(frozen=True)
class Spread:
    """How w is distributed: the average, and w of seeds 0 to 1,999, each with its own class and codes."""

    average: NDArray[np.float32]  # (latent_size,), which the model file holds
    rows: NDArray[np.float32]  # (2000, latent_size)

    @classmethod
    def of(cls, model: Model) -> Spread:
        """Returns the spread of a model's w; computed once for a model in memory."""
        if model not in _SPREADS:
            seeds = range(SAMPLE)
            rows = to_w(model, model.seed_latents(seeds), model.seed_labels(seeds))
            _SPREADS[model] = cls(_mapping_of(model).average.float().cpu().numpy().copy(), rows)
        return _SPREADS[model]

    @cached_property
    def scale(self) -> float:
        """The standard deviation of w, over all its elements."""
        return float(np.sqrt(((self.rows - self.average) ** 2).mean(dtype=np.float64)))

    @cached_property
    def _covariance(self) -> Values:
        return np.asarray(np.cov(self.rows.astype(np.float64), rowvar=False))

    def along(self, directions: NDArray[np.floating]) -> Values:
        """Returns the standard deviations (...) of w along directions (..., latent_size)."""
        rows = unit(directions)
        return np.asarray(np.sqrt(np.maximum(((rows @ self._covariance) * rows).sum(axis=-1), 0.0)))

    def relatives(self, w: NDArray[np.float32], degrees: float, count: int, seed: int = 0) -> NDArray[np.float32]:
        """Returns `count` w near one (latent_size,): 0 degrees is itself, 90 as different as another seed's.

        They are `average + cos(degrees) * (w - average) + sin(degrees) * (other - average)`, others being w of seeds:
        so their spread is that of w. Row k is the same for every count.
        """
        others = [self.rows[np.random.RandomState([seed, row]).randint(len(self.rows))] for row in range(count)]
        near, far = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        moved = self.average + near * (w - self.average) + far * (np.reshape(others, (count, -1)) - self.average)
        return np.asarray(moved, np.float32)


_SPREADS: WeakKeyDictionary[Model, Spread] = WeakKeyDictionary()


def straight_move(
    model: Model, w: NDArray[np.floating], direction: NDArray[np.floating], spreads: float
) -> NDArray[np.float32]:
    """Moves w (..., latent_size) along a direction, by a number of standard deviations of w along it."""
    step = spreads * Spread.of(model).along(direction)[..., None] * unit(direction)
    return np.asarray(np.asarray(w, np.float64) + step, np.float32)


def _mapping_of(model: Model) -> MappingNetwork:
    mapping = model.file.generator.mapping
    if mapping is None:
        raise UsageError(f"{model.name} has no mapping network, and so no latents w; give latents z")
    return mapping


def _untruncated(mapping: MappingNetwork, x: Tensor) -> Tensor:
    """Returns the mapping network's output, whatever the truncation."""
    whole = copy.copy(mapping)  # other threads may draw with the network itself
    whole.truncation = 1.0
    return cast(Tensor, whole(x))


@torch.no_grad()
def _mapped_reference(model: Model) -> Tensor:
    """Returns what virtual batch normalisation's reference batch becomes behind the mapping network."""
    generator = model.file.generator
    assert generator.reference is not None
    config, like = generator.config, generator.reference
    inputs = torch.zeros(1, config.latent_size + config.code_size).to(like)
    labels = torch.zeros(1, config.label_size).to(like) if config.label_size else None
    x = generator.normalized_inputs(inputs, labels)[: len(like)]
    return _untruncated(_mapping_of(model), x)
