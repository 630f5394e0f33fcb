"""Writes the run's log: one JSON line per tick in log.jsonl, and TensorBoard events (scalars and sample grids)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import is_tick, read_lines
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.distributed import World
from pggan.utils.formatting import one_line

# TensorBoard groups of the values that are not losses.
_PROGRESS = {"kimg", "level", "resolution", "alpha", "batch", "g_lr", "d_lr", "phase", "tick", "iteration"}
_SPEED = {"img_per_second", "memory_mb"}


class TensorBoard:
    """Writes TensorBoard events; a disk error costs the values of that moment, never the run.

    Tensorboard's own writer is dead for good after one error: it is made anew for the values that come next.
    """

    def __init__(self, directory: Path, purge: int | None, note: Callable[[str], None]) -> None:
        self.directory, self.purge, self.note = directory, purge, note
        self._writer: Any = None
        self._failed = False

    def write(self, add: Callable[[Any], None]) -> None:
        """Calls `add(writer)` and flushes. A disk error is noted once, until writing succeeds again."""
        from torch.utils.tensorboard import SummaryWriter

        try:
            if self._writer is None:
                self._writer = SummaryWriter(str(self.directory), purge_step=self.purge)
                self.purge = None
            add(self._writer)
            self._writer.flush()
        except OSError as error:
            self.close()
            if not self._failed:
                self.note(f"WARNING: TensorBoard's events could not be written ({one_line(error)}). The run goes on")
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        """Closes the writer; the next `write` makes another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                writer.close()


class RunLog:
    """Opens the log of a run that has seen `nimg` images, and removes ticks beyond: a run cut off later wrote them."""

    def __init__(self, run: RunDirectory, nimg: int, note: Callable[[str], None]) -> None:
        self.run, self._note = run, note
        self._open(nimg)

    def _open(self, nimg: int) -> None:
        if self.run.log.exists():
            _truncate(self.run.log, nimg)
        self._file: TextIO = open(self.run.log, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        purge = nimg + 1 if self.run.events.exists() else None
        self._events = TensorBoard(self.run.events, purge, self._note)

    def _close(self) -> None:
        self._file.close()
        self._events.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def rewind(self, nimg: int) -> None:
        """Removes the ticks beyond `nimg`, for a run that goes on from there."""
        self._close()
        self._open(nimg)

    def event(self, line: dict[str, Any]) -> None:
        """Appends something that happened between ticks, a line with an entry "event"; `rewind` leaves it."""
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def tick(self, line: dict[str, Any]) -> None:
        """Appends a tick, and adds its numbers to TensorBoard."""
        self.event(line)
        values = {_tag(name): v for name, v in line.items() if isinstance(v, (int, float)) and name != "nimg"}
        self._scalars(values, int(line["nimg"]))

    def add_metrics(self, nimg: int, values: Mapping[str, float | None]) -> None:
        """Adds metrics to the line of the tick at `nimg`, in place of any that it has."""
        lines = [line for line, _ in read_lines(self.run.log) if line is not None]
        for line in [line for line in lines if is_tick(line) and line["nimg"] == nimg][-1:]:
            line.update(values)
        self._file.close()
        try:
            _rewrite(self.run.log, lines)
        finally:
            self._file = open(self.run.log, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._scalars({f"metric/{name}": value for name, value in values.items() if value is not None}, nimg)

    def _scalars(self, values: Mapping[str, float], nimg: int) -> None:
        def add(writer: Any) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, global_step=nimg)

        self._events.write(add)

    def image(self, name: str, image: NDArray[np.uint8], nimg: int) -> None:
        """Adds an image, uint8 (H, W, C), to TensorBoard."""
        self._events.write(lambda writer: writer.add_image(name, image, global_step=nimg, dataformats="HWC"))


@contextmanager
def opened_log(run: RunDirectory, nimg: int, world: World, note: Callable[[str], None]) -> Iterator[RunLog | None]:
    """The log in the main process, None in the others. `note` gets what a person has to know."""
    with RunLog(run, nimg, note) if world.is_main_process else nullcontext() as log:
        yield log


def _tag(name: str) -> str:
    """A value's name in TensorBoard, after its group."""
    is_speed = name in _SPEED or "seconds" in name
    return f"{'progress' if name in _PROGRESS else 'speed' if is_speed else 'loss'}/{name}"


def _truncate(path: Path, nimg: int) -> None:
    """Removes ticks beyond `nimg` and damaged lines; events stay."""
    lines = [line for line, _ in read_lines(path) if line is not None]
    _rewrite(path, [line for line in lines if not is_tick(line) or int(line["nimg"]) <= nimg])


def _rewrite(path: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
