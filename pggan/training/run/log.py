"""Writes the run's log: one JSON line per tick in log.jsonl, and TensorBoard events (scalars and sample grids)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import is_tick, read_lines
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.distributed import World

# TensorBoard groups of the values that are not losses.
_PROGRESS = {"kimg", "level", "resolution", "alpha", "batch", "g_lr", "d_lr", "phase", "tick", "iteration"}
_SPEED = {"img_per_second", "seconds", "seconds_left", "memory_mb"}


class RunLog:
    """Opens the log of a run that has seen `nimg` images, and removes ticks beyond: a run cut off later wrote them."""

    def __init__(self, run: RunDirectory, nimg: int) -> None:
        self.run = run
        self._open(nimg)

    def _open(self, nimg: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self.run.log.exists():
            _truncate(self.run.log, nimg)
        self._file: TextIO = open(self.run.log, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        purge = nimg + 1 if self.run.events.exists() else None
        self._events = SummaryWriter(str(self.run.events), purge_step=purge)

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
        for name, value in line.items():
            if isinstance(value, (int, float)) and name != "nimg":
                self._events.add_scalar(_tag(name), value, global_step=int(line["nimg"]))
        self._events.flush()

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
        for name, value in values.items():
            if value is not None:
                self._events.add_scalar(f"metric/{name}", value, global_step=nimg)
        self._events.flush()

    def image(self, name: str, image: NDArray[np.uint8], nimg: int) -> None:
        """Adds an image, uint8 (H, W, C), to TensorBoard."""
        self._events.add_image(name, image, global_step=nimg, dataformats="HWC")


@contextmanager
def opened_log(run: RunDirectory, nimg: int, world: World) -> Iterator[RunLog | None]:
    """The log in the main process, None in the others."""
    with RunLog(run, nimg) if world.is_main_process else nullcontext() as log:
        yield log


def _tag(name: str) -> str:
    """A value's name in TensorBoard, after its group."""
    return f"{'progress' if name in _PROGRESS else 'speed' if name in _SPEED else 'loss'}/{name}"


def _truncate(path: Path, nimg: int) -> None:
    """Removes ticks beyond `nimg` and damaged lines; events stay."""
    lines = [line for line, _ in read_lines(path) if line is not None]
    _rewrite(path, [line for line in lines if not is_tick(line) or int(line["nimg"]) <= nimg])


def _rewrite(path: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
