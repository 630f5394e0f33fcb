"""Messages about the timeline: its film as a video, by the encoders of `pggan interpolate`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pggan.generation.grid import Images
from pggan.generation.video import write_grid_video
from pggan.generation.video_formats import FORMATS, check_fps
from pggan.web.explorer import Explorer, Look
from pggan.web.film import keyframes_of, write_keyframes
from pggan.web.rendering.drawing import draw
from pggan.web.rendering.jobs import Job
from pggan.web.session.fields import choice, integer, number
from pggan.web.session.screen import Screen
from pggan.web.session.tab import Handler, Message, Tab

MOST_SCALE = 16
# Pictures between two steps of the export: pictures of the page come between them.
BATCH = 4


def export_film(tab: Tab, message: Message) -> None:
    """Makes a video of the timeline."""
    explorer, screen = tab.explorer, tab.history.screen
    ending = "." + choice(message.get("format"), tuple(name[1:] for name in FORMATS), "the format")
    fps = number(message.get("fps", 30), 1, 60, "frames a second")
    scale = integer(message["scale"], 1, MOST_SCALE, "the enlargement") if message.get("scale") else None
    check_fps(FORMATS[ending], fps)
    count = keyframes_of(explorer, screen).frames(fps)  # refuses too few keyframes before any work

    def work(job: Job) -> dict[str, Any]:
        path = explorer.exports.new_path(ending)
        frames = _frames(explorer, screen, count, fps, job)
        written = write_grid_video(path, frames, (1, 1), 2 ** explorer.drawn(screen).level, scale, fps)
        return {**explorer.exports.add(path, f"{explorer.model.name}-film{ending}"), "frames": written["frames"]}

    tab.work(message, work)


def _frames(explorer: Explorer, screen: Screen, count: int, fps: float, job: Job) -> Iterator[Images]:
    """Yields the film's frames, (1, R, R, C)."""
    model, look, keyframes = explorer.shelf.model(screen.snapshot), Look.of(screen), keyframes_of(explorer, screen)
    for start in range(0, count, BATCH):
        moments = [keyframes.at(frame, fps) for frame in range(start, min(start + BATCH, count))]
        drawings = [
            explorer.drawing_of(explorer.latent_of_row(rows[0], None if labels is None else labels[0]), look)
            for rows, labels in moments
        ]
        for image in draw(model, drawings):
            yield image[None]
        job.step((start + len(moments)) / count)


def export_keyframes(tab: Tab, message: Message) -> None:
    """Makes the files that `pggan interpolate --keyframes` plays."""
    explorer, screen = tab.explorer, tab.history.screen
    keyframes_of(explorer, screen)

    def work(job: Job) -> dict[str, Any]:
        path = explorer.exports.new_path(".zip")
        write_keyframes(explorer, screen, path, explorer.exports.new_path(".safetensors"))
        return explorer.exports.add(path, f"{explorer.model.name}-keyframes.zip")

    tab.work(message, work)


HANDLERS: dict[str, Handler] = {"film": export_film, "keyframes": export_keyframes}
