"""Signal handlers: SIGINT, SIGTERM and SIGHUP stop the run after the current iteration, SIGUSR1 saves it."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from pggan.utils import distributed
from pggan.utils.distributed import World
from pggan.utils.early_signals import ending_signals, take_early_signal


class Signals:
    """The requests that signals made while this context is entered.

    `stop`: number of the signal that asks to stop, 0 for none; `save`: whether a checkpoint is asked for. Only `agree`
    changes them, so that all processes act on them in the same iteration. A second SIGINT raises KeyboardInterrupt at
    once.
    """

    def __init__(self) -> None:
        self.stop = 0
        self.save = False
        self._received_stop, self._received_save = 0, False  # by this process alone
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        handlers = dict.fromkeys([signal.SIGINT, *ending_signals()], self._stop)
        if hasattr(signal, "SIGUSR1"):
            handlers[signal.SIGUSR1] = self._save
            self._received_save = take_early_signal(signal.SIGUSR1)
        try:
            for number, handler in handlers.items():
                self._previous[number] = signal.signal(number, handler)
        except ValueError:
            pass  # only the main thread may set handlers; its own ones stay
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agree(self, world: World) -> None:
        """Makes every process stop, or save, where one of them received the signal. All processes must call it."""
        received = 2 * self._received_stop + self._received_save
        self._received_save = False
        agreed = distributed.all_reduce_max(received, world)
        self.stop, self.save = agreed // 2, bool(agreed % 2) or self.save  # a run that stops saves anyway

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._received_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received_stop = number

    def _save(self, number: int, frame: FrameType | None) -> None:
        self._received_save = True
