"""What a run tells its loggers, and the names of its values in those that draw curves (torch-free)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Groups of the values that are not losses.
_PROGRESS = {"kimg", "level", "resolution", "alpha", "batch", "g_lr", "d_lr", "phase", "tick", "iteration"}
_SPEED = {"img_per_second", "memory_mb"}


class Logger:
    """The protocol of all that takes a run's figures: log.jsonl, TensorBoard, a tracker. These methods do nothing."""

    def open(self, nimg: int) -> None:
        """Begins, or goes on after `nimg` images: values beyond were of a run that was cut off."""

    def rewind(self, nimg: int) -> None:
        """Goes on after `nimg` images, in a run that went back to a checkpoint."""

    def event(self, line: dict[str, Any]) -> None:
        """Takes something that happened between ticks, a line with an entry "event"."""

    def tick(self, line: dict[str, Any]) -> None:
        """Takes a line of the log."""

    def add_metrics(self, nimg: int, values: Mapping[str, float | None]) -> None:
        """Takes metrics by figure, measured at the tick at `nimg`; None where one was not finite."""

    def image(self, name: str, image: NDArray[np.uint8], nimg: int) -> None:
        """Takes an image, uint8 (H, W, C)."""

    def best_model(self, path: Path, nimg: int, figure: str, score: float) -> None:
        """Takes the file of the best model so far, chosen by `figure`."""

    def close(self) -> None:
        """Ends; `open` may follow."""


def tick_scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a tick by their names in curves, `group/name`."""
    return {_tag(name): v for name, v in line.items() if isinstance(v, (int, float)) and name != "nimg"}


def metric_scalars(values: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the finite metrics by their names in curves."""
    return {f"metric/{name}": value for name, value in values.items() if value is not None}


def _tag(name: str) -> str:
    is_speed = name in _SPEED or "seconds" in name
    return f"{'progress' if name in _PROGRESS else 'speed' if is_speed else 'loss'}/{name}"
