"""Messages about the screen and its pictures: draw, change, undo, families, saving."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from pggan.utils.errors import UsageError
from pggan.web.recipe import recipe
from pggan.web.session.fields import entries, integer, number, text
from pggan.web.session.points import children, classes_of, family, latent_of
from pggan.web.session.screen import changed
from pggan.web.session.tab import MOST_PICTURES, MOST_REVISION, MOST_SLOT, Handler, Message, Tab

FAMILY_SIZE, MOST_FAMILY_DEGREES = 12, 60


def hello(tab: Tab, message: Message) -> dict[str, Any]:
    """Answers a page that has just opened: the model, and the screen that its link asked for, as far as it fits."""
    if message.get("screen") is not None:
        tab.history.screen = changed(tab.history.screen, message["screen"], tab.explorer.space)
    first = tab.explorer.first_screen().to_json()
    return {"model": tab.explorer.describe(), "first": first, **tab.state()}


def draw(tab: Tab, message: Message) -> None:
    """Asks for pictures."""
    tab.draw(message)


def forget(tab: Tab, message: Message) -> None:
    """Takes back requests for pictures, such as those that were scrolled away."""
    slots = entries(message.get("slots"), MOST_PICTURES * 4, "slots")
    tab.explorer.renderer.forget(tab, [text(slot, MOST_SLOT, "the slot") for slot in slots])


def change(tab: Tab, message: Message) -> dict[str, Any]:
    """Takes a step: some fields of the screen get new values."""
    tab.history.change(changed(tab.history.screen, message.get("screen"), tab.explorer.space))
    return tab.state()


def undo(tab: Tab, message: Message) -> dict[str, Any]:
    """Goes a step back."""
    return {"moved": tab.history.undo(), **tab.state()}


def redo(tab: Tab, message: Message) -> dict[str, Any]:
    """Goes a step forward again."""
    return {"moved": tab.history.redo(), **tab.state()}


def relatives(tab: Tab, message: Message) -> dict[str, Any]:
    """Answers with the family of a picture: twelve small rotations of its latent."""
    degrees = number(message.get("degrees", 15), 1, MOST_FAMILY_DEGREES, "degrees")
    point, screen = tab.point(message.get("point")), tab.history.screen
    children = family(point, tab.explorer.space, tab.explorer.directions(screen), degrees, FAMILY_SIZE)
    return {"points": [child.to_json() for child in children]}


def offspring(tab: Tab, message: Message) -> dict[str, Any]:
    """Answers with nine children of two pictures."""
    parents = [tab.point(value) for value in entries(message.get("parents"), 2, "parents")]
    if len(parents) != 2:
        raise UsageError("children have two parents")
    directions = tab.explorer.directions(tab.history.screen)
    born = children(parents[0], parents[1], tab.explorer.space, directions)
    return {"points": [child.to_json() for child in born]}


def cancel(tab: Tab, message: Message) -> None:
    """Ends long work."""
    tab.cancel(integer(message.get("job"), 0, MOST_REVISION, "the work's number"))


def about(tab: Tab, message: Message) -> dict[str, Any]:
    """Answers with a picture's latent and what else is known of it."""
    explorer, point = tab.explorer, tab.point(message.get("point"))
    row = latent_of(point, explorer.space, explorer.directions(tab.history.screen))
    data = np.ascontiguousarray(row, dtype="<f4").tobytes()
    is_w = explorer.space.mapped is not None and point.latent is not None  # w says nothing of the class
    columns = () if is_w else explorer.space.labels.columns
    chips = [
        {"title": f"class of {column.name}", "text": column.chip(number)}
        for column, number in zip(columns, classes_of(point, explorer.space))
    ]
    return {"z": base64.b64encode(data).decode(), "chips": chips}


def recipe_of(tab: Tab, message: Message) -> dict[str, Any]:
    """Answers with a command and with Python code that make a picture again."""
    return recipe(tab.point(message.get("point")), tab.history.screen, tab.explorer)


HANDLERS: dict[str, Handler] = {
    "hello": hello,
    "draw": draw,
    "forget": forget,
    "change": change,
    "undo": undo,
    "redo": redo,
    "family": relatives,
    "children": offspring,
    "cancel": cancel,
    "about": about,
    "recipe": recipe_of,
}
