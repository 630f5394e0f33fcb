"""SIGUSR1 outside training: remembered until the run can handle it, ignored after the work.

By default it would end the process.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_received: set[int] = set()
_NUMBERS = [signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []


def remember_early_signals() -> None:
    """Remembers SIGUSR1 from here on, also one that came while `held_back` started this process."""
    for number in _NUMBERS:
        signal.signal(number, _remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


def ignore_late_signals() -> None:
    """Ignores SIGUSR1 from here on: Python's own exit would put the default back."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_back() -> Iterator[None]:
    """Processes started in the block get SIGUSR1 only when they call `remember_early_signals`."""
    if not _NUMBERS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _remember(number: int, frame: FrameType | None) -> None:
    _received.add(number)


def take_early_signal(number: int) -> bool:
    """Returns whether a signal came early, and forgets it."""
    came = number in _received
    _received.discard(number)
    return came
