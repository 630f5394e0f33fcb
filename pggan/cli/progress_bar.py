"""Progress of long work, with throughput and time left: a live bar on a terminal, a line now and then elsewhere.

All of it goes to stderr, so that stdout carries results only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pggan.utils.formatting import duration, figure
from pggan.utils.output import activity, mute_heartbeat, say

# seconds between two lines where stderr is no terminal
LINE_INTERVAL = 10.0

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
        self.start = self.last = time.monotonic()
        self.done = 0

    def advance(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        if self.done == self.total or now - self.last >= LINE_INTERVAL:
            self.last = now
            say(self.describe(), err=True)

    def describe(self) -> str:
        rate = self.done / max(time.monotonic() - self.start, 1e-9)
        seconds_left = (self.total - self.done) / rate if rate and self.done < self.total else None
        count = f"{self.done}/{self.total}" if self.total else f"{self.done}"
        speed = f", {_throughput(rate, self.unit, seconds_left)}" if self.done else ""
        return f"{self.description}: {count} {self.unit}{speed}"
