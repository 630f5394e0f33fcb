"""A run's directory: its options, log, samples, models and training states, and where each of them lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pggan
from pggan.config.train import TrainConfig, from_json, to_json
from pggan.utils.atomic_files import write_json
from pggan.utils.errors import TrainingError, UsageError
from pggan.utils.file_lock import exclusive_lock
from pggan.utils.paths import BEST, MODELS, STATES, numbered

OPTIONS, LOCK = "options.json", "run.lock"


def is_run(path: Path) -> bool:
    return (path / OPTIONS).is_file()


@dataclass(frozen=True)
class RunDirectory:
    """`options.json`, `log.jsonl`, `events/`, `samples/`, `models/`, `checkpoints/` and, for drawn faces, `data/`."""

    path: Path

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def data(self) -> Path:
        return self.path / "data"

    def model(self, nimg: int) -> Path:
        return self.path / MODELS / f"model-{nimg:09d}.safetensors"

    def state(self, nimg: int) -> Path:
        return self.path / STATES / f"state-{nimg:09d}.safetensors"

    @property
    def best(self) -> Path:
        """The best model by the run's metric: never removed, only replaced by a better one."""
        return self.path / MODELS / BEST

    def models(self) -> list[Path]:
        return numbered(self.path / MODELS, "model")

    def states(self) -> list[Path]:
        return numbered(self.path / STATES, "state")

    def check_free(self) -> None:
        """Raises `UsageError` where a run, or what is left of one, lies already."""
        if is_run(self.path):
            raise UsageError(f"{self.path} holds a run already; go on with --resume {self.path}, or give another --out")
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; give a directory")
        if self.models() or self.states() or self.log.exists():
            raise UsageError(f"{self.path} holds parts of another run; give another --out")

    def create(self, config: TrainConfig, resolved: dict[str, Any]) -> None:
        """Makes the directory and records the options."""
        self.samples.mkdir(parents=True, exist_ok=True)
        write_json(self.path / OPTIONS, {"pggan": pggan.__version__, "config": to_json(config), "resolved": resolved})

    def record_changes(self, config: TrainConfig, resolved: dict[str, Any], change: dict[str, Any]) -> None:
        """Options that a person changed when the run went on: they hold from there, and when they did is kept."""
        values = json.loads((self.path / OPTIONS).read_text(encoding="utf-8"))
        values["changes"] = [*values.get("changes", []), change]
        write_json(self.path / OPTIONS, {**values, "config": to_json(config), "resolved": resolved})

    def mark_pruned(self) -> None:
        """Notes that what going on with the run needs is gone."""
        values = json.loads((self.path / OPTIONS).read_text(encoding="utf-8"))
        write_json(self.path / OPTIONS, {**values, "pruned": True})

    @property
    def pruned(self) -> bool:
        """Whether `mark_pruned` was called; False where the options cannot be read."""
        try:
            return bool(json.loads((self.path / OPTIONS).read_text(encoding="utf-8")).get("pruned"))
        except (OSError, ValueError, AttributeError):
            return False

    def clear_leftovers(self) -> None:
        """Removes files that a killed process was writing; for one that holds the lock."""
        for folder in (self.path, self.path / STATES, self.path / MODELS, self.samples):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def read_options(self) -> tuple[TrainConfig, dict[str, Any]]:
        """The recorded configuration, and what "auto" became. Raises `TrainingError` where there is none to read."""
        try:
            values = json.loads((self.path / OPTIONS).read_text(encoding="utf-8"))
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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises `TrainingError` where another process trains in this directory."""
        self.path.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.path / LOCK) as held:
            if not held:
                raise TrainingError(
                    f"another process trains in {self.path}; wait for it, stop it, or give another --out"
                )
            self.clear_leftovers()
            yield

    def keep(self, states: int, models: int) -> None:
        """Removes all but the newest training states and models (0: keeps all)."""
        for files, count in ((self.states(), states), (self.models(), models)):
            for old in files[:-count] if count else []:
                old.unlink(missing_ok=True)
