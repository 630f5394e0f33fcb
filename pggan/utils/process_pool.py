"""Work spread over processes, with its results in order and a bounded number of them on their way."""

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

T = TypeVar("T")
R = TypeVar("R")

# Tasks on their way per worker: enough to keep it busy, few enough to bound the memory.
IN_FLIGHT = 8
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


class WorkerDied(DataError):  # noqa: N818 (what happened)
    """A worker process ended in the middle of its work."""


def available_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    work: Callable[[T], R], items: Iterable[T], workers: int, in_flight: int = IN_FLIGHT, inline: bool = True
) -> Generator[R, None, None]:
    """`work(item)` for every item, in their order; `work`, items and results have to be picklable.

    `inline`: one worker is this process itself. Raises `WorkerDied`, and what `work` raises.
    """
    if inline and workers == 1:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")  # no fork: threads and open files stay where they are
    waiting: deque[Future[R]] = deque()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(work,))
    stopped: list[int] = []
    try:
        with _interrupts_kept() as stopped:
            for at, item in enumerate(items):
                with _born_deaf(at < workers):  # the first submissions start the processes
                    waiting.append(pool.submit(_do, item))
                if len(waiting) >= in_flight * workers:
                    result = waiting.popleft().result()
                    if stopped:
                        return
                    yield result
            while waiting and not stopped:
                yield waiting.popleft().result()
    except BrokenProcessPool:
        raise WorkerDied("a worker process died (out of memory?); try fewer --workers") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if stopped:
            signal.raise_signal(stopped[0])
            raise KeyboardInterrupt  # whatever the handler does: the work is not done


@contextmanager
def _interrupts_kept() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM only put their numbers into the list: raised anywhere, they could tear the pool's locks."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    heard = [each for each in _INTERRUPTS if signal.getsignal(each) is not signal.SIG_IGN]
    handlers = {each: signal.signal(each, lambda number, frame: came.append(number)) for each in heard}
    try:
        yield came
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


@contextmanager
def _born_deaf(wanted: bool) -> Iterator[None]:
    """Processes started in the block do not hear Ctrl-C, from their first moment on."""
    main = threading.current_thread() is threading.main_thread()
    if not wanted or not main or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_work: Callable[[Any], Any] | None = None


def _begin_worker(work: Callable[[Any], Any]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed tells its workers nothing: they would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(item: Any) -> Any:
    assert _work is not None
    return _work(item)
