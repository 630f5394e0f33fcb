"""Progress of long work: a live bar with rate and time left on a terminal, a line now and then elsewhere.

Everything goes to stderr, so that stdout carries results (`--json`) only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pggan.utils.formatting import duration

LINE_EVERY_SECONDS = 10.0

Advance = Callable[[int], None]


@contextmanager
def progress(description: str, total: int, unit: str = "pictures", quiet: bool = False) -> Iterator[Advance]:
    """Yields `advance(n)`, to be called as n more units are done. `total` 0: unknown, so no time left is shown."""
    if quiet:
        yield lambda n: None
    elif sys.stderr.isatty():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        yield _lines(description, total, unit)


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            if not task.speed:
                return Text("")
            left = f", {duration(task.time_remaining)} left" if task.time_remaining is not None else ""
            return Text(f"{task.speed:.1f} {unit}/s{left}")

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), Rate())
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
        if done != total and now - last < LINE_EVERY_SECONDS:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = f", {duration((total - done) / rate)} left" if total and rate and done < total else ""
        of = f"/{total}" if total else ""
        print(f"{description}: {done}{of} {unit}, {rate:.1f} {unit}/s{left}", file=sys.stderr, flush=True)

    return advance
