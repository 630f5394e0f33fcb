"""Progress in Jupyter notebooks: a line that changes in place (torch-free)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pggan.utils.formatting import printable

if TYPE_CHECKING:
    from pggan.config.schedule import Schedule
    from pggan.training.monitor.display import Display

# The line changes at most this often.
REFRESH_SECONDS = 0.5


def in_notebook() -> bool:
    """Returns whether this is the kernel of a notebook, not IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class TextInPlace:
    """A cell's output that is replaced by the next one."""

    def __init__(self) -> None:
        from IPython.display import display

        self._handle: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, text: str) -> None:
        self._handle.update({"text/plain": "\n".join(map(printable, text.splitlines()))}, raw=True)


def notebook_progress() -> Callable[[str, int, int], None] | None:
    """Returns an `on_progress` that shows a line for each piece of work; None outside of notebooks."""
    if not in_notebook():
        return None
    lines: dict[str, TextInPlace] = {}
    shown = 0.0

    def show(work: str, done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if work in lines and done != total and now - shown < REFRESH_SECONDS:
            return
        shown = now
        if work not in lines:
            lines[work] = TextInPlace()
        lines[work].show(f"{work}: {done:,} of {total:,}" if total else f"{work}: {done:,}")

    return show


def open_notebook_display(schedule: Schedule) -> Display | None:
    """Returns what shows a training run in a notebook; None outside of notebooks."""
    if not in_notebook():
        return None
    from pggan.training.monitor.display import LineDisplay

    class NotebookDisplay(LineDisplay):
        """The last tick, and below it where the run is; notes stay in the cell."""

        def __init__(self, schedule: Schedule) -> None:
            super().__init__(schedule)
            self._line = TextInPlace()
            self._tick = ""

        def note(self, message: str) -> None:
            TextInPlace().show(message)

        def tick(self, line: dict[str, Any]) -> None:
            from pggan.training.monitor.display import tick_line

            self._tick = tick_line(line, self.schedule)
            self._line.show(f"{self._tick}\n{self.describe()}")

        def show(self, scheduled: Any) -> None:
            before = self.describe()
            super().show(scheduled)
            if self.describe() != before:
                self._line.show(f"{self._tick}\n{self.describe()}")

    return NotebookDisplay(schedule)
