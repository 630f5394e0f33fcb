"""Messages about favourites, saving and exports."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pggan.generation.grid import Grid, Images, grid_shape
from pggan.generation.images import encode_png, write_png
from pggan.utils.errors import UsageError
from pggan.web.explorer import Explorer, Look, as_bytes
from pggan.web.favourites import MOST_NOTE, Favourite
from pggan.web.latent_sets import latent_set, png_entry, restored, storable
from pggan.web.rendering.drawing import draw, score_of
from pggan.web.rendering.jobs import Job
from pggan.web.session.fields import base64_bytes, choice, entries, integer, text
from pggan.web.session.history import Step
from pggan.web.session.points import MOST_NAME, Point, classes_of, input_of, latent_of
from pggan.web.session.screen import Screen, changed
from pggan.web.session.tab import Handler, Message, Tab

EXPORTS = ("pngs", "sheet", "latents")
MOST_EXPORTED = 500
SORTED = 240


def favour(tab: Tab, message: Message) -> dict[str, Any]:
    """Adds a picture to the favourites; undo removes it."""
    explorer, screen = tab.explorer, tab.history.screen
    point = storable(explorer, tab.point(message.get("point")), screen)
    row = latent_of(point, explorer.space, explorer.directions(screen))  # w of the opened model, whatever the snapshot
    z, favourites = base64.b64encode(as_bytes(row)).decode(), explorer.favourites
    note = text(message.get("note", ""), MOST_NOTE, "a note")
    new = favourites.add(Favourite("", point.to_json(), z, note, screen.level, screen.alpha, screen.snapshot))

    def revert() -> None:
        favourites.remove(new.key)
        explorer.tell_favourites()

    def repeat() -> None:
        favourites.add(new)
        explorer.tell_favourites()

    tab.history.take(Step(screen, screen, revert, repeat))
    explorer.tell_favourites()
    return tab.state()


def unfavour(tab: Tab, message: Message) -> dict[str, Any]:
    """Removes a favourite; undo brings it back to its place."""
    explorer, screen = tab.explorer, tab.history.screen
    favourites, key = explorer.favourites, text(message.get("key"), MOST_NAME, "the favourite")
    removed = favourites.remove(key)
    if removed is not None:

        def revert() -> None:
            favourites.add(*removed)
            explorer.tell_favourites()

        def repeat() -> None:
            favourites.remove(key)
            explorer.tell_favourites()

        tab.history.take(Step(screen, screen, revert, repeat))
    explorer.tell_favourites()
    return tab.state()


def note(tab: Tab, message: Message) -> dict[str, Any]:
    """Changes a favourite's note; undo brings the old one back."""
    explorer, screen = tab.explorer, tab.history.screen
    key = text(message.get("key"), MOST_NAME, "the favourite")
    new = text(message.get("note"), MOST_NOTE, "a note")
    old = explorer.favourites.set_note(key, new)
    if old is not None:

        def write(words: str) -> None:
            explorer.favourites.set_note(key, words)
            explorer.tell_favourites()

        tab.history.take(Step(screen, screen, lambda: write(old), lambda: write(new)))
    explorer.tell_favourites()
    return tab.state()


def about_picture(explorer: Explorer, point: Point, screen: Screen) -> dict[str, Any]:
    """Returns a PNG's entry: what `pggan generate` writes, and the screen to come back to."""
    loaded = explorer.shelf.loaded(screen.snapshot)
    model, about = loaded.model, loaded.about
    point = storable(explorer, point, screen)
    if point.mix is not None:  # no other command makes it; the first picture's latent is for this page alone
        alone = png_entry(explorer, replace(point, mix=None), screen, "") if point.moves else {}
        made = {"moved_latent": alone["latent"]} if alone else {}
    elif point.seed is not None and not point.moves:
        made = {"seed": point.seed}
    else:
        made = png_entry(explorer, point, screen, name_of(point))
    is_w = explorer.space.mapped is not None and point.latent is not None  # w says nothing of class and codes
    labels: dict[str, Any] = {} if is_w else {"class": model.labels.describe(classes_of(point, explorer.space))}
    shown = {"stage": point.to_json(), "level": screen.level, "alpha": screen.alpha, "snapshot": screen.snapshot}
    if explorer.space.codes.size and not is_w:
        row = input_of(point, explorer.space)
        labels["codes"] = explorer.space.codes.describe(row[explorer.space.latent_size :])
    return {**made, **labels, **about, "resolution": 2 ** explorer.drawn(screen).level, "explore": shown}


def name_of(point: Point) -> str:
    """Returns a file's name for a point."""
    base = f"seed{point.seed:010d}" if point.seed is not None else "latent"
    return base + ("-mixed" if point.mix else "-edited" if point.moves else "")


def picture_of(explorer: Explorer, point: Point, screen: Screen) -> Images:
    """Returns a picture (R, R, C) as it is at rest."""
    drawing = explorer.drawing(point, screen, Look.of(screen))
    image: Images = draw(explorer.shelf.model(drawing.snapshot), [drawing])[0]
    return image


