"""The models that a page can show: the one that was opened, and the snapshots of its run, loaded when asked for."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch

from pggan.editing.latent_space import space_of
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


class Shelf:
    """Models by the name of their snapshot; "" is the model that was opened."""

    def __init__(self, opened: Model, run: Path | None = None) -> None:
        self.opened, self.run = opened, run
        self._loaded: OrderedDict[str, Model] = OrderedDict()
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
        """Returns a snapshot's model.

        Raises:
            UsageError: The run has no such snapshot, or one whose latents are others.
            ModelError: It cannot be read.
        """
        if not name:
            return self.opened
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return self._loaded[name]
            two = _BLEND.fullmatch(name)
            model = self._blend(two[1], two[2], float(two[3])) if two else self._load(name)
            self._loaded[name] = model
            while len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
            return model

    def _load(self, name: str) -> Model:
        path = next((snapshot.path for snapshot in self.snapshots() if snapshot.name == name), None)
        if path is None:
            raise UsageError(f"the run has no snapshot {name} any more; choose another one")
        model = load(path, str(self.opened.device), truncation=self.opened.truncation)
        if _latents_of(model) != _latents_of(self.opened):
            raise UsageError(f"the snapshot {name} has other latents than the model that is open")
        return model

    @torch.no_grad()
    def _blend(self, first: str, second: str, share: float) -> Model:
        """Returns the first snapshot with its weights moved to the second one's by a share."""
        model, other = self._load(first), self._load(second)
        if model.file.generator.config != other.file.generator.config:
            raise UsageError("the two snapshots are of different networks and cannot be blended")
        weights = other.file.generator.state_dict()
        for name, weight in model.file.generator.state_dict().items():
            if weight.is_floating_point():
                weight.lerp_(weights[name], share)
        return model


def _latents_of(model: Model) -> tuple[object, ...]:
    return model.latent_size, model.codes, space_of(model)
