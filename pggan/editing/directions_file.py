"""Named directions in a model's latent space, and the file that keeps them.

A directions file is a safetensors file: tensor `directions` (K, latent_size), float32 unit rows; the metadata entry
`pggan.directions` is JSON: format, space, name and SHA-256 of the model, and of each direction its name and figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pggan.config.model_metadata import DIRECTIONS_KEY, read_metadata
from pggan.editing.latent_space import SPACES, space_of
from pggan.editing.latents_file import Rows, check_small_file
from pggan.editing.model_identity import ModelIdentity
from pggan.generation.model import Model
from pggan.networks.model_file import read_tensors, write_tensors
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.limits import MAX_LATENTS, MAX_LATENTS_BYTES
from pggan.utils.untrusted import reading


@dataclass(frozen=True)
class DirectionSet:
    """Directions (K, latent_size) of unit length with names and figures, such as R^2 and effect.

    Raises `ModelError` where numbers differ, names repeat, or a row is not of unit length.
    """

    vectors: Rows
    names: tuple[str, ...]
    figures: tuple[dict[str, Any], ...]
    model: ModelIdentity
    space: str = "z"

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.vectors.ndim != 2 or not (len(self.vectors) == count == len(self.figures)):
            raise ModelError(f"{count} names for directions {self.vectors.shape}")
        are_names = all(isinstance(name, str) and 0 < len(name) <= 200 for name in self.names)
        if not are_names or len(set(self.names)) < count:
            raise ModelError("names of directions are empty, too long, or there twice")
        if self.vectors.dtype != np.float32 or not (np.abs(np.linalg.norm(self.vectors, axis=1) - 1) < 1e-3).all():
            raise ModelError("directions are not float32 rows of unit length")
        if self.space not in SPACES:
            raise ModelError(f"directions of the space {self.space!r}; this pggan knows {', '.join(SPACES)}")

    def __len__(self) -> int:
        return len(self.names)

    def select(self, names: Iterable[str]) -> DirectionSet:
        """Returns the directions of these names, in their order. Raises `UsageError` for a name that is missing."""
        wanted = list(names)
        for name in wanted:
            if name not in self.names:
                raise UsageError(f"there is no direction {name!r}; there are {', '.join(self.names[:40])}")
        return self._rows([self.names.index(name) for name in wanted])

    def _rows(self, rows: Sequence[int]) -> DirectionSet:
        names, figures = tuple(self.names[row] for row in rows), tuple(self.figures[row] for row in rows)
        return replace(self, vectors=self.vectors[list(rows)], names=names, figures=figures)

    def by_effect(self) -> DirectionSet:
        """Returns the directions with the largest effect first; those without a figure last."""
        effects = [-float(figures.get("effect", 0.0)) for figures in self.figures]
        return self._rows([int(row) for row in np.argsort(effects, kind="stable")])

    def check_model(self, model: Model, force: bool = False) -> DirectionSet:
        """Returns the set, to be used with a model; see `LatentSet.check_model`."""
        if self.space != space_of(model):
            its = "latents w, of a mapping network" if self.space == "w" else "latents z, without a mapping network"
            raise UsageError(f"directions of {its}, which {model.name} is not moved in; give the model {self.model}")
        if self.vectors.shape[1] != model.latent_size:
            raise UsageError(f"directions of size {self.vectors.shape[1]}, but {model.name} takes {model.latent_size}")
        if not force and not self.model.fits(ModelIdentity.of(model)):
            raise UsageError(f"directions of the model {self.model}, not of {model.name}; give that model, or --force")
        return self

    def save(self, path: str | Path) -> None:
        """Writes a directions file atomically. Raises `OSError` where it cannot be written."""
        entries = [{"name": name, "figures": figures} for name, figures in zip(self.names, self.figures)]
        about = {"space": self.space, "model": self.model.to_json(), "directions": entries}
        write_tensors(Path(path), {"directions": torch.from_numpy(self.vectors)}, DIRECTIONS_KEY, about)


def read_directions(path: str | Path) -> DirectionSet:
    """Reads a directions file. Raises `ModelError` where it is missing, damaged, too large or of another kind."""
    path = Path(path)
    check_small_file(path, MAX_LATENTS_BYTES)
    about = read_metadata(path, DIRECTIONS_KEY)
    with reading(str(path), ModelError, "copy or make it again"):
        entries = about["directions"]
        if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LATENTS:
            raise ModelError(f"{path} has no list of directions; copy or make it again")
        vectors = read_tensors(path, DIRECTIONS_KEY)["directions"].numpy()
        names = tuple(entry["name"] for entry in entries)
        figures = tuple(dict(entry.get("figures") or {}) for entry in entries)
        model = ModelIdentity.from_json(about["model"])
        try:
            return DirectionSet(vectors, names, figures, model, about.get("space", "z"))
        except ModelError as error:
            raise ModelError(f"{path}: {error}; copy or make it again") from None
