"""The rack: directions that sliders move along, found by `pggan.editing` or taught by marks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pggan.editing.directions_file import DirectionSet, read_directions
from pggan.editing.latent_space import space_of
from pggan.editing.model_identity import ModelIdentity
from pggan.editing.sphere import orthogonal
from pggan.editing.task import Task
from pggan.generation.model import Model
from pggan.utils.errors import UsageError
from pggan.web.latent_sets import different
from pggan.web.rendering.jobs import Job
from pggan.web.session.mapped import MOST_SPREADS
from pggan.web.session.points import MOST_DEGREES, Vector
from pggan.web.session.screen import Screen

# Faces are found in fewer pictures: that takes a tenth of a second each.
FACE_SEEDS = 600
FOUND, SEEDS, MOST_DIRECTIONS, FEWEST_MARKS = 8, 2000, 200, 10
# Side up to which SeFa's directions are measured, and sorted by how much they change: that draws some hundred pictures,
# ten seconds' work at 128x128.
MEASURED_SIDE = 64


@dataclass(frozen=True)
class Direction:
    """A direction of the rack."""

    key: str
    name: str
    source: str
    vector: Vector  # (latent_size,), of unit length
    note: str  # how good it is
    unit: str = "°"
    reach: float = MOST_DEGREES  # of its slider, each way

    def to_json(self) -> dict[str, Any]:
        return {"id": self.key, "name": self.name, "source": self.source, "note": self.note, "unit": self.unit,
                "reach": self.reach}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A way to find directions."""

    title: str
    find: Callable[[Model, Task], DirectionSet]
    why_not: Callable[[Model], str] = lambda model: ""


def _sefa(model: Model, task: Task) -> DirectionSet:
    from pggan.editing.directions import find_sefa, measure_effects

    directions = find_sefa(model, min(FOUND, model.latent_size))
    return measure_effects(model, directions, task=task) if model.resolution <= MEASURED_SIDE else directions


def _components(model: Model, task: Task) -> DirectionSet:
    from pggan.editing.directions import find_components

    return find_components(model, FOUND, SEEDS, task=task)


def _classes(model: Model, task: Task) -> DirectionSet:
    from pggan.editing.directions import find_classes

    return find_classes(model, SEEDS, task=task)


def _scores(model: Model, task: Task) -> DirectionSet:
    from pggan.editing.directions import find_scores

    return find_scores(model, seeds=SEEDS, task=task)


def _faces(model: Model, task: Task) -> DirectionSet:
    from pggan.editing.directions import find_scores
    from pggan.editing.faces.face_scores import FACE_SCORES

    return find_scores(model, tuple(FACE_SCORES), FACE_SEEDS, task=task)


def _why_no_faces(model: Model) -> str:
    from pggan.editing.faces.face_points import why_no_faces

    return why_no_faces()


def _why_no_classes(model: Model) -> str:
    if not model.label_size:
        return "this model has no labels"
    return "" if model.file.discriminator is not None else "this model file keeps no discriminator, which tells classes"


SOURCES = {
    "sefa": Source("SeFa", _sefa),
    "pca": Source("Principal components", _components),
    "scores": Source("Scores", _scores),
    "labels": Source("Labels", _classes, _why_no_classes),
    "faces": Source("Yaw, roll, smile, eyes", _faces, _why_no_faces),
}


