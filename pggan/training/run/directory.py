"""The run directory: paths of options, log, samples, models and checkpoints; its lock and recorded options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pggan.config.train import TrainConfig, from_json, to_json
from pggan.utils.atomic_files import write_json
from pggan.utils.errors import TrainingError, UsageError
from pggan.utils.file_lock import exclusive_lock
from pggan.utils.formatting import paste
from pggan.utils.paths import BEST, MODELS, STATES, numbered
from pggan.utils.version import __version__

OPTIONS, LOCK = "options.json", "run.lock"


def is_run(path: Path) -> bool:
    """Whether `pggan train` made the directory."""
    return (path / OPTIONS).is_file()


class RunDirectory:
    """Where the parts of a run lie.

    `options.json`: configuration and environment; `log.jsonl`: ticks and events; `events/`: TensorBoard; `samples/`:
    image grids; `models/`: generators to use, of which only a better one replaces `best`, the best by the run's metric;
    `checkpoints/`: training states to resume from; `data/`: the store of a run on drawn faces.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.best = path, path / MODELS / BEST
        self.log, self.events = path / "log.jsonl", path / "events"
        self.samples, self.data = path / "samples", path / "data"

    def model(self, nimg: int) -> Path:
        """The model file written after `nimg` images."""
        return self.path / MODELS / f"model-{nimg:09d}.safetensors"

    def state(self, nimg: int) -> Path:
        """The checkpoint written after `nimg` images."""
        return self.path / STATES / f"state-{nimg:09d}.safetensors"

    def models(self) -> list[Path]:
        """The model files, oldest first, without the best one."""
        return numbered(self.path / MODELS, "model")

    def states(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return numbered(self.path / STATES, "state")

    def check_free(self) -> None:
        """Raises `UsageError` where the directory holds a run already, or parts of one."""
        if is_run(self.path):
            raise UsageError(
                f"{self.path} holds a run already; go on with --resume {paste(self.path)}, or give another --out"
            )
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; give a directory")
        if self.models() or self.states() or self.log.exists():
            raise UsageError(f"{self.path} holds parts of another run; give another --out")

    def create(self, config: TrainConfig, resolved: dict[str, Any]) -> None:
        """Makes the directory and records the configuration, and what "auto" resolved to."""
        self.samples.mkdir(parents=True, exist_ok=True)
        write_json(self.path / OPTIONS, {"pggan": __version__, "config": to_json(config), "resolved": resolved})

    def record_changes(self, config: TrainConfig, resolved: dict[str, Any], change: dict[str, Any]) -> None:
        """Records options that a person changed on resume.

        Args:
            config: with the changes, in place of the recorded one.
            resolved: what "auto" resolves to now.
            change: the fields changed, and under "at_nimg" the images seen at that time.
        """
        values = self._read()
        values["changes"] = [*values.get("changes", []), change]
        write_json(self.path / OPTIONS, {**values, "config": to_json(config), "resolved": resolved})

    def mark_pruned(self) -> None:
        """Records that the run lacks what training needs to resume."""
        write_json(self.path / OPTIONS, {**self._read(), "pruned": True})

    @property
    def pruned(self) -> bool:
        """Whether `mark_pruned` was called; False where the options cannot be read."""
        try:
            return bool(self._read().get("pruned"))
        except (OSError, ValueError, AttributeError):
            return False

    def clear_leftovers(self) -> None:
        """Removes temporary files of killed processes. Only the process that holds the lock may call it."""
        for folder in (self.path, self.path / STATES, self.path / MODELS, self.samples):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def read_options(self) -> tuple[TrainConfig, dict[str, Any]]:
        """Reads the recorded configuration, and what "auto" resolved to. Raises `TrainingError` where it cannot."""
        try:
            values = self._read()
            config, resolved = from_json(TrainConfig, dict(values["config"])), dict(values["resolved"])
            if not {"device", "precision"} <= resolved.keys():
                raise ValueError("device and precision are missing")
            return config, resolved
        except FileNotFoundError:
            hint = "it holds no options.json" if self.path.is_dir() else "there is no such directory"
            raise TrainingError(f"{self.path} is not a run ({hint}); give a directory that pggan train made") from None
        except UsageError as error:
            raise TrainingError(f"{self.path / OPTIONS}: {error}") from None
        except (ValueError, TypeError, KeyError) as error:
            raise TrainingError(f"{self.path / OPTIONS} is damaged ({error}); the run cannot go on from it") from None

    def _read(self) -> Any:
        return json.loads((self.path / OPTIONS).read_text(encoding="utf-8"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the directory for the block. Raises `TrainingError` where another process trains in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.path / LOCK) as held:
            if not held:
                raise TrainingError(
                    f"another process trains in {self.path}; wait for it, stop it, or give another --out"
                )
            self.clear_leftovers()
            yield

    def keep(self, states: int, models: int) -> None:
        """Removes all but the newest `states` checkpoints and `models` models; 0 keeps all."""
        for files, count in ((self.states(), states), (self.models(), models)):
            for old in files[:-count] if count else []:
                old.unlink(missing_ok=True)
