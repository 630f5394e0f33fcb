"""The models that a page can show: the one that was opened, and the snapshots of its run, loaded when asked for."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pggan.editing.latent_space import space_of
from pggan.editing.model_identity import ModelIdentity
from pggan.generation.images import describe
from pggan.generation.model import Model, load
from pggan.utils.errors import UsageError
from pggan.utils.paths import MODELS, numbered
from pggan.web.session.mapped import Mapped
from pggan.web.session.points import Space

# Snapshots in memory beside the model that was opened.
MOST_LOADED = 4
# `FIRST+SECOND@SHARE`: the weights of two snapshots.
_BLEND = re.compile(r"([\w.-]+)\+([\w.-]+)@(1|0?\.\d{1,4})")


@dataclass(frozen=True)
class Snapshot:
    """A model that a run has kept."""

    name: str
    kimg: float
    path: Path


@dataclass(frozen=True)
class Loaded:
    """A model in memory, with the metadata of its pictures: a run that trains may delete the file."""

    model: Model
    about: dict[str, Any]

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(self.about["model"], self.about["sha256"])


class Shelf:
    """Models by the name of their snapshot; "" is the model that was opened."""

    def __init__(self, opened: Model, run: Path | None = None) -> None:
        self.opened, self.run = opened, run
        self._opened = Loaded(opened, describe(opened))
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()
        config = opened.file.generator.config
        mapped = Mapped(opened) if space_of(opened) == "w" else None
        self.space = Space(opened.latent_size, opened.codes, opened.labels, config.min_level, opened.file.level, mapped)

    def snapshots(self) -> list[Snapshot]:
        """Returns the snapshots of the run, oldest first; a run that still trains gains some."""
        if self.run is None:
            return []
        files = numbered(self.run / MODELS, "model") or numbered(self.run, "model")
        return [Snapshot(path.stem, int(path.stem.rpartition("-")[2]) / 1000, path) for path in files]

    def model(self, name: str) -> Model:
        """Returns a snapshot's model. Errors are those of `loaded`."""
        return self.loaded(name).model

    def loaded(self, name: str) -> Loaded:
        """Returns a snapshot, loaded.

        Raises:
            UsageError: The run has no such snapshot, or one whose latents are others.
            ModelError: It cannot be read.
        """
        if not name:
            return self._opened
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return self._loaded[name]
            two = _BLEND.fullmatch(name)
            model = self._blend(two[1], two[2], float(two[3])) if two else self._load(name)
            self._loaded[name] = loaded = Loaded(model, describe(model))
            while len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
            return loaded

    def blended(self, name: str) -> tuple[Path, Path, float] | None:
        """Returns the files and the second one's share of a blend of snapshots, None of another name."""
        two = _BLEND.fullmatch(name)
        return (self._path(two[1]), self._path(two[2]), float(two[3])) if two else None

    def _path(self, name: str) -> Path:
        path = next((snapshot.path for snapshot in self.snapshots() if snapshot.name == name), None)
        if path is None:
            raise UsageError(f"the run has no snapshot {name} any more; choose another one")
        return path

    def _load(self, name: str) -> Model:
        model = load(self._path(name), str(self.opened.device), truncation=self.opened.truncation)
        if _latents_of(model) != _latents_of(self.opened):
            raise UsageError(f"the snapshot {name} has other latents than the model that is open")
        return model

    @torch.no_grad()
    def _blend(self, first: str, second: str, share: float) -> Model:
        """Returns the first snapshot with its weights moved to the second one's by a share; it is in no file."""
        model, other = self._load(first), self._load(second)
        if model.file.generator.config != other.file.generator.config:
            raise UsageError("the two snapshots are of different networks and cannot be blended")
        weights = other.file.generator.state_dict()
        for name, weight in model.file.generator.state_dict().items():
            if weight.is_floating_point():
                weight.lerp_(weights[name], share)
        sides = [2**level for level in range(2, model.file.level + 1)]
        about = {
            "coarse": ModelIdentity.of(model).to_json(), "fine": ModelIdentity.of(other).to_json(),
            "share_of_fine": {f"{side}x{side}": share for side in sides},
        }  # fmt: skip
        model.path, model.file = None, replace(model.file, info={**model.info, "blend": about})
        return model


def _latents_of(model: Model) -> tuple[object, ...]:
    return model.latent_size, model.codes, space_of(model)
