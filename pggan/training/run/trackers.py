"""Experiment trackers: wandb and trackio, whose calls are the same (torch-free).

A tracker belongs to one call of `pggan train`: it is named on the command line, and recorded nowhere. What the run
directory remembers (`tracker.json`) is which of its runs at the tracker this one is, and what that has already.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.training.run.directory import RunDirectory
from pggan.training.run.logger import Logger, metric_scalars, tick_scalars
from pggan.utils.atomic_files import write_json
from pggan.utils.errors import TrainingError, UsageError
from pggan.utils.formatting import one_line

TRACKERS = ("wandb", "trackio")
PROJECT = "pggan"  # unless the tracker's own settings name another
_STEP = "nimg"
_ID = re.compile(r"[0-9a-f]{8,32}")
# Options that name files of this machine: their last part is sent alone.
_PATHS = ("data", "start_from", "inception_weights", "embedding")


def find_tracker(name: str) -> Any:
    """Imports a tracker's package. Raises `UsageError` where it is unknown or not installed."""
    if name not in TRACKERS:
        raise UsageError(f"--track {name} is none of {', '.join(TRACKERS)}")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = "" if isinstance(error, ModuleNotFoundError) else f" ({one_line(error)})"
        raise UsageError(f"--track {name} needs one more package: pip install {name}{reason}") from None


class Tracker(Logger):
    """Sends hyper-parameters, scalars, sample grids and the best model to a tracker.

    A failure costs values and is noted, until sending succeeds again; it never ends the run. What was sent stays: a run
    that goes back sends nothing again, and goes on with the first value beyond.
    """

    def __init__(self, name: str, run: RunDirectory, config: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self.name, self.run, self.note = name, run, note
        self.config = {
            key: Path(str(value)).name if key in _PATHS and value is not None else value
            for key, value in config.items()
        }
        self._module = find_tracker(name)
        self._state = self._read_state()
        self._tracked: Any = None
        self._failed = False

    def open(self, nimg: int) -> None:
        """Starts the run at the tracker, or goes on with it. Raises `TrainingError` where it cannot."""
        title = self.run.path.resolve().name or PROJECT
        options = {"project": PROJECT, "name": f"{title}-{self._state['id'][:8]}", "config": self.config}
        if "id" in inspect.signature(self._module.init).parameters:  # others find a run by its name
            options["id"] = self._state["id"]
        try:
            with redirect_stdout(sys.stderr):
                self._tracked = self._module.init(**options, resume="allow")
                if hasattr(self._tracked, "define_metric"):
                    self._tracked.define_metric(_STEP)
                    self._tracked.define_metric("*", step_metric=_STEP)
        except Exception as error:  # noqa: BLE001 (a package of others, which asks machines of others)
            reason = one_line(error)
            raise TrainingError(f"{self.name} did not start ({reason}); mend that, or leave --track out") from None

    def tick(self, line: dict[str, Any]) -> None:
        self._log("tick", int(line["nimg"]), lambda: tick_scalars(line))

    def add_metrics(self, nimg: int, values: Mapping[str, float | None]) -> None:
        self._log("metrics", nimg, lambda: metric_scalars(values))

    def image(self, name: str, image: NDArray[np.uint8], nimg: int) -> None:
        shown = image if image.shape[-1] == 3 else image.repeat(3, axis=-1)
        self._log("image", nimg, lambda: {name: self._module.Image(shown, caption=f"{nimg / 1000:g} kimg")})

    def best_model(self, path: Path, nimg: int, figure: str, score: float) -> None:
        def send() -> None:
            artifact = self._module.Artifact(f"{self.run.path.resolve().name or PROJECT}-best", type="model")
            artifact.add_file(str(path))
            self._tracked.log_artifact(artifact, aliases=["best"])

        if self._log("best", nimg, lambda: {f"best/{figure}": score}):
            self._attempt(send)

    def close(self) -> None:
        if self._tracked is not None:
            self._attempt(self._tracked.finish)
        self._tracked = None

    def _log(self, kind: str, nimg: int, values: Callable[[], dict[str, Any]]) -> bool:
        """Sends values of a kind, unless those of this moment were sent; returns whether it did."""
        if nimg <= self._state["sent"].get(kind, -1):
            return False
        self._state["sent"][kind] = nimg

        def send() -> None:
            # before, so that a run that is killed here sends nothing twice
            write_json(self.run.tracker, {**self._read_all(), self.name: self._state})
            step = {} if hasattr(self._tracked, "define_metric") else {"step": nimg}
            self._tracked.log({**values(), _STEP: nimg}, **step)

        self._attempt(send)
        return True

    def _attempt(self, send: Callable[[], object]) -> None:
        try:
            with redirect_stdout(sys.stderr):
                send()
        except Exception as error:  # noqa: BLE001 (as above)
            if not self._failed:
                self.note(f"WARNING: {self.name} did not take the run's values ({one_line(error)}). The run goes on")
            self._failed = True
        else:
            self._failed = False

    def _read_state(self) -> dict[str, Any]:
        """Returns id and what was sent, from the run directory where that holds them."""
        entry = self._read_all().get(self.name)
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and _ID.fullmatch(entry["id"]):
            sent = entry.get("sent") if isinstance(entry.get("sent"), dict) else {}
            return {"id": entry["id"], "sent": {k: v for k, v in (sent or {}).items() if type(v) is int}}
        return {"id": secrets.token_hex(8), "sent": {}}

    def _read_all(self) -> dict[str, Any]:
        try:
            values = json.loads(self.run.tracker.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return values if isinstance(values, dict) else {}
