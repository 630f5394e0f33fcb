"""Messages about the rack of directions: find, teach."""

from __future__ import annotations

from typing import Any

from pggan.web.explorer import Explorer
from pggan.web.rack import SOURCES
from pggan.web.rendering.jobs import Job
from pggan.web.session.fields import choice, text
from pggan.web.session.tab import Handler, Message, Tab

MOST_DIRECTION_NAME = 40


def rack(tab: Tab, message: Message) -> dict[str, Any]:
    """Answers with the directions, and with the ways to find more."""
    return tab.explorer.rack.describe()


def _tell(explorer: Explorer) -> None:
    """Shows all tabs the rack, and the favourites: those whose directions are there again have their moves again."""
    explorer.tell_favourites()
    explorer.broadcast("rack", **explorer.rack.describe())


def find(tab: Tab, message: Message) -> dict[str, Any] | None:
    """Finds directions: at once where that takes no pictures."""
    explorer, source = tab.explorer, choice(message.get("source"), tuple(SOURCES), "the source")

    def work(job: Job) -> dict[str, Any]:
        explorer.rack.find(source, job)
        _tell(explorer)
        return explorer.rack.describe()

    if explorer.rack.finds_at_once(source):
        explorer.rack.find(source)
        _tell(explorer)
        return explorer.rack.describe()
    tab.work(message, work)
    return None


def teach(tab: Tab, message: Message) -> None:
    """Makes a direction from the marks of the grid."""
    explorer, marks = tab.explorer, tab.history.screen.marks
    name = text(message.get("name"), MOST_DIRECTION_NAME, "the name") or "mine"

    def work(job: Job) -> dict[str, Any]:
        taught = explorer.rack.teach(name, [s for s, yes in marks if yes], [s for s, yes in marks if not yes])
        _tell(explorer)
        return {**explorer.rack.describe(), "taught": taught.key, "said": f"{taught.name}: {taught.note}"}

    tab.work(message, work)


def export_directions(tab: Tab, message: Message) -> None:
    """Makes a directions file of the rack."""
    explorer, screen = tab.explorer, tab.history.screen

    def work(job: Job) -> dict[str, Any]:
        path = explorer.exports.new_path(".safetensors")
        explorer.rack.save(screen, path)
        return explorer.exports.add(path, f"{explorer.model.name}-directions.safetensors")

    tab.work(message, work)


HANDLERS: dict[str, Handler] = {"rack": rack, "find": find, "teach": teach, "directions": export_directions}
