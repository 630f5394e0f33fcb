"""How to make a picture again without the page: a command and Python code, and the entry of a saved PNG."""

from __future__ import annotations

import base64
import shlex
from typing import Any

import numpy as np

from pggan.generation.model import Model
from pggan.web.explorer import Explorer
from pggan.web.session.points import Point, classes_of, latent_of
from pggan.web.session.screen import Screen


def label_text(model: Model, classes: tuple[int | None, ...]) -> str | None:
    """Returns classes as `--label` takes them, None where none is set."""
    columns = model.labels.columns
    chosen = [(column, number) for column, number in zip(columns, classes) if number is not None]
    if not chosen:
        return None
    if len(columns) == 1:
        return str(chosen[0][1])
    return ",".join(f"{column.name}={column.classes[number]}" for column, number in chosen)


def is_plain(point: Point, screen: Screen, model: Model) -> bool:
    """Whether `pggan generate --seeds` makes the picture: a seed, its class and codes, at the model's own stage."""
    trained = (screen.level, screen.alpha, screen.snapshot) == (model.file.level, model.file.alpha, "")
    return point.seed is not None and not point.moves and point.mix is None and trained


def command_of(point: Point, screen: Screen, model: Model, source: str) -> str:
    """Returns the command that makes a picture again."""
    words = ["pggan", "generate", source]
    if point.seed is not None:
        words += ["--seeds", str(point.seed)]
    label = label_text(model, point.classes)
    if label is not None:
        words += ["--label", label]
    for code, value in point.codes:
        words += ["--code", f"{code}={value:g}"]
    return shlex.join(words)


def python_of(point: Point, screen: Screen, explorer: Explorer, source: str) -> str:
    """Returns Python code that makes a picture again as a uint8 array."""
    model, space = explorer.shelf.model(screen.snapshot), explorer.space
    if is_plain(point, screen, model):
        label = label_text(model, point.classes)
        extra = f", label={label!r}" if label is not None else ""
        extra += f", codes={dict(point.codes)!r}" if point.codes else ""
        return f"import pggan\n\nmodel = pggan.load({source!r})\nimage = model.generate({point.seed}{extra})[0]\n"
    row = np.ascontiguousarray(latent_of(point, space, explorer.directions(screen)), dtype="<f4")
    labels = ""
    if model.label_size:
        labels = f", model.labels.vectors([{classes_of(point, space)!r}])"
    return (
        "import base64\n\nimport numpy as np\nimport pggan\nfrom pggan.generation.to_uint8 import to_uint8\n\n"
        f"model = pggan.load({source!r})\n"
        f'latent = np.frombuffer(base64.b64decode("{base64.b64encode(row.tobytes()).decode()}"), "<f4")[None]\n'
        f"image = to_uint8(model.synthesize(latent{labels or ', None'}, {screen.level}, {screen.alpha:g}))[0]\n"
    )


def recipe(point: Point, screen: Screen, explorer: Explorer) -> dict[str, Any]:
    """Returns command and code for what is on screen."""
    source = str(explorer.shelf.model(screen.snapshot).path)
    model = explorer.model
    command = command_of(point, screen, model, source)
    return {"command": command, "python": python_of(point, screen, explorer, source)}
