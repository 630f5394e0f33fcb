"""The one thread that draws: the newest request alone of each slot of a tab, urgent ones first, equal ones once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pggan.utils.errors import PgganError
from pggan.utils.formatting import one_line
from pggan.web.rendering.drawing import Drawing, Encoded, LevelTimes, draw, encode
from pggan.web.rendering.shelf import Shelf

# Pictures kept, in bytes, and pending ones of a tab.
CACHE_BYTES = 64 << 20
MOST_PENDING = 512
# Milliseconds that a batch takes, about: a slider that begins to move waits no longer.
BATCH_MS, MOST_BATCH = 30.0, 16


@dataclass
class Request:
    """A picture that a tab waits for."""

    owner: object  # the tab
    slot: str  # where it is shown; a newer request of the slot replaces an older one
    drawing: Drawing
    rank: int  # 0 comes first
    deliver: Callable[[Request, Encoded | str], None]  # called in the drawing thread; a text is what went wrong
    revision: int = 0
    made: float = field(default_factory=time.monotonic)


class Renderer:
    """Draws in a thread of its own from `start` to `stop`."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.times = LevelTimes()
        self._pending: OrderedDict[tuple[int, str], Request] = OrderedDict()
        self._cache: OrderedDict[Drawing, Encoded] = OrderedDict()
        self._cached_bytes = 0
        self._clears = 0  # how often pictures were forgotten: one that was begun before is not kept
        self._wake = threading.Condition()
        self._stopping = False
        self._drawing = True  # until the levels are measured
        self._thread = threading.Thread(target=self._run, name="renderer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the batch that it draws."""
        with self._wake:
            self._stopping = True
            self._pending.clear()
            self._wake.notify_all()
        self._thread.join(10)

    def submit(self, request: Request) -> None:
        """Asks for a picture. Beyond `MOST_PENDING` of a tab its oldest request is dropped."""
        key = (id(request.owner), request.slot)
        with self._wake:
            self._pending.pop(key, None)
            own = [other for other in self._pending if other[0] == key[0]]
            if len(own) >= MOST_PENDING:
                del self._pending[own[0]]
            self._pending[key] = request
            self._wake.notify_all()

    def forget(self, owner: object, slots: Iterable[str] | None = None) -> None:
        """Drops what a tab waits for: in some slots, or all of it."""
        with self._wake:
            chosen = None if slots is None else set(slots)
            for key in [k for k in self._pending if k[0] == id(owner) and (chosen is None or k[1] in chosen)]:
                del self._pending[key]

    def clear(self) -> None:
        """Forgets the pictures that were drawn: the model has changed."""
        with self._wake:
            self._cache.clear()
            self._cached_bytes = 0
            self._clears += 1

    @property
    def is_busy(self) -> bool:
        """Whether pictures are drawn or wait: long work makes room for them."""
        return bool(self._pending) or self._drawing

    def wait_until_idle(self, seconds: float) -> None:
        """Returns once no picture is drawn or waits, or after some seconds: called by long work between its steps."""
        end = time.monotonic() + seconds
        while self.is_busy and not self._stopping and time.monotonic() < end:
            time.sleep(0.002)

    @property
    def cached_bytes(self) -> int:
        return self._cached_bytes

    def _run(self) -> None:
        self._measure()
        while True:
            with self._wake:
                self._drawing = False
                while not self._pending and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    return
                batch = self._next_batch()
                self._drawing = True
            self._answer(batch)

    def _measure(self) -> None:
        model = self.shelf.model("")
        config = model.file.generator.config
        try:
            self.times.measure(model, config.min_level, model.file.level)
        except PgganError:
            return  # the first picture says what is wrong

    def _next_batch(self) -> list[Request]:
        """Takes the most urgent request and those that can be drawn with it."""
        first = min(self._pending.values(), key=lambda request: (request.rank, request.made))
        ms = self.times.ms.get(first.drawing.level, BATCH_MS)
        most = 1 if first.rank == 0 else int(max(1, min(MOST_BATCH, BATCH_MS // max(ms, 0.1))))
        alike = [r for r in self._pending.values() if r.drawing.batch_key == first.drawing.batch_key and r is not first]
        batch = [first, *sorted(alike, key=lambda request: (request.rank, request.made))[: most - 1]]
        for request in batch:
            del self._pending[id(request.owner), request.slot]
        return batch

    def _answer(self, batch: list[Request]) -> None:
        wanted = dict.fromkeys(request.drawing for request in batch)
        with self._wake:
            clears = self._clears
            pictures = {drawing: self._cache[drawing] for drawing in wanted if drawing in self._cache}
        missing = [drawing for drawing in wanted if drawing not in pictures]
        try:
            if missing:
                pictures |= self._draw(missing)
        except PgganError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 (the thread must live on; the page shows what went wrong)
            reason = f"the picture could not be drawn: {one_line(error)}"
        else:
            for drawing, picture in pictures.items():
                self._keep(drawing, picture, clears)
            for request in batch:
                request.deliver(request, pictures[request.drawing])
            return
        for request in batch:
            request.deliver(request, reason)

    def _draw(self, drawings: list[Drawing]) -> dict[Drawing, Encoded]:
        model = self.shelf.model(drawings[0].snapshot)
        start = time.perf_counter()
        images = draw(model, drawings)
        pictures = {drawing: encode(image, drawing.quality) for drawing, image in zip(drawings, images)}
        if len(drawings) == 1 and drawings[0].blend is None:
            self.times.note(drawings[0].level, 1e3 * (time.perf_counter() - start))
        return pictures

    def _keep(self, drawing: Drawing, picture: Encoded, clears: int) -> None:
        with self._wake:
            if clears != self._clears:
                return
            if drawing in self._cache:
                self._cache.move_to_end(drawing)
                return
            self._cache[drawing] = picture
            self._cached_bytes += len(picture.data) + len(drawing.latent.values)
            while self._cached_bytes > CACHE_BYTES:
                old, dropped = self._cache.popitem(last=False)
                self._cached_bytes -= len(dropped.data) + len(old.latent.values)
