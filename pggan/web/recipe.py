"""How to make a picture again without the page: a command and Python code, and the entry of a saved PNG."""

from __future__ import annotations

import base64
import shlex
from dataclasses import replace
from typing import Any

import numpy as np

from pggan.generation.images import code_text
from pggan.generation.model import Model
from pggan.web.explorer import Explorer
from pggan.web.session.points import MASK_SIDE, Mix, Point, classes_of
from pggan.web.session.screen import Screen


def label_text(model: Model, classes: tuple[int | None, ...]) -> str | None:
    """Returns classes as `--label` takes them, None where none is set."""
    columns = model.labels.columns
    chosen = [(column, number) for column, number in zip(columns, classes) if number is not None]
    if not chosen:
        return None
    if len(columns) == 1 and not columns[0].is_number:
        return columns[0].text(chosen[0][1])  # not the number, which may be the name of another class
    return ",".join(f"{column.name}={column.text(number)}" for column, number in chosen)


def is_plain(point: Point, screen: Screen, model: Model) -> bool:
    """Whether `pggan generate --seeds` makes the picture: a seed, its class and codes, at the model's own stage."""
    trained = (screen.level, screen.alpha) == (model.file.level, model.file.alpha)
    return point.seed is not None and not point.moves and point.mix is None and trained


def command_of(point: Point, screen: Screen, model: Model, source: str) -> str:
    """Returns the command that makes a picture again, or what to do first."""
    words = ["pggan", "generate", source]
    if model.truncation != 1:
        words += ["--truncation", f"{model.truncation:g}"]
    if point.mix is not None:
        return _blend_command(point, point.mix, screen, model, source)
    if not is_plain(point, screen, model):
        if (screen.level, screen.alpha) != (model.file.level, model.file.alpha):
            return "# lower levels: see the Python code"
        return f"# save the picture (S), then\n{shlex.join([*words, '--latents', 'SAVED.png'])}"
    words += ["--seeds", str(point.seed)]
    label = label_text(model, point.classes)
    if label is not None:
        words += ["--label", label]
    for code, value in point.codes:
        words += ["--code", f"{code}={code_text(value)}"]
    return shlex.join(words)


def _blend_command(point: Point, mix: Mix, screen: Screen, model: Model, source: str) -> str:
    """Returns the command that mixes two pictures; its PNG shows both beside the mixture."""
    parents = [replace(point, mix=None), mix.other]
    trained = (screen.level, screen.alpha) == (model.file.level, model.file.alpha)
    if mix.mask is not None or not trained or model.truncation != 1:
        return "# painted mixtures, lower levels and truncated mixtures: see the Python code"
    words, side = ["pggan", "blend", source], 2 ** min(mix.level, screen.level)
    end = ["--at", f"{side}x{side}", *([] if mix.share == 1 else ["--share", f"{mix.share:g}"])]
    own = all(is_plain(parent, screen, model) and not parent.codes for parent in parents)
    if own and all(number is None for parent in parents for number in parent.classes):
        return shlex.join([*words, "--seeds", f"{parents[0].seed},{parents[1].seed}", *end])
    saved = ["--latents", "FIRST.png", "--latents", "SECOND.png"]
    return f"# save each of the two pictures by itself (S), then\n{shlex.join([*words, *saved, *end])}"


def _load_lines(screen: Screen, explorer: Explorer) -> list[str]:
    """Returns Python code that loads the model of a screen."""
    model, two = explorer.shelf.model(screen.snapshot), explorer.shelf.blended(screen.snapshot)
    truncation = "" if model.truncation == 1 else f", truncation={model.truncation:g}"
    if two is None:
        return [f"model = pggan.load({str(model.path)!r}{truncation})"]
    return [
        f"model = pggan.load({str(two[0])!r}{truncation})",
        f"other = pggan.load({str(two[1])!r}).file.generator.state_dict()",
        "for name, weight in model.file.generator.state_dict().items():",
        "    if weight.is_floating_point():",
        f"        weight.lerp_(other[name], {two[2]:g})",
    ]


def python_of(point: Point, screen: Screen, explorer: Explorer) -> str:
    """Returns Python code that makes a picture again as a uint8 array."""
    model, space = explorer.shelf.model(screen.snapshot), explorer.space
    load_lines = _load_lines(screen, explorer)
    if is_plain(point, screen, model):
        label = label_text(model, point.classes)
        extra = f", label={label!r}" if label is not None else ""
        extra += f", codes={dict(point.codes)!r}" if point.codes else ""
        return "\n".join(["import pggan", "", *load_lines, f"image = model.generate({point.seed}{extra})[0]", ""])
    rows = [explorer.row(point, screen)]
    classes, mapped = [classes_of(point, space)], space.mapped is not None
    if point.mix is not None:
        rows.append(explorer.row(point.mix.other, screen))
        classes.append(classes_of(point.mix.other, space))
    text = base64.b64encode(np.stack(rows).astype("<f4").tobytes()).decode()
    lines = [
        "import base64", "", "import numpy as np", "", "import pggan",
        "from pggan.editing.latent_space import takes_w",
        "from pggan.generation.level_colours import refit_colours",
        "from pggan.generation.level_features import synthesize_blend",
        "from pggan.generation.to_uint8 import to_uint8", "",
        *load_lines,
        f'latents = np.frombuffer(base64.b64decode("{text}"), "<f4").reshape({len(rows)}, -1).copy()',
        f"labels = {f'model.labels.vectors({classes!r})' if model.label_size and not mapped else None}",
    ]  # fmt: skip
    if not screen.snapshot:
        lines.append("refit_colours(model)  # lower levels in the colours of the finished picture")
    if mapped:
        lines.append("model = takes_w(model)  # the latents are w, behind the mapping network")
    lines += _mix_lines(point.mix, screen) if point.mix else [
        f"image = to_uint8(model.synthesize(latents, labels, {screen.level}, {screen.alpha:g}))[0]"
    ]  # fmt: skip
    unused = {"synthesize_blend": point.mix is None, "refit_colours": bool(screen.snapshot), "takes_w": not mapped}
    return "\n".join(line for line in lines if not any(name in line for name, gone in unused.items() if gone)) + "\n"


def _mix_lines(mix: Mix, screen: Screen) -> list[str]:
    weight = f"np.full((1, 1), {mix.share:g}, np.float32)"
    if mix.mask is not None:
        mask = base64.b64encode(mix.mask).decode()
        weight = (
            f'np.frombuffer(base64.b64decode("{mask}"), np.uint8).reshape({MASK_SIDE}, {MASK_SIDE}) / np.float32(255)'
        )
    return [
        f"weight = {weight}",
        f"raw = synthesize_blend(model, latents, labels, weight, {mix.level}, {screen.level}, {screen.alpha:g})",
        "image = to_uint8(raw)[0]",
    ]


def recipe(point: Point, screen: Screen, explorer: Explorer) -> dict[str, Any]:
    """Returns command and code for what is on screen."""
    model, screen = explorer.shelf.model(screen.snapshot), explorer.drawn(screen)
    command = command_of(point, screen, model, str(model.path))
    if explorer.shelf.blended(screen.snapshot):
        command = "# a blend of two snapshots: see the Python code"
    return {"command": command, "python": python_of(point, screen, explorer)}
