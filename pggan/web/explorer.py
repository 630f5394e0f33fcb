"""What all tabs of one server share: models, the drawing thread, long work, favourites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pggan.generation.level_colours import refit_colours
from pggan.generation.model import Model
from pggan.utils.errors import PgganError
from pggan.web.exports import Exports
from pggan.web.favourites import Favourites, favourites_path
from pggan.web.latent_sets import restored
from pggan.web.rack import Rack
from pggan.web.rendering.drawing import Blend, Drawing, Latent, drawn_level, score_of
from pggan.web.rendering.jobs import Job, Jobs
from pggan.web.rendering.renderer import Renderer
from pggan.web.rendering.shelf import Shelf
from pggan.web.session.fields import base64_bytes
from pggan.web.session.points import (
    Point,
    Vector,
    classes_of,
    input_of,
    label_vector,
    latent_of,
    offset_of,
    parse_point,
)
from pggan.web.session.screen import Screen
from pggan.web.training_pictures import TrainingPictures, data_of_run
from pggan.web.uploads import Photographs

MOST_TABS = 8
# Seeds whose scores by D a picture's score is compared with.
USUAL_SCORES = 64

# Sends a message to a tab; from any thread.
Broadcast = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Look:
    """How a picture is drawn."""

    level: int
    alpha: float
    snapshot: str = ""
    quality: str = "still"  # or "moving"

    @classmethod
    def of(cls, screen: Screen) -> Look:
        """Returns how a screen's pictures look at rest."""
        return cls(screen.level, screen.alpha, screen.snapshot)


def as_bytes(row: Vector) -> bytes:
    """Returns a row as little-endian float32."""
    return np.ascontiguousarray(row, dtype="<f4").tobytes()


class Explorer:
    """One opened model, and everything that is played with."""

    def __init__(self, model: Model, run: Path | None = None, data: str | None = None) -> None:
        self.shelf = Shelf(model, run)
        self.space = self.shelf.space
        self.renderer = Renderer(self.shelf)
        self.jobs = Jobs(self.renderer)
        self.favourites = Favourites(favourites_path(model, run))
        self.rack = Rack(model, self.shelf.loaded("").identity)
        self.exports = Exports()
        self.photographs = Photographs()
        self.training_pictures = TrainingPictures(data or data_of_run(run))
        self._scores: dict[Look, list[float]] = {}
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
        return self.rack.vectors(screen)

    def drawing(self, point: Point, screen: Screen, look: Look) -> Drawing:
        """Returns what the drawing thread needs for a point: its latent is computed here, at once."""
        blend = None
        if point.mix is not None:
            mix = point.mix
            blend = Blend(self._latent(mix.other, screen), mix.level, mix.share, mix.mask)
        return self.drawing_of(self._latent(point, screen), look, blend)

    def _latent(self, point: Point, screen: Screen) -> Latent:
        """Returns a point's latent. A seed's w is left to the snapshot that draws it, whose mapping is another."""
        space, directions = self.space, self.directions(screen)
        if space.mapped is None:
            return Latent(as_bytes(latent_of(point, space, directions)), as_bytes(label_vector(point, space)))
        if point.latent is not None:
            return Latent(as_bytes(latent_of(point, space, directions)), space="w")
        labels = space.labels.vectors([classes_of(point, space)])[0]
        offset = as_bytes(offset_of(point, space, directions)) if point.moves else b""
        return Latent(as_bytes(input_of(point, space)), as_bytes(labels), "z", offset)

    def row(self, point: Point, screen: Screen) -> Vector:
        """Returns a point's latent with its codes; or w, which is that of the snapshot on screen."""
        if self.space.mapped is None:
            return latent_of(point, self.space, self.directions(screen))
        return self._latent(point, screen).in_w(self.shelf.model(screen.snapshot))

    def drawing_of(self, latent: Latent, look: Look, blend: Blend | None = None) -> Drawing:
        """Returns the drawing of a latent; while something moves at a level that keeps up with it."""
        level, alpha = look.level, look.alpha
        if look.quality == "moving":
            level = self.renderer.times.moving_level(level, self.space.min_level)
            alpha = alpha if level == look.level else 1.0
        return Drawing(latent, level, alpha, look.snapshot, look.quality, blend)

    def latent_of_row(self, row: Vector, labels: Vector | None) -> Latent:
        """Returns what draws one of a `LatentSet` of the model: inputs and labels of a row."""
        if self.space.mapped is not None:
            return Latent(as_bytes(row), space="w")
        return Latent(as_bytes(row), b"" if labels is None else as_bytes(labels))

    def drawn(self, screen: Screen) -> Screen:
        """Returns a screen with the level and alpha that its snapshot draws: an early one has fewer levels."""
        level, alpha = drawn_level(self.shelf.model(screen.snapshot), screen.level, screen.alpha)
        return replace(screen, level=level, alpha=alpha)

    def usual_scores(self, screen: Screen, job: Job) -> list[float]:
        """Returns D's scores of the first seeds, computed once for a level, alpha and snapshot."""
        look = Look.of(screen)
        if look not in self._scores:
            scores = []
            for seed in range(USUAL_SCORES):
                scores.append(score_of(self.shelf.model(look.snapshot), self.drawing(Point(seed=seed), screen, look)))
                job.step(seed / USUAL_SCORES)
            self._scores[look] = scores
        return self._scores[look]

    def describe_favourites(self) -> dict[str, Any]:
        """Returns the favourites for the page, with points that show the pictures that were liked."""
        shown, screen = self.favourites.describe(), self.first_screen()
        for entry in shown["entries"]:
            try:
                latent = base64_bytes(entry["z"], 4 * self.space.width, "the latent")
                entry["point"] = restored(self, parse_point(entry["point"], self.space), latent, screen).to_json()
            except PgganError:
                continue  # of another model: drawing it says what does not fit
        return shown

    def tell_favourites(self) -> None:
        """Shows all tabs the favourites as they are now on disk."""
        self.broadcast("favourites", favourites=self.describe_favourites())

    def describe(self) -> dict[str, Any]:
        """Returns what the page needs to know of the model."""
        model, space = self.model, self.space
        labels = [column.to_json() for column in space.labels.columns]
        parameters = sum(tensor.numel() for tensor in model.file.generator.parameters())
        return {
            "name": model.name,
            "resolution": model.resolution,
            "channels": model.channels,
            "latent_size": space.latent_size,
            "space": "z" if space.mapped is None else "w",
            "levels": [space.min_level, space.max_level],
            "level": model.file.level,
            "alpha": model.file.alpha,
            "labels": labels,
            "categorical": list(space.codes.categorical),
            "continuous": space.codes.continuous,
            "parameters": parameters,
            "truncation": model.truncation,
            "device": str(model.device),
            "attribution": str(model.info.get("attribution") or ""),
            "scores": model.file.discriminator is not None,
            "data": self.training_pictures.data is not None,
            "favourites": self.describe_favourites(),
            "run": self.shelf.run.name if self.shelf.run else "",
        }
