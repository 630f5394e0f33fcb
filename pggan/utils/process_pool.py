"""An ordered parallel map over worker processes, with a bounded number of tasks in flight."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_sentinels
from typing import Any, TypeVar

from pggan.utils.errors import DataError
from pggan.utils.formatting import one_line
from pggan.utils.limits import MAX_BYTES_UNDER_WAY
from pggan.utils.output import say
from pggan.utils.parent_watch import exit_with_parent
from pggan.utils.startup import ending_signals

T = TypeVar("T")
R = TypeVar("R")

# Tasks in flight per worker: enough to keep it busy, few enough to bound memory.
IN_FLIGHT = 8
# Seconds that workers get after a signal to finish their tasks; one that decodes hears no signal until it is done.
GRACE_SECONDS = 2.0
# Seconds between two looks at the signals received.
_POLL_SECONDS = 0.2
# Seconds after which a thread of the pool that is not alive has not merely begun.
DEAD_SECONDS = 3.0
# Signals that a terminal sends to all its processes, the workers among them.
_FROM_TERMINALS = {signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])}


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
    pool = None if inline and workers == 1 else _start_pool(work, workers)
    if pool is None:
        yield from map(work, items)
        return
    received: list[int] = []
    try:
        with _deferred_interrupts() as received:
            try:
                yield from _results(pool, workers, items, in_flight * workers, weigh, received)
            finally:
                _end(pool, received)
    except BrokenProcessPool:
        raise WorkerDied("a worker process died (out of memory?); try fewer --workers") from None
    finally:
        if received:
            signal.raise_signal(received[0])
            raise KeyboardInterrupt  # whatever the handler does: the work is not done


def _start_pool(work: Callable[[T], R], workers: int) -> ProcessPoolExecutor | None:
    """Makes a pool, whose processes start with the first tasks. None, with a note: the system refuses semaphores."""
    context = multiprocessing.get_context("spawn")  # no fork: threads and open files are not inherited
    try:
        with _sigint_blocked(True):  # the process that looks after semaphores starts here
            return ProcessPoolExecutor(workers, context, initializer=_init_worker, initargs=(work,))
    except (OSError, ImportError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        say(f"note: one process does the work, this system refuses semaphores for more ({reason}: /dev/shm)", err=True)
        return None


def _results(
    pool: ProcessPoolExecutor,
    workers: int,
    items: Iterable[T],
    most: int,
    weigh: Callable[[T], int],
    received: list[int],
) -> Generator[Any, None, None]:
    """Yields the results in order until a signal is received, with at most `most` tasks in flight."""
    pending: deque[Future[Any]] = deque()
    weights: deque[int] = deque()  # of the pending items, in bytes
    for index, item in enumerate(items):
        weight = weigh(item)
        while pending and (len(pending) >= most or sum(weights) + weight > MAX_BYTES_UNDER_WAY):
            if not _wait(pool, pending[0], received):
                return
            weights.popleft()
            yield pending.popleft().result(0)
        if received:
            return
        with _sigint_blocked(index < workers):  # the first submissions start the processes
            pending.append(_submit(pool, item))
        weights.append(weight)
    while pending and _wait(pool, pending[0], received):
        yield pending.popleft().result(0)


def _submit(pool: ProcessPoolExecutor, item: Any) -> Future[Any]:
    """Gives a task to the pool, which may start a process. Raises `WorkerDied` where none can be started."""
    try:
        return pool.submit(_run, item)
    except OSError as error:
        raise WorkerDied(f"a worker process could not be started ({error.strerror}); try fewer --workers") from None


def _wait(pool: ProcessPoolExecutor, future: Future[Any], received: list[int]) -> bool:
    """Waits for a result, at most until a signal is received. Returns whether there is one to take."""
    dead = 0
    while not received:
        if future.done() or wait([future], _POLL_SECONDS).done:
            return not received
        dead = dead + 1 if _is_dead(pool) else 0
        if dead * _POLL_SECONDS > DEAD_SECONDS:
            raise WorkerDied("what feeds the worker processes ended (out of memory?); try fewer --workers")
    return False


def _is_dead(pool: ProcessPoolExecutor) -> bool:
    """Whether a thread of the pool has ended, or is only starting: where memory lacks for it, no task ever finishes."""
    inside: Any = pool
    threads_of_pool = inside._executor_manager_thread, getattr(inside._call_queue, "_thread", None)
    return any(thread is not None and not thread.is_alive() for thread in threads_of_pool)


def _end(pool: ProcessPoolExecutor, received: list[int]) -> None:
    """Ends the workers after their tasks; after a signal kills those that are still busy when the grace is over."""
    processes, manager = list((pool._processes or {}).values()), pool._executor_manager_thread
    is_dead = _is_dead(pool)
    pool.shutdown(wait=False, cancel_futures=True)
    running = {process.sentinel: process for process in processes}
    deadline = None
    while running and (deadline is None or time.monotonic() < deadline):
        if deadline is None and (received or is_dead):
            deadline = time.monotonic() + GRACE_SECONDS
        for sentinel in wait_for_sentinels(list(running), _POLL_SECONDS):
            del running[sentinel]  # type: ignore[arg-type]
    for process in running.values():
        process.kill()
    if manager is not None:
        manager.join(GRACE_SECONDS)  # type: ignore[attr-defined]


@contextmanager
def _deferred_interrupts() -> Iterator[list[int]]:
    """Collects the numbers of SIGINT, SIGTERM and SIGHUP in the list it yields, instead of raising.

    Raised at an arbitrary place, KeyboardInterrupt could leave the pool's locks held. Only the main thread can set
    handlers; in other threads the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    handled = [n for n in (signal.SIGINT, *ending_signals()) if signal.getsignal(n) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in handled}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _sigint_blocked(enabled: bool) -> Iterator[None]:
    """Blocks Ctrl-C and SIGHUP for the block: processes started there inherit that."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not enabled or not in_main_thread or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_TERMINALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


_work: Callable[[Any], Any] | None = None


def _init_worker(work: Callable[[Any], Any]) -> None:
    global _work
    for number in _FROM_TERMINALS:
        signal.signal(number, signal.SIG_IGN)  # the parent ends the workers
    _work = work
    exit_with_parent()


def _run(item: Any) -> Any:
    assert _work is not None
    return _work(item)
