"""What a projection searches: latents on the sphere, labels and codes where they are not given; or latents w."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pggan.editing.latent_space import Spread, latent_radius
from pggan.editing.latents_file import LatentSet
from pggan.generation.model import Model

if TYPE_CHECKING:
    from pggan.editing.projection.project import ProjectOptions

# A class that a start has gets this share of the label when the search begins, so that others can still win.
START_SHARE = 0.9
# Adam's decay rates and epsilon.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamVariables:
    """The variables of all restarts, a row each, and Adam's moments of them (Kingma and Ba 2015)."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        self.values = values
        self._moments = {name: (torch.zeros_like(v), torch.zeros_like(v)) for name, v in values.items()}
        self._steps = 0

    def require_gradients(self) -> None:
        """Makes the variables the leaves of what is computed from them next."""
        self.values = {name: value.detach().requires_grad_(True) for name, value in self.values.items()}

    @torch.no_grad()
    def step(self, loss: Tensor, rate: float) -> None:
        """Makes one step of Adam."""
        self._steps += 1
        gradients = torch.autograd.grad(loss, list(self.values.values()))
        for name, gradient in zip(list(self.values), gradients):
            first, second = self._moments[name]
            first.lerp_(gradient, 1 - BETA1)
            second.lerp_(gradient.square(), 1 - BETA2)
            unbiased = first / (1 - BETA1**self._steps)
            scale = (second / (1 - BETA2**self._steps)).sqrt() + EPSILON
            self.values[name] = self.values[name].detach() - rate * unbiased / scale

    def select(self, rows: Tensor) -> None:
        """Goes on with these restarts alone."""
        self.values = {name: value.detach()[rows] for name, value in self.values.items()}
        self._moments = {name: (first[rows], second[rows]) for name, (first, second) in self._moments.items()}


