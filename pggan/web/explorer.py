"""What all tabs of one server share: models, the drawing thread, long work, favourites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pggan.generation.level_colours import refit_colours
from pggan.generation.model import Model
from pggan.web.exports import Exports
from pggan.web.favourites import Favourites, favourites_path
from pggan.web.rendering.drawing import Blend, Drawing
from pggan.web.rendering.jobs import Job, Jobs
from pggan.web.rendering.renderer import Renderer
from pggan.web.rendering.shelf import Shelf
from pggan.web.session.points import Point, Vector, classes_of, latent_of
from pggan.web.session.screen import Screen
from pggan.web.uploads import Photographs

MOST_TABS = 8

# Sends a message to a tab; from any thread.
Broadcast = Callable[[dict[str, Any]], None]


class Explorer:
    """One opened model, and everything that is played with."""

    def __init__(self, model: Model, run: Path | None = None) -> None:
        self.shelf = Shelf(model, run)
        self.space = self.shelf.space
        self.renderer = Renderer(self.shelf)
        self.jobs = Jobs(self.renderer)
        self.favourites = Favourites(favourites_path(model, run))
        self.exports = Exports()
        self.photographs = Photographs()
        self.tabs: list[Broadcast] = []

    @property
    def model(self) -> Model:
        return self.shelf.opened

    def start(self) -> None:
        self.renderer.start()
        self.jobs.start(self._refit, lambda event: None)

    def stop(self) -> None:
        """Ends both threads and removes what was exported."""
        self.jobs.stop()
        self.renderer.stop()
        self.exports.close()

    def broadcast(self, event: str, **fields: Any) -> None:
        """Tells all tabs; from any thread."""
        for tell in list(self.tabs):
            tell({"type": "event", "event": event, **fields})

    def _refit(self, job: Job) -> dict[str, Any]:
        """Gives the lower levels their colours back, beside the first pictures."""
        refit_colours(self.model, job.step)
        self.renderer.clear()
        self.broadcast("colours")
        return {}

    def first_screen(self) -> Screen:
        """Returns what a new tab shows: seed 0, as the model was stored."""
        return Screen(Point(seed=0), self.model.file.level, self.model.file.alpha)

    def directions(self, screen: Screen) -> dict[str, Vector]:
        """Returns the directions of a tab's rack by id, orthogonal to those that it has locked."""
        return {}

    def drawing(self, point: Point, screen: Screen, level: int, alpha: float, snapshot: str, quality: str) -> Drawing:
        """Returns what the drawing thread needs for a point: its latent is computed here, at once."""
        directions = self.directions(screen)
        if quality == "moving":
            moving = self.renderer.times.moving_level(level, self.space.min_level)
            level, alpha = moving, alpha if moving == level else 1.0
        blend = None
        if point.mix is not None:
            other, mix = point.mix.other, point.mix
            blend = Blend(
                self._bytes_of(other, directions), classes_of(other, self.space), mix.level, mix.share, mix.mask
            )
        return Drawing(
            self._bytes_of(point, directions), classes_of(point, self.space), level, alpha, snapshot, quality, blend
        )

    def _bytes_of(self, point: Point, directions: dict[str, Vector]) -> bytes:
        return np.ascontiguousarray(latent_of(point, self.space, directions), dtype="<f4").tobytes()

    def describe(self) -> dict[str, Any]:
        """Returns what the page needs to know of the model."""
        model, space = self.model, self.space
        labels = [{"name": column.name, "classes": list(column.classes)} for column in space.labels.columns]
        parameters = sum(tensor.numel() for tensor in model.file.generator.parameters())
        return {
            "name": model.name,
            "resolution": model.resolution,
            "channels": model.channels,
            "latent_size": space.latent_size,
            "levels": [space.min_level, space.max_level],
            "level": model.file.level,
            "alpha": model.file.alpha,
            "labels": labels,
            "categorical": list(space.codes.categorical),
            "continuous": space.codes.continuous,
            "parameters": parameters,
            "device": str(model.device),
            "attribution": str(model.info.get("attribution") or ""),
            "scores": model.file.discriminator is not None,
            "favourites": self.favourites.describe(),
            "run": self.shelf.run.name if self.shelf.run else "",
        }
