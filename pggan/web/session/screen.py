"""What one tab shows, and how its JSON from a browser, a URL or a PNG is read. Immutable: undo keeps old ones."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from pggan.generation.seeds import MAX_SEED
from pggan.utils.errors import UsageError
from pggan.web.session.fields import choice, entries, integer, mapping, number, text
from pggan.web.session.points import MOST_NAME, Point, Space, parse_point

EASINGS, PATHS = ("linear", "smooth", "in", "out", "hold"), ("slerp", "spline")
SORTS = ("seed", "score")
MOST_FRAMES, MOST_MARKS, MOST_LISTED = 64, 512, 256
MOST_FRAME_SECONDS = 60.0


@dataclass(frozen=True)
class Keyframe:
    """A picture of the timeline, and the way from it to the next one."""

    point: Point
    seconds: float = 1.0  # to the next one
    easing: str = "linear"

    def to_json(self) -> dict[str, Any]:
        return {"point": self.point.to_json(), "seconds": self.seconds, "easing": self.easing}


@dataclass(frozen=True)
class Screen:
    """Everything that undo brings back and that a link holds."""

    stage: Point
    level: int
    alpha: float
    compare: Point | None = None
    first: int = 0  # seed of the grid's first picture
    sort: str = "seed"
    snapshot: str = ""  # of a run; empty: the model that was opened
    locked: tuple[str, ...] = ()  # directions that all others are orthogonal to
    starred: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()  # of directions that were renamed
    marks: tuple[tuple[int, bool], ...] = ()  # seeds marked yes or no
    frames: tuple[Keyframe, ...] = ()
    loop: bool = True
    path: str = "slerp"  # between keyframes

    def to_json(self) -> dict[str, Any]:
        """Returns the form that `changed` reads."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "stage": self.stage.to_json(),
            "compare": None if self.compare is None else self.compare.to_json(),
            "locked": list(self.locked),
            "starred": list(self.starred),
            "names": dict(self.names),
            "marks": {str(seed): yes for seed, yes in self.marks},
            "frames": [frame.to_json() for frame in self.frames],
        }


def changed(screen: Screen, value: Any, space: Space) -> Screen:
    """Returns the screen with the fields of a JSON object replaced.

    Raises:
        UsageError: A field is unknown, or its value is none for this model.
    """
    data = mapping(value, len(fields(screen)), "the screen")
    return replace(screen, **{name: _parse(name, data[name], space) for name in data})


def _parse(name: str, value: Any, space: Space) -> Any:
    if name == "stage":
        return parse_point(value, space)
    if name == "compare":
        return None if value is None else parse_point(value, space)
    if name in ("locked", "starred"):
        return tuple(dict.fromkeys(text(entry, MOST_NAME, name) for entry in entries(value, MOST_LISTED, name)))
    simple = {
        "level": lambda: integer(value, space.min_level, space.max_level, "the level"),
        "alpha": lambda: number(value, 0, 1, "alpha"),
        "first": lambda: integer(value, 0, MAX_SEED, "the first seed"),
        "sort": lambda: choice(value, SORTS, "sort"),
        "snapshot": lambda: text(value, MOST_NAME, "the snapshot"),
        "names": lambda: _parse_names(value),
        "marks": lambda: _parse_marks(value),
        "frames": lambda: tuple(_parse_frame(entry, space) for entry in entries(value, MOST_FRAMES, "keyframes")),
        "path": lambda: choice(value, PATHS, "the path"),
        "loop": lambda: choice(str(value), ("True", "False"), "loop") == "True",
    }
    if name not in simple:
        raise UsageError("the screen has no such field; reload the page")
    return simple[name]()


def _parse_names(value: Any) -> tuple[tuple[str, str], ...]:
    names = mapping(value, MOST_LISTED, "names")
    return tuple(sorted((text(key, MOST_NAME, "a name"), text(names[key], MOST_NAME, "a name")) for key in names))


def _parse_marks(value: Any) -> tuple[tuple[int, bool], ...]:
    marks = mapping(value, MOST_MARKS, "marks")
    seeds = {key: int(key) if key.isascii() and key.isdecimal() and len(key) < 12 else -1 for key in marks}
    if not all(type(mark) is bool for mark in marks.values()):
        raise UsageError("a mark is true or false")
    return tuple(sorted((integer(seeds[key], 0, MAX_SEED, "a marked seed"), marks[key]) for key in marks))


def _parse_frame(value: Any, space: Space) -> Keyframe:
    data = mapping(value, 3, "a keyframe")
    return Keyframe(
        parse_point(data.get("point"), space),
        number(data.get("seconds", 1.0), 0.1, MOST_FRAME_SECONDS, "seconds"),
        choice(data.get("easing", "linear"), EASINGS, "the easing"),
    )