class SearchVariables(AdamVariables):
    """Latents with their labels and codes.

    Classes and categorical codes are shares that a softmax keeps positive with sum 1, one softmax for each column of
    labels and each code. Continuous codes and labels that are numbers stay from -1 to 1.

    Of latents w the variables are the distances from the average in units of w's standard deviation, without a sphere.

    Args:
        model: The model that takes the latents as they are, see `LatentSet.taker`.
        starts: Latents to begin at.
        options: Label and codes that are given.
        spread: Of latents w; None: latents z.
    """

    def __init__(self, model: Model, starts: LatentSet, options: ProjectOptions, spread: Spread | None = None) -> None:
        z = torch.from_numpy(starts.z).to(model.device)
        self._radius = None if spread is not None else latent_radius(model)
        # latents are `centre + scale * values["z"]`
        self._centre = torch.zeros_like(z[0]) if spread is None else torch.from_numpy(spread.average).to(z)
        self._scale = 1.0 if spread is None else max(spread.scale, 1e-12)
        self.values = {"z": self._on_sphere((z - self._centre) / self._scale)}
        self._label_sizes = [column.layout for column in model.labels.columns]
        self._code_sizes = list(model.codes.categorical)
        self._labels = None if starts.labels is None else torch.from_numpy(starts.labels).to(model.device)
        self._codes = None if starts.codes is None else torch.from_numpy(starts.codes).to(model.device)
        self._free_labels = _free_labels(model, options)
        if self._labels is not None and self._free_labels.any():
            self.values["labels"] = _to_logits(self._labels, self._label_sizes)
        self._set_codes(model, options)
        super().__init__(self.values)

    def _set_codes(self, model: Model, options: ProjectOptions) -> None:
        given = np.full((1, model.codes.size), np.nan, np.float32)  # NaN: to be found
        for number, value in (options.codes or {}).items():
            model.codes.set_code(given, number, value)
        if self._codes is None:
            return
        values = torch.from_numpy(given).to(model.device)
        self._free_codes = values.isnan()
        self._codes = torch.where(self._free_codes, self._codes, values)
        one_hots = sum(self._code_sizes)
        if one_hots:
            self.values["categorical"] = _to_logits(self._codes[:, :one_hots], self._code_sizes)
        if self._codes.shape[1] > one_hots:
            self.values["continuous"] = self._codes[:, one_hots:].clone()

    @property
    def z(self) -> Tensor:
        """Latents z (restarts, latent_size), of length sqrt(latent_size); of w the distances from the average."""
        return self.values["z"]

    def restart(self, latents: Tensor) -> None:
        """Begins anew at other latents (N, latent_size), of a model without labels and codes."""
        super().__init__({"z": self._on_sphere((latents - self._centre) / self._scale)})

    def _on_sphere(self, z: Tensor) -> Tensor:
        return z if self._radius is None else z * (self._radius / z.norm(dim=1, keepdim=True))

    def inputs(self, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns the generator's latents and codes, and labels or None. `noise` is added to the latents."""
        self.require_gradients()
        z = self._centre + self._scale * (self.values["z"] if noise is None else self.values["z"] + noise)
        labels, codes = self.labels(), self.codes()
        return z if codes is None else torch.cat([z, codes], dim=1), labels

    def inputs_of(self, row: int, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns latents, codes and labels of one restart with another latent (latent_size,), differentiably."""
        z = self._centre + self._scale * self._on_sphere(z[None])
        labels, codes = (None if v is None else v[row : row + 1].detach() for v in (self.labels(), self.codes()))
        return z if codes is None else torch.cat([z, codes], dim=1), labels

    def set(self, row: int, z: Tensor) -> None:
        """Sets the latent (latent_size,) of one restart."""
        self.values["z"] = self.values["z"].detach().clone()
        self.values["z"][row] = self._on_sphere(z[None])[0]

    def labels(self) -> Tensor | None:
        """Returns the labels (restarts, label_size); None for a model without."""
        if self._labels is None or "labels" not in self.values:
            return self._labels
        return torch.where(self._free_labels, _to_shares(self.values["labels"], self._label_sizes), self._labels)

    def codes(self) -> Tensor | None:
        """Returns the codes (restarts, code_size); None for a model without."""
        parts = []
        if "categorical" in self.values:
            parts.append(_to_shares(self.values["categorical"], self._code_sizes))
        if "continuous" in self.values:
            parts.append(self.values["continuous"])
        if self._codes is None or not parts:
            return self._codes
        return torch.where(self._free_codes, torch.cat(parts, dim=1), self._codes)

    def step(self, loss: Tensor, rate: float) -> None:
        """Makes one step of Adam, and puts latents z back on the sphere."""
        super().step(loss, rate)
        self.values["z"] = self._on_sphere(self.values["z"])
        if "continuous" in self.values:
            self.values["continuous"] = self.values["continuous"].clamp(-1, 1)

    def select(self, rows: Tensor) -> None:
        super().select(rows)
        self._labels = None if self._labels is None else self._labels[rows]
        self._codes = None if self._codes is None else self._codes[rows]

    @torch.no_grad()
    def to_latents(self, row: int, starts: LatentSet) -> LatentSet:
        """Returns one restart as a set of one latent of the model of `starts`."""
        labels, codes = (None if v is None else v[row : row + 1].cpu().numpy() for v in (self.labels(), self.codes()))
        z = (self._centre + self._scale * self.z[row : row + 1].detach()).cpu().numpy()
        return replace(starts.select([0]), z=z, labels=labels, codes=codes)


def _free_labels(model: Model, options: ProjectOptions) -> Tensor:
    """Returns which values (label_size,) of the labels are searched: those of columns that are not given."""
    columns = model.labels.columns
    choice = (None,) * len(columns) if options.label is None else model.labels.choose(options.label)
    free = [number is None for column, number in zip(columns, choice) for _ in range(column.width)]
    return torch.tensor(free, dtype=torch.bool, device=model.device)


def _to_logits(rows: Tensor, sizes: list[int]) -> Tensor:
    """Returns logits whose softmax, part by part, is near rows of one-hot parts; a number, of size 0, stays."""
    parts = []
    for size, part in zip(sizes, rows.split([size or 1 for size in sizes], dim=1)):
        if not size:
            parts.append(part)
            continue
        rest = (1 - START_SHARE) / max(1, part.shape[1] - 1)
        parts.append((part * (START_SHARE - rest) + rest).log())
    return torch.cat(parts, dim=1)


def _to_shares(logits: Tensor, sizes: list[int]) -> Tensor:
    parts = zip(sizes, logits.split([size or 1 for size in sizes], dim=1))
    return torch.cat([part.softmax(dim=1) if size else part.clamp(-1, 1) for size, part in parts], dim=1)
