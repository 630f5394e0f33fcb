"""What a process does before it imports torch: signals, how threads wait, what torch logs (torch-free).

By default SIGUSR1 would end the process: it is remembered until the run can handle it, and ignored after the work.

By default threads of torch's operators spin for milliseconds while they wait. On a machine that is not quiet, they take
the processor from the thread for which they wait: training beside one other program is then ten times slower than
alone, not twice.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pggan.utils.errors import UsageError

# By environment variable. GNU's runtime (Linux): turns of a waiting loop before a thread sleeps, chosen by
# `tools/benchmark.py busy`; Intel's and LLVM's (macOS, Windows): milliseconds, the least that is not zero.
WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
_CHOSEN_BY_USERS = ("OMP_", "GOMP_", "KMP_")
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


def ending_signals() -> list[int]:
    """Returns the signals that ask a program to end: SIGTERM, and SIGHUP unless it is ignored, as under nohup."""
    hangups = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    return [signal.SIGTERM, *(number for number in hangups if signal.getsignal(number) is not signal.SIG_IGN)]


def take_early_signal(number: int) -> bool:
    """Returns whether a signal came early, and forgets it."""
    came = number in _received
    _received.discard(number)
    return came


def hide_torch_warnings() -> None:
    """Keeps torch's C++ code from logging on stderr, before torch is imported, unless the user chose a level.

    It would log memory that runs out, which commands expect where they find out how much fits.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def set_thread_waiting() -> bool:
    """Makes waiting threads sleep early; to be called before torch is imported, as the `pggan` command does.

    Results and the number of threads stay as they are.

    Returns:
        Whether it was set: variables of OMP_*, GOMP_* or KMP_* that the user set are left alone, and all others with
        them.

    Raises:
        UsageError: torch is imported already, and its runtime has read the variables.
    """
    if "torch" in sys.modules:
        raise UsageError("too late: torch is imported; call set_thread_waiting before that, or set GOMP_SPINCOUNT=1000")
    if any(name.startswith(_CHOSEN_BY_USERS) for name in os.environ):
        return False
    os.environ.update(WAITING)
    return True
