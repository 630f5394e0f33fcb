"""Runs a person's command for every snapshot, beside the training (torch-free)."""

from __future__ import annotations

import os
import queue
import shlex
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pggan.training.run.directory import RunDirectory
from pggan.training.run.signals import Signals
from pggan.utils.errors import UsageError
from pggan.utils.formatting import one_line
from pggan.utils.output import activity

OUTPUT = "on_snapshot.log"
# Seconds that a command may go on for, when a signal stops the run; and between two looks at whether one does.
GRACE_SECONDS, POLL_SECONDS = 10.0, 0.1


def split_command(command: str) -> list[str]:
    """Returns the words of a command as a shell splits them; no shell runs. Raises `UsageError` for none."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--on-snapshot {command!r} is no command ({one_line(error)})") from None
    if not words:
        raise UsageError("--on-snapshot has no command; leave it out, or name a program")
    return words


class SnapshotCommand:
    """Runs a command with the path of each new model as its last argument, one after the other, in a thread.

    The command has the run's directory and the images seen in its environment (PGGAN_RUN, PGGAN_NIMG); what it prints
    goes to `on_snapshot.log` in the run. A failure is noted, and never ends the run.
    """

    def __init__(self, command: str, run: RunDirectory, note: Callable[[str], None]) -> None:
        self.words, self.run, self.note = split_command(command), run, note
        self._models: queue.Queue[tuple[Path, int] | None] = queue.Queue()
        self.models: list[Path] = []  # that the command has not seen, or sees now
        self._thread = threading.Thread(target=self._work, name="on-snapshot", daemon=True)
        self._thread.start()

    def start(self, model: Path, nimg: int) -> None:
        """Has the command run with a model; returns at once."""
        self.models.append(model)
        self._models.put((model, nimg))

    def close(self, signals: Signals) -> None:
        """Waits for the commands; where a signal stops the run, only for the one that runs, and not for long."""
        self._models.put(None)
        with activity(lambda: f"waiting for {self.words[0]} (--on-snapshot)"):
            while self._thread.is_alive() and not signals.stop_received:
                self._thread.join(POLL_SECONDS)
            if self._thread.is_alive():
                self._drop_those_that_wait()
                self._thread.join(GRACE_SECONDS)
        if self._thread.is_alive():
            self.note(f"{self.words[0]} (--on-snapshot) is not done; it goes on by itself")

    def _drop_those_that_wait(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._models.get_nowait()
        self._models.put(None)

    def _work(self) -> None:
        while (item := self._models.get()) is not None:
            model, nimg = item
            if (reason := self._run(model, nimg)) is not None:
                self.note(f"WARNING: --on-snapshot failed for {model.name}: {reason}. The run goes on")
            self.models.remove(model)

    def _run(self, model: Path, nimg: int) -> str | None:
        """Runs the command; returns why it failed, None where it did not."""
        path = self.run.path / OUTPUT
        environment = {**os.environ, "PGGAN_RUN": str(self.run.path.resolve()), "PGGAN_NIMG": str(nimg)}
        try:
            with open(path, "ab") as output:
                done = subprocess.run(
                    [*self.words, str(model.resolve())], stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, env=environment, check=False,
                    start_new_session=True,  # Ctrl-C is the run's
                )  # fmt: skip
        except (OSError, ValueError) as error:
            return one_line(error)
        if done.returncode < 0:
            return f"signal {-done.returncode} ended {self.words[0]} (see {path})"
        return f"{self.words[0]} ended with status {done.returncode} (see {path})" if done.returncode else None
