"""The run's log: one JSON line a tick in log.jsonl, and TensorBoard events (scalars and sample grids)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pggan.training.run.directory import RunDirectory
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.distributed import World


class RunLog:
    """Opens the log for a run that is at `nimg`: lines beyond it, of a run that was cut off later, are taken out."""

    def __init__(self, run: RunDirectory, nimg: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.run = run
        if run.log.exists():
            _cut(run.log, nimg)
        self._file: TextIO = open(run.log, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._events = SummaryWriter(str(run.events), purge_step=nimg + 1 if run.events.exists() else None)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._events.close()

    def rewind(self, nimg: int) -> None:
        """Takes out what lies beyond `nimg`, for a run that goes on from there."""
        self._file.close()
        self._events.close()
        self.__init__(self.run, nimg)  # type: ignore[misc]

    def event(self, line: dict[str, Any]) -> None:
        """Something that happened between ticks, with an entry "event"; it stays when lines are taken out."""
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def tick(self, line: dict[str, Any]) -> None:
        self.event(line)
        for name, value in line.items():
            if isinstance(value, (int, float)) and name != "nimg":
                self._events.add_scalar(_group(name), value, global_step=int(line["nimg"]))
        self._events.flush()

    def measured(self, nimg: int, figures: Mapping[str, float | None]) -> None:
        """Adds figures to the line of the tick at `nimg`; those that stood there are replaced."""
        lines = _lines(self.run.log)
        for line in [line for line in lines if _is_tick(line) and line["nimg"] == nimg][-1:]:
            line.update(figures)
        self._file.close()
        try:
            _rewrite(self.run.log, lines)
        finally:
            self._file = open(self.run.log, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        for name, value in figures.items():
            if value is not None:
                self._events.add_scalar(f"metric/{name}", value, global_step=nimg)
        self._events.flush()

    def picture(self, name: str, image: NDArray[np.uint8], nimg: int) -> None:
        """`image` uint8 (H, W, C)."""
        self._events.add_image(name, image, global_step=nimg, dataformats="HWC")


@contextmanager
def opened_log(run: RunDirectory, nimg: int, world: World) -> Iterator[RunLog | None]:
    """The log in the process that writes, None in the others."""
    if not world.is_main_process:
        yield None
        return
    with RunLog(run, nimg) as log:
        yield log


def _group(name: str) -> str:
    progress = {"kimg", "level", "resolution", "alpha", "batch", "g_lr", "d_lr", "phase", "tick", "iteration"}
    speed = {"img_per_second", "seconds", "seconds_left", "memory_mb"}
    return f"{'progress' if name in progress else 'speed' if name in speed else 'loss'}/{name}"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The ticks of a log; a torn line, or one of something else, is left out."""
    return [line for line in _lines(path) if _is_tick(line)]


def _is_tick(line: dict[str, Any]) -> bool:
    return "event" not in line and {"nimg", "resolution", "alpha", "img_per_second"} <= line.keys()


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def read_events(path: Path) -> list[dict[str, Any]]:
    """What happened between the ticks of a log: lines with an entry "event"."""
    return [line for line in _lines(path) if "event" in line]


def _cut(path: Path, nimg: int) -> None:
    kept = [line for line in _lines(path) if "event" in line or (_is_tick(line) and int(line["nimg"]) <= nimg)]
    _rewrite(path, kept)


def _rewrite(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    replace_atomically(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
