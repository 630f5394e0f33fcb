"""The one way in which pggan prints, and the heartbeat: a line where nothing was printed for a while.

What is printed is escaped: a file's contents cannot move the cursor, set a title or fake a line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from pggan.utils.formatting import duration, printable

# Seconds without a line after which the heartbeat prints one.
SILENCE = 15.0


class _Heartbeat:
    """What the program is at, for the line that says so; all of it is of this process."""

    def __init__(self) -> None:
        self.started = self.spoke = time.monotonic()
        self.activities: list[Callable[[], str]] = []
        self.muted = False

    def beat(self, now: float) -> None:
        """Prints what the program is at, where it printed nothing for `SILENCE` seconds."""
        if self.muted or now - self.spoke < SILENCE:
            return
        describe = self.activities[-1] if self.activities else lambda: "at work"
        say(f"{describe()} ({duration(now - self.started)} since the start)", err=True)
        self.spoke = now


_heartbeat = _Heartbeat()


def say(message: object, err: bool = False) -> None:
    """Prints a line on stdout, or on stderr; control characters in it, line breaks among them, are escaped."""
    _heartbeat.spoke = time.monotonic()
    click.echo(printable(str(message)), err=err)


@contextmanager
def activity(describe: Callable[[], str]) -> Iterator[None]:
    """Has the heartbeat print what `describe` returns while the block runs; another thread calls it."""
    _heartbeat.activities.append(describe)
    try:
        yield
    finally:
        _heartbeat.activities.remove(describe)


def mute_heartbeat(muted: bool) -> None:
    """Stops the heartbeat: the user wants no progress, or sees it move."""
    _heartbeat.muted = muted


def start_heartbeat() -> None:
    """Starts the thread that prints a line on stderr where nothing else was printed for a while."""

    def beat() -> None:
        while True:
            time.sleep(1.0)
            _heartbeat.beat(time.monotonic())

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
