"""Messages about a photograph: cut it out by points, find its latent."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import BadImage
from pggan.editing.faces.face_points import why_no_faces
from pggan.editing.faces.face_template import cut_face, face_template
from pggan.generation.grid import Images
from pggan.generation.images import encode_png
from pggan.utils.errors import UsageError
from pggan.web.explorer import Explorer
from pggan.web.latent_sets import point_of
from pggan.web.rendering.jobs import Job
from pggan.web.session.fields import entries, integer, number, text
from pggan.web.session.points import MOST_NAME
from pggan.web.session.tab import Handler, Message, Tab

MOST_STEPS, MOST_COORDINATE = 3000, 10000
# Steps of the search between two previews.
PREVIEW_EVERY = 5


def _cut(explorer: Explorer, message: Message) -> Images:
    """Returns a photograph as the model takes it (R, R, C): a face by its points, else the square in its middle."""
    from pggan.editing.projection.picture_input import fit_square

    image = explorer.photographs.find(text(message.get("key"), MOST_NAME, "the photograph"))
    if message.get("points") is None:
        return fit_square(image, explorer.model.resolution)
    try:
        template = None if why_no_faces() else face_template(explorer.model)
        return cut_face(image, _points(message["points"]), template, explorer.model.resolution)
    except BadImage as error:
        raise UsageError(f"{error}; drag the points to the eyes and the corners of the mouth") from None


def _points(value: Any) -> NDArray[np.float64]:
    rows = entries(value, 4, "points")
    if len(rows) != 4 or not all(isinstance(row, list) and len(row) == 2 for row in rows):
        raise UsageError("four points are needed: two eyes, two corners of the mouth")
    return np.array([[number(at, -MOST_COORDINATE, MOST_COORDINATE, "a point") for at in row] for row in rows])


def _png(image: Images) -> str:
    return base64.b64encode(encode_png(image)).decode()


def align(tab: Tab, message: Message) -> dict[str, Any]:
    """Answers with the part of the photograph that would be searched for."""
    return {"png": _png(_cut(tab.explorer, message))}


def project(tab: Tab, message: Message) -> None:
    """Searches for the latent of a photograph; previews come with the progress."""
    explorer, image = tab.explorer, _cut(tab.explorer, message)
    steps = integer(message.get("steps", 400), 10, MOST_STEPS, "steps")
    tab.work(message, lambda job: _search(explorer, image, steps, job))


def _search(explorer: Explorer, image: Images, steps: int, job: Job) -> dict[str, Any]:
    from pggan.editing.projection.picture_input import InputPicture
    from pggan.editing.projection.project import ProjectOptions, psnr
    from pggan.editing.projection.project import project as find_latent
    from pggan.editing.task import Task

    done = 0

    def watch(step: int, best: Images) -> None:
        nonlocal done
        done = step
        if step % PREVIEW_EVERY == 0:
            job.step(step / steps, preview=_png(best), psnr=round(psnr(best, image), 2), doing="searching")

    def report(count: int) -> None:
        job.step(done / steps)

    found = find_latent(
        explorer.model, InputPicture("photograph", image), ProjectOptions(steps=steps), Task(report), watch
    )
    return {"point": point_of(explorer, found.latents).to_json(), "psnr": found.psnr, "png": _png(image)}


HANDLERS: dict[str, Handler] = {"align": align, "project": project}
