"""An ordered parallel map over worker processes, with a bounded number of tasks in flight."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_BYTES_UNDER_WAY
from pggan.utils.parent_watch import exit_with_parent

T = TypeVar("T")
R = TypeVar("R")

# Tasks in flight per worker: enough to keep it busy, few enough to bound memory.
IN_FLIGHT = 8
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


class WorkerDied(DataError):  # noqa: N818 (what happened)
    """A worker process ended before it had returned its result."""


def available_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    in_flight: int = IN_FLIGHT,
    inline: bool = True,
    weigh: Callable[[T], int] = lambda item: 0,
) -> Generator[R, None, None]:
    """Yields `work(item)` for every item, in the order of the items.

    Args:
        work: Picklable; each worker process unpickles it once.
        items: Picklable, as their results.
        workers: Number of worker processes.
        in_flight: Most tasks in flight per worker.
        inline: With one worker, call `work` in this process instead of starting one.
        weigh: Returns the bytes that an item takes until it is done; together at most MAX_BYTES_UNDER_WAY, or one item.

    Raises:
        WorkerDied: A worker process ended, for example by the out-of-memory killer.
        Exception: Whatever `work` raises.
    """
    if inline and workers == 1:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")  # no fork: threads and open files are not inherited
    pending: deque[tuple[Future[R], int]] = deque()  # with the weights of their items
    pool = ProcessPoolExecutor(workers, context, initializer=_init_worker, initargs=(work,))
    received: list[int] = []
    try:
        with _deferred_interrupts() as received:
            for index, item in enumerate(items):
                weight = weigh(item)
                room = MAX_BYTES_UNDER_WAY - weight
                while pending and (len(pending) >= in_flight * workers or sum(w for _, w in pending) > room):
                    result = pending.popleft()[0].result()
                    if received:
                        return
                    yield result
                with _sigint_blocked(index < workers):  # the first submissions start the processes
                    pending.append((pool.submit(_run, item), weight))
            while pending and not received:
                yield pending.popleft()[0].result()
    except BrokenProcessPool:
        raise WorkerDied("a worker process died (out of memory?); try fewer --workers") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if received:
            signal.raise_signal(received[0])
            raise KeyboardInterrupt  # whatever the handler does: the work is not done


@contextmanager
def _deferred_interrupts() -> Iterator[list[int]]:
    """Collects the numbers of SIGINT and SIGTERM in the list it yields, instead of raising.

    Raised at an arbitrary place, KeyboardInterrupt could leave the pool's locks held. Only the main thread can set
    handlers; in other threads the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    handled = [number for number in _INTERRUPTS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in handled}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _sigint_blocked(enabled: bool) -> Iterator[None]:
    """Blocks Ctrl-C for the block: processes started there inherit that, so they ignore it from their first moment."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not enabled or not in_main_thread or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_work: Callable[[Any], Any] | None = None


def _init_worker(work: Callable[[Any], Any]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the workers
    _work = work
    exit_with_parent()


def _run(item: Any) -> Any:
    assert _work is not None
    return _work(item)
