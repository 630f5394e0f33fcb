"""Which signals end the command, and those that arrive while it imports: remembered for the run that handles them."""

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


def ending_signals() -> list[int]:
    """Returns the signals that ask a program to end: SIGTERM, and SIGHUP unless it is ignored, as under nohup."""
    hangups = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    return [signal.SIGTERM, *(number for number in hangups if signal.getsignal(number) is not signal.SIG_IGN)]


def take_early_signal(number: int) -> bool:
    """Returns whether a signal came early, and forgets it."""
    came = number in _received
    _received.discard(number)
    return came
