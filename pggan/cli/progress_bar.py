"""Progress of long work, with throughput and time left: a live bar on a terminal, a line now and then elsewhere.

All of it goes to stderr, so that stdout carries results only.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pggan.utils.formatting import duration, figure
from pggan.utils.output import activity, mute_heartbeat, say

# seconds between two lines where stderr is no terminal
LINE_INTERVAL = 10.0
# seconds over which the throughput is measured, and from which on it is shown
WINDOW, SETTLED = 60.0, 2.0

Advance = Callable[[int], None]  # counts n more units as done
Start = Callable[[int], None]  # sets the total


@contextmanager
def progress(description: str, total: int, unit: str = "pictures", quiet: bool = False) -> Iterator[Advance]:
    """Shows the progress of the block and yields `advance(n)`, which counts n more units as done.

    Args:
        description: What is done, such as "generating".
        total: Units of work in all; 0 where it is unknown, which leaves the time left out.
        unit: Plural of what is counted.
        quiet: Show nothing.
    """
    if quiet:
        yield lambda n: None
    elif sys.stderr.isatty():
        mute_heartbeat(True)
        try:
            with _bar(description, total, unit) as advance:
                yield advance
        finally:
            mute_heartbeat(False)
    else:
        lines = _Lines(description, total, unit)
        with activity(lines.describe):
            yield lines.advance


@contextmanager
def deferred_progress(description: str, quiet: bool = False) -> Iterator[tuple[Start, Advance]]:
    """Like `progress`, where the work itself finds its total: yields `start(total)` and `advance(n)`."""
    with ExitStack() as stack:
        advance: Advance | None = None

        def start(total: int) -> None:
            nonlocal advance
            advance = stack.enter_context(progress(description, total, quiet=quiet))

        yield start, lambda n: advance(n) if advance else None


@contextmanager
def staged_progress(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yields an `on_progress(work, done, total)`, as the library's functions take it, with a bar for each work."""
    with ExitStack() as stack:
        current, seen = "", 0
        advance: Advance = lambda n: None  # noqa: E731

        def show(work: str, done: int, total: int) -> None:
            nonlocal current, seen, advance
            if work != current:
                stack.close()
                current, seen, advance = work, 0, stack.enter_context(progress(work, total, quiet=quiet))
            if done > seen:
                advance(done - seen)
                seen = done
            if total and done == total:
                stack.close()
                current = ""

        yield show


def _throughput(rate: float, unit: str, seconds_left: float | None) -> str:
    """`12.3 pictures/s, 1:15 left`."""
    eta = f", {duration(seconds_left)} left" if seconds_left is not None else ""
    return f"{figure(rate)} {unit}/s{eta}"


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Throughput(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_throughput(task.speed, unit, task.time_remaining) if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), Throughput())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total or None)
        yield lambda n: bar.advance(task, n)


class _Lines:
    """A line now and then, where stderr is no terminal."""

    def __init__(self, description: str, total: int, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.last = time.monotonic()
        self.throughput = Throughput()

    def advance(self, n: int) -> None:
        now = time.monotonic()
        self.throughput.add(n, now)
        if self.throughput.done == self.total or now - self.last >= LINE_INTERVAL:
            self.last = now
            say(self.describe(), err=True)

    def describe(self) -> str:
        done, rate = self.throughput.done, self.throughput.rate(time.monotonic())
        count = f"{done}/{self.total}" if self.total else f"{done}"
        seconds_left = (self.total - done) / rate if rate and done < self.total else None
        speed = f", {_throughput(rate, self.unit, seconds_left)}" if rate else ""
        return f"{self.description}: {count} {self.unit}{speed}"


class Throughput:
    """Units a second over the last minute. The time until the first units came, as to open a store, is left out."""

    def __init__(self) -> None:
        self.done = 0
        self._points: deque[tuple[float, int]] = deque()  # (time, units done then)

    def add(self, n: int, now: float) -> None:
        """Counts n more units as done."""
        self.done += n
        if len(self._points) < 2 or now - self._points[-1][0] >= 1:
            self._points.append((now, self.done))
        while len(self._points) > 2 and now - self._points[1][0] > WINDOW:
            self._points.popleft()

    def rate(self, now: float) -> float | None:
        """Returns units a second; None until `SETTLED` seconds of work tell it."""
        if not self._points or (elapsed := now - self._points[0][0]) < SETTLED or self.done == self._points[0][1]:
            return None
        return (self.done - self._points[0][1]) / elapsed
