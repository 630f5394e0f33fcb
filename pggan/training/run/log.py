"""Writes the run's log: one JSON line per tick in log.jsonl; and passes all of it on to the other loggers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import is_tick, read_lines
from pggan.training.run.logger import Logger
from pggan.training.run.tensorboard_events import TensorBoard
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.distributed import World


class LogFile(Logger):
    """log.jsonl: ticks, and events between them, which stay when a run goes back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def open(self, nimg: int) -> None:
        with self._changing_the_file():
            if self.path.exists():
                _truncate(self.path, nimg)

    def rewind(self, nimg: int) -> None:
        self.open(nimg)

    @contextmanager
    def _changing_the_file(self) -> Iterator[None]:
        """Closes the file for the block; it is open afterwards, also where a full disk made the block fail."""
        self.close()
        try:
            yield
        finally:
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close

    def event(self, line: dict[str, Any]) -> None:
        assert self._file is not None, "the log is open"
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def tick(self, line: dict[str, Any]) -> None:
        self.event(line)

    def add_metrics(self, nimg: int, values: Mapping[str, float | None]) -> None:
        """Adds metrics to the line of the tick at `nimg`, in place of any that it has."""
        with self._changing_the_file():
            lines = [line for line, _ in read_lines(self.path) if line is not None]
            for line in [line for line in lines if is_tick(line) and line["nimg"] == nimg][-1:]:
                line.update(values)
            _rewrite(self.path, lines)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # lines for which a disk had no room: whoever wrote them was told
                file.close()


class RunLog(Logger):
    """All loggers of a run that has seen `nimg` images: log.jsonl, TensorBoard, and those given.

    Each has what the run tells, in this order. Disk errors of log.jsonl are raised.
    """

    def __init__(
        self, run: RunDirectory, nimg: int, note: Callable[[str], None], others: Sequence[Logger] = ()
    ) -> None:
        self.loggers: list[Logger] = [LogFile(run.log), TensorBoard(run.events, note), *others]
        self.open(nimg)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self, nimg: int) -> None:
        for logger in self.loggers:
            logger.open(nimg)

    def rewind(self, nimg: int) -> None:
        for logger in self.loggers:
            logger.rewind(nimg)

    def event(self, line: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.event(line)

    def tick(self, line: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.tick(line)

    def add_metrics(self, nimg: int, values: Mapping[str, float | None]) -> None:
        for logger in self.loggers:
            logger.add_metrics(nimg, values)

    def image(self, name: str, image: NDArray[np.uint8], nimg: int) -> None:
        for logger in self.loggers:
            logger.image(name, image, nimg)

    def best_model(self, path: Path, nimg: int, figure: str, score: float) -> None:
        for logger in self.loggers:
            logger.best_model(path, nimg, figure, score)

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()


@contextmanager
def opened_log(
    run: RunDirectory, nimg: int, world: World, note: Callable[[str], None], others: Sequence[Logger] = ()
) -> Iterator[RunLog | None]:
    """The log in the main process, None in the others. `note` gets what a person has to know."""
    with RunLog(run, nimg, note, others) if world.is_main_process else nullcontext() as log:
        yield log


def _truncate(path: Path, nimg: int) -> None:
    """Removes ticks beyond `nimg` and damaged lines; events stay."""
    lines = [line for line, _ in read_lines(path) if line is not None]
    _rewrite(path, [line for line in lines if not is_tick(line) or int(line["nimg"]) <= nimg])


def _rewrite(path: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