def save(tab: Tab, message: Message) -> None:
    """Makes a PNG with everything that is needed to come back."""
    point, screen, explorer = tab.point(message.get("point")), tab.history.screen, tab.explorer

    def work(job: Job) -> dict[str, Any]:
        data = encode_png(picture_of(explorer, point, screen), about_picture(explorer, point, screen))
        path = explorer.exports.new_path(".png")
        path.write_bytes(data)
        return explorer.exports.add(path, f"{explorer.model.name}-{name_of(point)}.png")

    tab.work(message, work)


def _chosen(explorer: Explorer, keys: list[Any], screen: Screen) -> list[tuple[Favourite, Point, Screen]]:
    """Returns favourites with their points and screens; all of them where no keys are given."""
    wanted = {text(key, MOST_NAME, "a favourite") for key in keys}
    chosen = []
    for entry in explorer.favourites.read():
        if wanted and entry.key not in wanted:
            continue
        look = {"stage": entry.point, "level": entry.level, "alpha": entry.alpha, "snapshot": entry.snapshot}
        own = changed(screen, look, explorer.space)
        latent = base64_bytes(entry.z, 4 * explorer.space.width, "the latent")
        chosen.append((entry, restored(explorer, own.stage, latent, replace(own, snapshot="")), own))
    if not chosen:
        raise UsageError("there are no favourites to export; keep some with the heart")
    return chosen


def export(tab: Tab, message: Message) -> None:
    """Exports favourites: PNGs in a zip, or a contact sheet."""
    explorer, way = tab.explorer, choice(message.get("way"), EXPORTS, "the export")
    chosen = _chosen(explorer, entries(message.get("keys", []), MOST_EXPORTED, "favourites"), tab.history.screen)
    make = {"pngs": _zip, "sheet": _sheet, "latents": _latents}[way]
    tab.work(message, lambda job: make(explorer, chosen, job))


def _images(
    explorer: Explorer, chosen: Iterable[tuple[Favourite, Point, Screen]], count: int, job: Job
) -> Iterable[tuple[Favourite, Point, Screen, Images]]:
    for number, (entry, point, screen) in enumerate(chosen):
        yield entry, point, screen, picture_of(explorer, point, screen)
        job.step((number + 1) / count)


def _zip(explorer: Explorer, chosen: list[tuple[Favourite, Point, Screen]], job: Job) -> dict[str, Any]:
    path = explorer.exports.new_path(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for number, (entry, point, screen, image) in enumerate(_images(explorer, chosen, len(chosen), job)):
            about = {**about_picture(explorer, point, screen), **({"note": entry.note} if entry.note else {})}
            name = f"{number + 1:03d}-" + (f"seed{point.seed}" if point.seed is not None else "latent")
            file.writestr(f"{name}.png", encode_png(image, about))
    return explorer.exports.add(path, f"{explorer.model.name}-favourites.zip")


def _sheet(explorer: Explorer, chosen: list[tuple[Favourite, Point, Screen]], job: Job) -> dict[str, Any]:
    columns, rows = grid_shape(len(chosen))
    rows = -(-len(chosen) // columns)
    model = explorer.model
    canvas = Grid(columns, rows, model.resolution, model.channels)
    for _, _, _, image in _images(explorer, chosen, len(chosen), job):
        factor = model.resolution // image.shape[0]
        canvas.add(image.repeat(factor, 0).repeat(factor, 1)[None])
    path = explorer.exports.new_path(".png")
    points = [point.to_json() for _, point, _ in chosen]
    write_png(path, canvas.image, {"favourites": points, **explorer.shelf.loaded("").about})
    return explorer.exports.add(path, f"{model.name}-favourites.png")


def _latents(explorer: Explorer, chosen: list[tuple[Favourite, Point, Screen]], job: Job) -> dict[str, Any]:
    path = explorer.exports.new_path(".safetensors")
    named = [(point, screen, entry.note[:80] or name_of(point)) for entry, point, screen in chosen]
    latent_set(explorer, named).save(path)
    return explorer.exports.add(path, f"{explorer.model.name}-favourites.safetensors")


def sort(tab: Tab, message: Message) -> None:
    """Answers with the seeds from one on, those first that the discriminator takes for the most real."""
    explorer, screen = tab.explorer, tab.history.screen
    first = integer(message.get("first"), 0, 2**32 - 1, "the first seed")
    seeds = range(first, min(first + SORTED, 2**32))

    def work(job: Job) -> dict[str, Any]:
        scores = {}
        for number, seed in enumerate(seeds):
            drawing = explorer.drawing(Point(seed=seed), screen, Look.of(screen))
            scores[seed] = score_of(explorer.shelf.model(drawing.snapshot), drawing)
            if number % 8 == 7:
                job.step(number / len(seeds))
        return {"seeds": sorted(seeds, key=lambda seed: -scores[seed]), "scores": scores}

    tab.work(message, work)


HANDLERS: dict[str, Handler] = {
    "favour": favour,
    "unfavour": unfavour,
    "note": note,
    "save": save,
    "export": export,
    "sort": sort,
}