class Rack:
    """The directions of one model, which all tabs share."""

    def __init__(self, model: Model, identity: ModelIdentity) -> None:
        self._model, self._identity = model, identity
        self._directions: dict[str, Direction] = {}
        self._lock = threading.Lock()
        self._unit = (" σ", MOST_SPREADS) if space_of(model) == "w" else ("°", MOST_DEGREES)

    def describe(self) -> dict[str, Any]:
        """Returns the directions, and the ways to find more with the reason where one cannot be gone."""
        sources = [
            {"name": name, "title": source.title, "why": source.why_not(self._model)}
            for name, source in SOURCES.items()
        ]
        return {"directions": [d.to_json() for d in self._directions.values()], "sources": sources}

    def finds_at_once(self, source: str) -> bool:
        """Returns whether directions are found in closed form, and none of their pictures are measured."""
        return source == "sefa" and self._model.resolution > MEASURED_SIDE

    def find(self, source: str, job: Job | None = None) -> None:
        """Finds the directions of a source; those that are there already are found anew.

        Raises:
            UsageError: The model has none of that kind.
        """
        if source not in SOURCES:
            raise UsageError(f"there are no directions {source!r}; choose one of: {', '.join(SOURCES)}")
        if reason := SOURCES[source].why_not(self._model):
            raise UsageError(reason)
        done = 0

        def report(count: int) -> None:
            nonlocal done
            done += count
            if job is not None:
                job.step(done / SEEDS)

        self.add(source, SOURCES[source].find(self._model, Task(report)))

    def teach(self, name: str, yes: list[int], no: list[int]) -> Direction:
        """Makes a direction from marked seeds. Raises `UsageError` for too few marks, or of one kind alone."""
        from pggan.editing.directions import find_marks

        if len(yes) + len(no) < FEWEST_MARKS:
            raise UsageError(f"{len(yes) + len(no)} marks are too few; mark {FEWEST_MARKS} pictures or more")
        return self.add("marks", find_marks(self._model, yes, no, name))[0]

    def add(self, source: str, found: DirectionSet) -> list[Direction]:
        """Adds directions to the rack. Raises `UsageError` where it is full."""
        added = []
        with self._lock:
            for name, vector, figures in zip(found.names, found.vectors, found.figures):
                key = f"{source}:{name}"
                number = 2
                while source == "marks" and key in self._directions:
                    key, number = f"{source}:{name} {number}", number + 1
                if key not in self._directions and len(self._directions) >= MOST_DIRECTIONS:
                    raise UsageError(f"the rack holds {MOST_DIRECTIONS} directions already")
                direction = Direction(key[:80], name, source, vector.astype(np.float32), _note(figures), *self._unit)
                self._directions[direction.key] = direction
                added.append(direction)
        return added

    def load(self, path: Path) -> None:
        """Adds the directions of a file. Raises `ModelError` or `UsageError` where it is none of this model."""
        self.add("own", read_directions(path).check_model(self._model))

    def save(self, screen: Screen, path: Path) -> None:
        """Writes a directions file: all directions, as the tab has named and locked them.

        Raises:
            UsageError: There are none.
        """
        directions, names = dict(self._directions), dict(screen.names)
        if not directions:
            raise UsageError("there are no directions to save; find some first")
        vectors = self.vectors(screen)
        rows = [key for key in directions if vectors[key].any()]
        shown = different([names.get(key, directions[key].name) for key in rows], " ")
        figures = tuple({"from": directions[key].source, "note": directions[key].note} for key in rows)
        matrix = np.stack([vectors[key] for key in rows])
        DirectionSet(matrix, shown, figures, self._identity, space_of(self._model)).save(path)

    def vectors(self, screen: Screen) -> dict[str, Vector]:
        """Returns the directions by key; those that are not locked are made orthogonal to the locked ones."""
        directions = dict(self._directions)
        locked = [directions[key].vector for key in screen.locked if key in directions]
        free = [key for key in directions if key not in screen.locked]
        vectors = {key: direction.vector for key, direction in directions.items()}
        if locked and free:
            rows = orthogonal(np.stack([vectors[key] for key in free]), np.stack(locked))
            vectors |= {key: row.astype(np.float32) for key, row in zip(free, rows)}
        return vectors


def _note(figures: dict[str, Any]) -> str:
    """Returns what is known of a direction, for people."""
    notes = {
        "effect": "changes pictures {:.1f} times as much as a random direction",
        "r2": "R^2 {:.2f} on held-out seeds",
        "accuracy": "right for {:.0%} of held-out seeds",
        "variance_share": "{:.0%} of the variance",
    }
    return "; ".join(form.format(figures[name]) for name, form in notes.items() if name in figures)
