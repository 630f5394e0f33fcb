"""Progress of long work, with throughput and time left: a live bar on a terminal, a line now and then elsewhere.

All of it goes to stderr, so that stdout carries results only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pggan.utils.formatting import duration
from pggan.utils.output import say

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
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        yield _lines(description, total, unit)


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
    return f"{rate:.1f} {unit}/s{eta}"


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


def _lines(description: str, total: int, unit: str) -> Advance:
    start = last = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if done != total and now - last < LINE_INTERVAL:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        seconds_left = (total - done) / rate if rate and done < total else None
        count = f"{done}/{total}" if total else f"{done}"
        say(f"{description}: {count} {unit}, {_throughput(rate, unit, seconds_left)}", err=True)

    return advance
