"""SIGINT and SIGTERM as requests to stop after the iteration at hand; SIGUSR1 as a request to save and go on."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from pggan.utils import distributed
from pggan.utils.distributed import World


class Signals:
    """While entered: `stop` is the number of the signal that asks to stop (0: none), `save` a request to save.

    Both change in `agree` alone, so that all processes see them at the same place of their work. A second SIGINT raises
    KeyboardInterrupt at once, for the impatient.
    """

    def __init__(self) -> None:
        self.stop = 0
        self.save = False
        self._asked_stop, self._asked_save = 0, False  # by this process's own signals
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        wanted = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop}
        if hasattr(signal, "SIGUSR1"):
            wanted[signal.SIGUSR1] = self._save
        try:
            for number, handler in wanted.items():
                self._before[number] = signal.signal(number, handler)
        except ValueError:
            pass  # not the main thread: whoever owns it decides what signals do
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agree(self, world: World) -> None:
        """Makes every process stop, or save, where one of them is asked to; to be called by all."""
        asked = 2 * self._asked_stop + self._asked_save
        self._asked_save = False
        agreed = distributed.all_reduce_max(asked, world)
        self.stop, self.save = agreed // 2, bool(agreed % 2) or self.save  # who stops saves anyway

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._asked_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked_stop = number

    def _save(self, number: int, frame: FrameType | None) -> None:
        self._asked_save = True
