"""TensorBoard events of a run: scalars and sample grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.training.run.logger import Logger, metric_scalars, tick_scalars
from pggan.utils.formatting import one_line


class TensorBoard(Logger):
    """Writes TensorBoard events; a disk error costs the values of that moment, never the run.

    Tensorboard's own writer is dead for good after one error: it is made anew for the values that come next.
    """

    def __init__(self, directory: Path, note: Callable[[str], None]) -> None:
        self.directory, self.note = directory, note
        self._purge: int | None = None
        self._writer: Any = None
        self._failed = False

    def open(self, nimg: int) -> None:
        self._purge = nimg + 1 if self.directory.exists() else None

    def rewind(self, nimg: int) -> None:
        self.close()
        self.open(nimg)

    def tick(self, line: dict[str, Any]) -> None:
        self._scalars(tick_scalars(line), int(line["nimg"]))

    def add_metrics(self, nimg: int, values: Mapping[str, float | None]) -> None:
        self._scalars(metric_scalars(values), nimg)

    def image(self, name: str, image: NDArray[np.uint8], nimg: int) -> None:
        self._write(lambda writer: writer.add_image(name, image, global_step=nimg, dataformats="HWC"))

    def close(self) -> None:
        """Closes the writer; the next value makes another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                writer.close()

    def _scalars(self, values: Mapping[str, float], nimg: int) -> None:
        def add(writer: Any) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, global_step=nimg)

        self._write(add)

    def _write(self, add: Callable[[Any], None]) -> None:
        """Calls `add(writer)` and flushes. A disk error is noted once, until writing succeeds again."""
        from torch.utils.tensorboard import SummaryWriter

        try:
            if self._writer is None:
                self._writer = SummaryWriter(str(self.directory), purge_step=self._purge)
                self._purge = None
            add(self._writer)
            self._writer.flush()
        except OSError as error:
            self.close()
            if not self._failed:
                self.note(f"WARNING: TensorBoard's events could not be written ({one_line(error)}). The run goes on")
            self._failed = True
        else:
            self._failed = False
