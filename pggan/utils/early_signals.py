"""Signals that arrive while the command imports: remembered for the run that handles them later."""

from __future__ import annotations

import signal
from types import FrameType

_received: set[int] = set()


def remember_early_signals() -> None:
    """Remembers SIGUSR1 from here on, whose default would end the process."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    _received.add(number)


def take_early_signal(number: int) -> bool:
    """Returns whether a signal came early, and forgets it."""
    came = number in _received
    _received.discard(number)
    return came
