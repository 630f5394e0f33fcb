"""References to records: read, fitted, halved down to 4x4 and encoded, in worker processes and in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from pggan.data.codecs import encode
from pggan.data.imaging import fit, fitted_side
from pggan.data.pyramid import pyramid
from pggan.data.sources.base import BadPicture, Picture, Reader, Ref
from pggan.errors import DataError

# Tasks on their way per worker: enough to keep it busy, few enough to bound the memory.
IN_FLIGHT = 8

TOO_SMALL, NOT_SQUARE, BAD = "too small", "not square", "bad"


class Converted(NamedTuple):
    """A picture's records by resolution; or None, and the kind (TOO_SMALL, NOT_SQUARE, BAD) and reason of that."""

    name: str
    records: dict[int, bytes] | None
    labels: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Converter:
    """Turns a reference into records; what a worker process holds."""

    reader: Reader
    max_res: int
    channels: int = 3
    fit: str = "crop"
    upscale: bool = False
    quality: int = 95
    codecs: dict[int, str] = field(default_factory=dict)

    def __call__(self, ref: Ref) -> Converted:
        try:
            picture = self.reader.read(ref, self.channels)
            return self._fitted(ref, picture)
        except BadPicture as bad:
            return Converted(ref.name, None, kind=BAD, reason=str(bad))
        except MemoryError:
            return Converted(ref.name, None, kind=BAD, reason="too large for the memory")

    def _fitted(self, ref: Ref, picture: Picture) -> Converted:
        height, width = picture.image.shape[:2]
        notes = picture.notes
        if height != width:
            if self.fit == "reject":
                return Converted(ref.name, None, kind=NOT_SQUARE, reason=f"{width}x{height} (--fit reject)")
            notes = (*notes, "padded to a square" if self.fit == "pad" else "cropped to a square")
        side = fitted_side(width, height, self.fit)
        if side < self.max_res and not self.upscale:
            return Converted(ref.name, None, kind=TOO_SMALL, reason=f"{width}x{height}")
        whole = self.reader.boxed and height == width and width & (width - 1) == 0
        if side != self.max_res and not whole:
            notes = (*notes, "resized down" if side > self.max_res else "enlarged")
        levels = pyramid(picture.image if whole and side > self.max_res else fit(picture.image, self.max_res, self.fit))
        records = {at: encode(levels[at], codec, self.quality) for at, codec in self.codecs.items()}
        return Converted(ref.name, records, picture.labels, notes)


def converted(converter: Converter, refs: Iterator[Ref], workers: int) -> Generator[Converted, None, None]:
    """Results in the order of `refs`, made here or in worker processes, with a bounded number on their way.

    Raises `DataError` where a worker dies.
    """
    if workers == 1:
        yield from map(converter, refs)
        return
    context = multiprocessing.get_context("spawn")  # no fork: threads and open files stay where they are
    waiting: deque[Future[Converted]] = deque()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(converter,))
    try:
        for at, ref in enumerate(refs):
            with _interrupts_held(at < workers):  # the first submissions start the processes
                waiting.append(pool.submit(_work, ref))
            if len(waiting) >= IN_FLIGHT * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError("a worker process died (out of memory?); try fewer --workers") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held(wanted: bool) -> Iterator[None]:
    """Ctrl-C waits until the block ends; processes started in it are born deaf to it, not only once they have begun.

    The mask is for them. It does not hold the signal back here: a thread of a library may take it in this one's place.
    """
    main = threading.current_thread() is threading.main_thread()
    if not wanted or not main or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


_converter: Converter | None = None


def _begin_worker(converter: Converter) -> None:
    global _converter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    _converter = converter
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed tells its workers nothing: they would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(ref: Ref) -> Converted:
    assert _converter is not None
    return _converter(ref)
