"""Signal handlers: SIGINT, SIGTERM and SIGHUP stop the run after the current iteration, SIGUSR1 saves it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pggan.utils import distributed
from pggan.utils.distributed import World
from pggan.utils.startup import ending_signals, take_early_signal


class Interrupted(Exception):  # noqa: N818 (a request more than an error)
    """A signal asks the run to stop."""


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
        self._raises = False

    def __enter__(self) -> Signals:
        handlers = dict.fromkeys([signal.SIGINT, *ending_signals()], self._stop)
        if hasattr(signal, "SIGUSR1"):
            handlers[signal.SIGUSR1] = self._save
        try:
            for number, handler in handlers.items():
                self._previous[number] = signal.signal(number, handler)
        except ValueError:
            pass  # only the main thread may set handlers; its own ones stay
        if hasattr(signal, "SIGUSR1"):  # only now: from here on the handler takes it
            self._received_save |= take_early_signal(signal.SIGUSR1)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def stop_received(self) -> bool:
        """Whether this process was asked to stop, or the others were and all agreed."""
        return bool(self.stop or self._received_stop)

    def agree(self, world: World) -> None:
        """Makes every process stop, or save, where one of them received the signal. All processes must call it."""
        received = 2 * self._received_stop + self._received_save
        self._received_save = False
        agreed = distributed.all_reduce_max(received, world)
        self.stop, self.save = agreed // 2, bool(agreed % 2) or self.save  # a run that stops saves anyway

    @contextmanager
    def interrupting(self, world: World) -> Iterator[None]:
        """Within the block a request to stop raises `Interrupted` at once, in a run of one process.

        The block must leave its work as if it had never begun. Several processes look at `stop` after `agree`.
        """
        self._raises = world.size == 1
        try:
            if self._raises and self._received_stop:
                raise Interrupted
            yield
        finally:
            self._raises = False

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._received_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received_stop = number
        if self._raises:
            self._raises = False
            raise Interrupted

    def _save(self, number: int, frame: FrameType | None) -> None:
        self._received_save = True
