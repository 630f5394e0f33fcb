"""The run's log: one JSON line a tick in log.jsonl, and TensorBoard events (scalars and sample grids)."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from pggan.files import replace_atomically
from pggan.training.rundir import RunDirectory


class RunLog:
    """Opens the log for a run that is at `nimg`: lines beyond it, of a run that was cut off later, are taken out."""

    def __init__(self, run: RunDirectory, nimg: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if nimg == 0 or not run.log.exists():
            run.log.write_text("", encoding="utf-8")
        else:
            _cut(run.log, nimg)
        self._file: TextIO = open(run.log, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._events = SummaryWriter(str(run.events), purge_step=nimg + 1 if nimg else None)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._events.close()

    def tick(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in line.items():
            if isinstance(value, (int, float)) and name != "nimg":
                self._events.add_scalar(_group(name), value, global_step=int(line["nimg"]))
        self._events.flush()

    def picture(self, name: str, image: NDArray[np.uint8], nimg: int) -> None:
        """`image` uint8 (H, W, C)."""
        self._events.add_image(name, image, global_step=nimg, dataformats="HWC")


def _group(name: str) -> str:
    progress = {"kimg", "level", "resolution", "alpha", "batch", "g_lr", "d_lr", "phase", "tick", "iteration"}
    speed = {"img_per_second", "seconds", "seconds_left", "memory_mb"}
    return f"{'progress' if name in progress else 'speed' if name in speed else 'loss'}/{name}"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a torn one, or one of something else, is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"nimg", "resolution", "alpha", "img_per_second"} <= line.keys():
            lines.append(line)
    return lines


def _cut(path: Path, nimg: int) -> None:
    kept = [line for line in read_log(path) if int(line.get("nimg", 0)) <= nimg]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    replace_atomically(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
