"""Long work, one piece at a time beside the drawing thread: progress, cancelling, and room for pictures."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from pggan.utils.errors import PgganError
from pggan.utils.formatting import one_line
from pggan.web.rendering.renderer import Renderer

# Seconds that long work waits for pictures between its steps, at most: it gets on under a moving slider, too.
ROOM_SECONDS = 0.25
MOST_WAITING = 8
NICENESS = 15

Report = Callable[[dict[str, Any]], None]


class CancelledError(Exception):
    """Ends work that nobody waits for any more."""


class Job:
    """A piece of long work of a tab."""

    def __init__(self, renderer: Renderer, report: Report) -> None:
        self._renderer, self._report = renderer, report
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Ends the work at its next step."""
        self._cancelled.set()

    def step(self, done: float, **details: Any) -> None:
        """Tells the page the share that is done, makes room for pictures, and raises where the work was cancelled."""
        if self._cancelled.is_set():
            raise CancelledError
        self._report({"done": round(min(1.0, done), 4), **details})
        self._renderer.wait_until_idle(ROOM_SECONDS)
        if self._cancelled.is_set():
            raise CancelledError


def _yield_the_processor() -> None:
    """Gives this thread, and those that torch starts for it, a low priority, where the system has one a thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class Jobs:
    """Runs jobs in one thread, in the order in which they came."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="work", initializer=_yield_the_processor)
        self._jobs: set[Job] = set()

    @property
    def is_full(self) -> bool:
        return len(self._jobs) >= MOST_WAITING

    def start(self, work: Callable[[Job], dict[str, Any]], report: Report) -> Job:
        """Starts `work` when its turn comes.

        `report` is called in the thread with {"done": 0 to 1}, and at last with {"result": ...}, {"error": ...} or
        {"cancelled": True}.
        """
        job = Job(self._renderer, report)
        self._jobs.add(job)
        self._pool.submit(self._run, job, work, report)
        return job

    def stop(self) -> None:
        """Cancels everything and waits for the step under way."""
        for job in list(self._jobs):
            job.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job, work: Callable[[Job], dict[str, Any]], report: Report) -> None:
        try:
            job.step(0.0)
            report({"result": work(job)})
        except CancelledError:
            report({"cancelled": True})
        except PgganError as error:
            report({"error": str(error)})
        except Exception as error:  # noqa: BLE001 (the page shows what went wrong)
            report({"error": f"it did not work: {one_line(error)}"})
        finally:
            self._jobs.discard(job)
