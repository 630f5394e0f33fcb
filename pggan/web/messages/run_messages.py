"""Messages about what a picture comes from: snapshots of the run, training pictures near it, D's opinion."""

from __future__ import annotations

from typing import Any

from pggan.web.explorer import Look
from pggan.web.messages.favourite_messages import picture_of
from pggan.web.rendering.drawing import score_of
from pggan.web.rendering.jobs import Job
from pggan.web.session.tab import Handler, Message, Tab


def snapshots(tab: Tab, message: Message) -> dict[str, Any]:
    """Answers with the snapshots that the run has now; a page that follows a run asks again and again."""
    kept = tab.explorer.shelf.snapshots()
    return {"snapshots": [{"name": snapshot.name, "kimg": snapshot.kimg} for snapshot in kept]}


def near(tab: Tab, message: Message) -> None:
    """Finds the training pictures nearest to a picture, and D's score of it where the model keeps its D."""
    explorer, point, screen = tab.explorer, tab.point(message.get("point")), tab.history.screen

    def work(job: Job) -> dict[str, Any]:
        return explorer.training_pictures.near(picture_of(explorer, point, screen), job)

    tab.work(message, work)


def judge(tab: Tab, message: Message) -> None:
    """Answers with D's score of a picture, and among 64 seeds how many it takes for less real."""
    explorer, point, screen = tab.explorer, tab.point(message.get("point")), tab.history.screen

    def work(job: Job) -> dict[str, Any]:
        model = explorer.shelf.model(screen.snapshot)
        if model.file.discriminator is None:
            return {"score": None}
        score = score_of(model, explorer.drawing(point, screen, Look.of(screen)))
        others = explorer.usual_scores(screen, job)
        return {"score": score, "better_than": sum(other < score for other in others) / len(others)}

    tab.work(message, work)


HANDLERS: dict[str, Handler] = {"snapshots": snapshots, "near": near, "judge": judge}
