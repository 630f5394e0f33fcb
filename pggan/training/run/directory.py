"""The run directory: paths of options, log, samples, models and checkpoints; its lock and recorded options."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pggan.config.strict_json import is_kind, parse_json
from pggan.config.train import TrainConfig, from_json, to_json
from pggan.training.engine.environment import RunEnvironment
from pggan.utils.atomic_files import TEMPORARY, write_json
from pggan.utils.errors import TrainingError, UsageError
from pggan.utils.file_lock import exclusive_lock
from pggan.utils.formatting import one_line, paste
from pggan.utils.limits import MAX_METADATA_BYTES
from pggan.utils.paths import BEST, MODELS, STATES, numbered
from pggan.utils.version import __version__

OPTIONS, LOCK = "options.json", "run.lock"
# Entries of options.json.
_KINDS: dict[str, Any] = {
    "pggan": str, "config": dict[str, Any], "resolved": dict[str, Any], "changes": list[dict[str, Any]], "pruned": bool,
}  # fmt: skip


def is_run(path: Path) -> bool:
    """Whether `pggan train` made the directory."""
    return (path / OPTIONS).is_file()


class RunDirectory:
    """Where the parts of a run lie.

    `options.json`: configuration and environment; `log.jsonl`: ticks and events; `events/`: TensorBoard; `samples/`:
    image grids; `models/`: generators to use, of which only a better one replaces `best`, the best by the run's metric;
    `averages/`: power-function averages of the generator, for `pggan ema`; `checkpoints/`: training states to resume
    from; `data/`: the store of a run on drawn faces; `tracker.json`: what a tracker has of the run.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.best = path, path / MODELS / BEST
        self.log, self.events = path / "log.jsonl", path / "events"
        self.samples, self.data, self.tracker = path / "samples", path / "data", path / "tracker.json"
        self.averages = path / "averages"

    def model(self, nimg: int) -> Path:
        """The model file written after `nimg` images."""
        return self.path / MODELS / f"model-{nimg:09d}.safetensors"

    def average(self, length: float, nimg: int) -> Path:
        """The power-function average of a length that a snapshot keeps after `nimg` images."""
        return self.averages / f"average-{length:g}-{nimg:09d}.safetensors"

    def state(self, nimg: int) -> Path:
        """The checkpoint written after `nimg` images."""
        return self.path / STATES / f"state-{nimg:09d}.safetensors"

    def interim_state(self, nimg: int) -> Path:
        """The checkpoint that a signal asked for after `nimg` images, between those that are due by images."""
        return self.path / STATES / f"interim-{nimg:09d}.safetensors"

    def models(self) -> list[Path]:
        """The model files, oldest first, without the best one."""
        return numbered(self.path / MODELS, "model")

    def made_model(self, name: str, nimg: int) -> Path:
        """An average that `pggan ema` makes, of the snapshot after `nimg` images."""
        return self.path / MODELS / f"ema-{name}-{nimg:09d}.safetensors"

    def made_models(self) -> list[Path]:
        """The averages that `pggan ema` made afterwards."""
        return sorted((self.path / MODELS).glob("ema-*.safetensors"))

    def states(self, interim: bool = True) -> list[Path]:
        """The checkpoints, oldest first; `interim`: those, too, that signals asked for."""
        names = ("interim", "state") if interim else ("state",)
        paths = [path for name in names for path in numbered(self.path / STATES, name)]
        return sorted(paths, key=images_of)

    def check_free(self) -> None:
        """Raises `UsageError` where the directory holds a run already, or parts of one."""
        if is_run(self.path):
            raise UsageError(
                f"{self.path} holds a run already; go on with --resume {paste(self.path)}, or give another --out"
            )
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; give a directory")
        from pggan.data.store.store import is_store

        if is_store(self.path):
            raise UsageError(f"--out {self.path} is a data store; give the run a folder of its own")
        if self.models() or self.states() or self.log.exists():
            raise UsageError(f"{self.path} holds parts of another run; give another --out")
        # the drawn faces of a run that was stopped before it began may be there: preparing them checks them
        folders = (self.samples, self.averages, self.events, self.path / MODELS, self.path / STATES)
        for own in (self.path / OPTIONS, self.tracker, *folders):
            if os.path.lexists(own) and not (own.is_dir() and not own.is_symlink() and not any(own.iterdir())):
                raise UsageError(f"{own} is there already, and a run would write to it; give a new folder to --out")

    def create(self, config: TrainConfig, resolved: dict[str, Any]) -> None:
        """Makes the directory and records the configuration, and what "auto" resolved to."""
        self.samples.mkdir(parents=True, exist_ok=True)
        write_json(self.path / OPTIONS, {"pggan": __version__, "config": to_json(config), "resolved": resolved})

    def record_changes(
        self, config: TrainConfig, resolved: dict[str, Any], change: dict[str, Any] | None = None
    ) -> None:
        """Records options that a person changed on resume.

        Args:
            config: with the changes, in place of the recorded one.
            resolved: what "auto" resolves to now.
            change: those that change the result, and under "at_nimg" the images seen at that time; None: none does.
        """
        values = self._read()
        if change is not None:
            values["changes"] = [*values.get("changes", []), change]
        write_json(self.path / OPTIONS, {**values, "config": to_json(config), "resolved": resolved})

    def record_modes(self, modes: dict[str, str]) -> None:
        """Records the step modes by resolution that the run goes on in."""
        values = self._read()
        write_json(self.path / OPTIONS, {**values, "resolved": {**values["resolved"], "modes": modes}})

    def mark_pruned(self) -> None:
        """Records that the run lacks what training needs to resume."""
        write_json(self.path / OPTIONS, {**self._read(), "pruned": True})

    @property
    def pruned(self) -> bool:
        """Whether `mark_pruned` was called; False where the options cannot be read."""
        try:
            return bool(self._read().get("pruned"))
        except (OSError, ValueError):
            return False

    def clear_leftovers(self) -> None:
        """Removes temporary files of killed processes. Only the process that holds the lock may call it."""
        for folder in (self.path, self.path / STATES, self.path / MODELS, self.samples, self.averages):
            for pattern in (f".*{TEMPORARY}", ".state-*.tmp", ".model-*.tmp"):  # the last two are of 0.2 and before
                for path in folder.glob(pattern):
                    path.unlink(missing_ok=True)

    def read_options(self) -> tuple[TrainConfig, dict[str, Any]]:
        """Reads the recorded configuration, and what "auto" resolved to. Raises `TrainingError` where it cannot."""
        try:
            values = self._read()
            config, resolved = from_json(TrainConfig, values["config"]), dict(values["resolved"])
            RunEnvironment.from_json(resolved)
            return config, resolved
        except (FileNotFoundError, NotADirectoryError):
            hint = "it holds no options.json" if self.path.is_dir() else "there is no such directory"
            raise TrainingError(f"{self.path} is not a run ({hint}); give a directory that pggan train made") from None
        except UsageError as error:
            raise TrainingError(f"{self.path / OPTIONS}: {error}") from None
        except ValueError as error:
            raise TrainingError(
                f"{self.path / OPTIONS} is damaged ({one_line(error)}); put back a copy of it: the run cannot go on "
                "without, but its models can be used"
            ) from None

    def recorded(self) -> tuple[str, list[dict[str, Any]]]:
        """Returns the version of pggan that began the run, and the options changed since: see `record_changes`."""
        values = self._read()
        return values.get("pggan", ""), values.get("changes", [])

    def _read(self) -> dict[str, Any]:
        """Reads options.json. Raises `ValueError` where it is damaged, `OSError` where it cannot be read."""
        with open(self.path / OPTIONS, "rb") as file:
            values = parse_json(file.read(MAX_METADATA_BYTES + 1), MAX_METADATA_BYTES)
        if not isinstance(values, dict) or not {"config", "resolved"} <= values.keys():
            raise ValueError("it is no table with config and resolved")
        for name, kind in _KINDS.items():
            if name in values and not is_kind(values[name], kind):
                raise ValueError(f"{name} is of another kind")
        return values

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

    def give_up(self, nimg: int) -> None:
        """Removes what a course left beyond `nimg` images that was given up: the run takes another one from there.

        These are models, power-function averages, and checkpoints that signals asked for.
        """
        interim = numbered(self.path / STATES, "interim")
        for path in (*self.averages.glob("average-*.safetensors"), *self.models(), *interim):
            if images_of(path) > nimg:
                path.unlink(missing_ok=True)

    def keep(self, states: int, models: int, nimg: int, held: Collection[Path] = ()) -> None:
        """Removes all but the newest `states` checkpoints and `models` models of at most `nimg` images; 0 keeps all.

        Models that are `held` stay for now.

        Of the checkpoints that signals asked for, one stays at most, until a newer one that was due is there. Files of
        more images count for nothing: the run that made them went on from an earlier checkpoint, as they are damaged.
        """
        due, both, own = (
            [path for path in paths if images_of(path) <= nimg]
            for paths in (self.states(interim=False), self.states(), self.models())
        )
        others = [path for path in both if path not in due]
        newest = images_of(due[-1]) if due else -1
        old_others = [path for path in others if path != others[-1] or images_of(path) <= newest]
        old = (due[:-states] if states else []) + old_others + (own[:-models] if models else [])
        for path in old:
            if path not in held:
                path.unlink(missing_ok=True)


def images_of(checkpoint: Path) -> int:
    """Returns the images seen by a checkpoint or a model, by its name."""
    return int(checkpoint.stem.rpartition("-")[2])
