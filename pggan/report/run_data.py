"""Reads a run directory for a report. Only options.json has to be intact: whatever else is damaged is left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pggan.config.model_metadata import ModelMetadata
from pggan.config.schedule import Schedule
from pggan.config.train import TrainConfig
from pggan.report.markup import option
from pggan.training.run.directory import LOCK, OPTIONS, RunDirectory
from pggan.training.run.log_reader import MAX_IMAGES, MAX_NAME, Event, LogSummary, finite_number, summarize_log
from pggan.utils.errors import DataError, ModelError, PgganError, TrainingError
from pggan.utils.file_lock import is_locked


@dataclass(frozen=True)
class RunData:
    """All that a report shows of a run, but for its images."""

    run: RunDirectory
    config: TrainConfig
    resolved: dict[str, Any]  # device, precision and versions that the run recorded
    version: str  # of pggan, that began the run
    schedule: Schedule
    log: LogSummary  # with the changes of options among its events
    models: list[Path]  # oldest first
    best: list[Path]  # the best model, or nothing
    data: dict[str, Any]  # what is known of the training data, by name
    attribution: str | None  # of the training data
    running: bool  # whether a process trains in the run now

    @property
    def name(self) -> str:
        return self.run.path.resolve().name or str(self.run.path.resolve())

    @property
    def nimg(self) -> int:
        return self.log.ticks[-1].nimg if self.log.ticks else 0

    @property
    def finished(self) -> bool:
        return self.nimg >= self.schedule.total

    def last(self, name: str) -> float | None:
        """The newest value of this name in the log."""
        return self.log.ticks[-1].values.get(name) if self.log.ticks else None


def read_run_data(path: Path) -> RunData:
    """Reads a run directory. Raises `TrainingError` where it is no run, or its options are damaged."""
    run = RunDirectory(path)
    try:
        config, resolved = run.read_options()
        version, changes = run.recorded()
        schedule = config.schedule
    except (PgganError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - a damaged configuration may raise anything
        raise TrainingError(f"{path / OPTIONS} is damaged ({type(error).__name__}: {error})") from None
    log = summarize_log(run.log)
    log.events.extend(_changes(changes))
    log.events.sort(key=lambda event: event.nimg)
    models, best = run.models(), [run.best] if run.best.is_file() else []
    data, attribution = _data(run, config, resolved)
    if attribution is None:
        attributions = [about(model).get("attribution") for model in (*models[-1:], *best)]
        attribution = next((str(text) for text in attributions if text), None)
    running = is_locked(path / LOCK)
    return RunData(run, config, resolved, version, schedule, log, models, best, data, attribution, running)


def _changes(recorded: list[dict[str, Any]]) -> list[Event]:
    """Reads the changes of options on resume as events."""
    events = []
    for change in recorded:
        at = finite_number(change.get("at_nimg"))
        if at is not None and 0 <= at <= MAX_IMAGES:
            changed = {str(name)[:MAX_NAME]: value for name, value in change.items() if name != "at_nimg"}
            names = [f"{name.replace('_', '-')} {option(value)}" for name, value in changed.items()]
            events.append(Event(int(at), "options changed", "; ".join(names)[:4000]))
    return events


def _data(run: RunDirectory, config: TrainConfig, resolved: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Describes the training data, with its attribution: from the store if it is still there, else as recorded."""
    from pggan.data.store.store import Store, is_store

    recorded = resolved.get("data")
    known = dict(recorded) if isinstance(recorded, dict) else {}
    for place in (config.data, str(run.data)):
        try:
            if not isinstance(place, str) or not is_store(place):
                continue
            with Store(place) as store:
                manifest = store.manifest
        except (DataError, OSError, ValueError):
            continue
        same = {"count": manifest.count, "created": manifest.created}
        if not known or all(known.get(name) == value for name, value in same.items()):
            first, last = manifest.resolutions[0], manifest.resolutions[-1]
            more = {"source": manifest.source, "resolutions": f"{first}x{first} to {last}x{last}"}
            return {"count": manifest.count, "channels": manifest.channels, **known, **more}, manifest.attribution
    return known, None


def about(model: Path) -> dict[str, Any]:
    """Reads the entry "info" of a model file's metadata; empty where it cannot be read."""
    try:
        return ModelMetadata.read(model).info
    except (ModelError, OSError):
        return {}
