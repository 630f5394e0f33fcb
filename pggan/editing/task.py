"""Long work that reports its progress and can be cancelled, whoever runs it: a command, a page, a notebook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pggan.utils.errors import PgganError


class CancelledError(PgganError):
    """Work that its caller cancelled. A file is whole, or as it was before; pictures written so far stay."""


@dataclass(frozen=True)
class Task:
    """How a function reports and is cancelled.

    `advance(n)` raises `CancelledError` once `is_cancelled()` is true, else counts n more units as done. It is called
    from the thread that does the work.
    """

    report: Callable[[int], None] = lambda count: None
    is_cancelled: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raises `CancelledError` where the caller has cancelled."""
        if self.is_cancelled():
            raise CancelledError("cancelled, as asked for")

    def advance(self, count: int = 1) -> None:
        """Counts units as done. Raises `CancelledError`."""
        self.check()
        self.report(count)


# A task that nobody watches or cancels.
UNWATCHED = Task()
