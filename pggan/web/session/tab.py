"""One tab: its screen, its undo, and the table of what it can ask for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pggan.utils.errors import PgganError, UsageError
from pggan.utils.formatting import one_line
from pggan.web.explorer import Explorer, Look
from pggan.web.film import MOST_SECONDS, film_at
from pggan.web.rendering.drawing import Encoded
from pggan.web.rendering.jobs import Job
from pggan.web.rendering.renderer import Request
from pggan.web.session.fields import entries, integer, mapping, number, text
from pggan.web.session.history import History
from pggan.web.session.outbox import Outbox
from pggan.web.session.points import MOST_NAME, Point, parse_point, parse_quality

MOST_PICTURES, MOST_SLOT = 128, 60
MOST_REVISION = 2**53

Message = Mapping[str, Any]
# Answers a message of a tab; None: there is nothing to say, or the answer comes later.
Handler = Callable[["Tab", Message], dict[str, Any] | None]


class Tab:
    """The server's side of one browser tab."""

    def __init__(self, explorer: Explorer, outbox: Outbox, handlers: Mapping[str, Handler]) -> None:
        self.explorer, self.outbox, self.handlers = explorer, outbox, handlers
        self.history = History(explorer.first_screen())
        self._jobs: dict[int, Job] = {}

    def receive(self, raw: str | bytes) -> None:
        """Answers one message. Whatever is wrong with it becomes an answer, too."""
        message_id: Any = None
        try:
            if not isinstance(raw, str):
                raise UsageError("a message has to be text")
            message = mapping(_parse_json(raw), 16, "a message")
            message_id = integer(message.get("id", 0), 0, MOST_REVISION, "a message's number")
            handler = self.handlers.get(text(message.get("type"), MOST_NAME, "a message's type"))
            if handler is None:
                raise UsageError("no such message; reload the page")
            answer = handler(self, message)
        except (PgganError, OSError) as error:  # such as favourites on a full disk, or in a run of somebody else
            reason = str(error) if isinstance(error, PgganError) else f"it did not work: {one_line(error)}"
            self.outbox.reply({"type": "error", "id": message_id, "error": reason})
            return
        if answer is not None:
            self.outbox.reply({"type": "answer", "id": message_id, **answer})

    def close(self) -> None:
        """Ends everything that the tab waits for."""
        self.explorer.renderer.forget(self)
        for job in self._jobs.values():
            job.cancel()

    def point(self, value: Any) -> Point:
        return parse_point(value, self.explorer.space)

    def state(self) -> dict[str, Any]:
        """Returns the screen as the page mirrors it."""
        undo, redo = self.history.depth
        return {"screen": self.history.screen.to_json(), "undo": undo, "redo": redo}

    def work(self, message: Message, work: Callable[[Job], dict[str, Any]]) -> None:
        """Starts long work that answers a message.

        Raises:
            UsageError: Too much work waits.
        """
        if self.explorer.jobs.is_full:
            raise UsageError("other work is under way; wait for it, or cancel it")
        number_of_job = message.get("id", 0)

        def report(event: dict[str, Any]) -> None:
            kind = "progress" if "done" in event else "answer"
            fields = event.get("result", event)
            if "error" in event:
                kind = "error"
            self.outbox.from_thread(self.outbox.reply, {"type": kind, "id": number_of_job, **fields})
            if kind != "progress":
                self._jobs.pop(number_of_job, None)

        self._jobs[number_of_job] = self.explorer.jobs.start(work, report)

    def cancel(self, number_of_job: int) -> None:
        """Ends long work, if it is still under way."""
        if number_of_job in self._jobs:
            self._jobs[number_of_job].cancel()

    def draw(self, message: Message) -> None:
        """Asks for the pictures of a message; each is sent when it is drawn."""
        rank = integer(message.get("rank", 1), 0, 9, "the rank")
        requests = [self._request(entry, rank) for entry in entries(message.get("pictures"), MOST_PICTURES, "pictures")]
        for request in requests:
            self.explorer.renderer.submit(request)

    def _request(self, value: Any, rank: int) -> Request:
        entry, screen, space = mapping(value, 8, "a picture"), self.history.screen, self.explorer.space
        look = Look(
            integer(entry.get("level", screen.level), space.min_level, space.max_level, "the level"),
            number(entry.get("alpha", screen.alpha), 0, 1, "alpha"),
            text(entry.get("snapshot", screen.snapshot), MOST_NAME, "the snapshot"),
            parse_quality(entry.get("quality", "still")),
        )
        if "time" in entry:
            latent = film_at(self.explorer, screen, number(entry["time"], 0, MOST_SECONDS, "the time"))
            drawing = self.explorer.drawing_of(latent, look)
        else:
            drawing = self.explorer.drawing(self.point(entry.get("point")), screen, look)
        revision = integer(entry.get("rev", 0), 0, MOST_REVISION, "rev")
        return Request(self, text(entry.get("slot"), MOST_SLOT, "the slot"), drawing, rank, self._deliver, revision)

    def _deliver(self, request: Request, picture: Encoded | str) -> None:
        head = {"rev": request.revision, "level": request.drawing.level, "quality": request.drawing.quality}
        if isinstance(picture, str):
            message = {"type": "error", "id": None, "slot": request.slot, "error": picture}
            self.outbox.from_thread(self.outbox.reply, message)
        else:
            self.outbox.from_thread(self.outbox.picture, request.slot, head, picture)


def _parse_json(raw: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise UsageError("a message has to be JSON") from None
