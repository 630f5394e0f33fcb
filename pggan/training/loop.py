"""The run: pictures in, ticks, snapshots and checkpoints out, from its start or from where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from pggan.config import TrainConfig, level_of
from pggan.data.loader import LoadedBatch, Loader, Request
from pggan.data.store import Store
from pggan.devices import pick_device, set_precision
from pggan.errors import DataError, ModelError, TrainingError
from pggan.training.iteration import Feed, iterate
from pggan.training.log import RunLog, read_log
from pggan.training.pace import Pace
from pggan.training.rundir import RunDirectory
from pggan.training.schedule import Moment, Schedule
from pggan.training.signals import Signals
from pggan.training.snapshots import Snapshots
from pggan.training.state import TrainState


class Display(Protocol):
    """Where a run shows itself; every method is called from the training loop."""

    def note(self, message: str) -> None: ...

    def moment(self, moment: Moment) -> None: ...

    def tick(self, line: dict[str, Any]) -> None: ...


@dataclass
class Outcome:
    """How a run ended. `signal`: the one that stopped it, 0 if it is complete."""

    run: RunDirectory
    nimg: int
    signal: int
    seconds: float
    last: dict[str, Any] = field(default_factory=dict)


class Meter:
    """Sums the terms of the iterations since the last tick on the device; nothing is read back before."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self.images = 0

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        for name, value in terms.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1
        self.images += images

    def read(self) -> dict[str, float]:
        """The means since the last reading, in one transfer."""
        if not self._sums:
            return {}
        means = (torch.stack([v.float() for v in self._sums.values()]) / self._count).tolist()
        found = dict(zip(self._sums, means))
        self._sums, self._count, self.images = {}, 0, 0
        return found


class Training:
    """One run in this process. `resolved` says what "auto" became: its `device` and `precision` are used."""

    def __init__(self, config: TrainConfig, resolved: dict[str, Any], run: RunDirectory, display: Display) -> None:
        self.config, self.run, self.display = config, run, display
        self.schedule = Schedule(config)
        self.pace = Pace(config, self.schedule)
        device = pick_device(resolved["device"])
        set_precision(resolved["precision"])
        self.store = Store(str(config.data))
        self.state = TrainState(config, device, resolved["precision"])
        column, labels = label_column(self.store, config)
        classes = self.store.labels[:, column] if labels else None
        if classes is not None and not (classes >= 0).any():
            raise DataError(f"no picture of the data has a known {config.labels!r}; train without --labels")
        self.feed = Feed(self.state, column, classes)
        info = {"data": self.store.manifest.source, "attribution": self.store.manifest.attribution}
        self.snapshots = Snapshots(run, self.state, labels, info)
        self.meter = Meter()
        self.state.counters["next_tick"] = self.schedule.tick(0)
        self._since = time.perf_counter()

    def resume(self) -> None:
        """Takes the newest training state that can be read; without any, the run starts from the beginning."""
        for path in reversed(self.run.states()):
            try:
                self.state.load(path)
            except ModelError as error:
                self.display.note(f"{error}; trying the one before")
                continue
            done = "complete already" if self.state.nimg >= self.schedule.total else f"going on from {path.name}"
            self.display.note(f"{done} ({self.state.nimg / 1000:g} kimg)")
            self._recall_pace()
            return
        if self.run.states():
            raise ModelError(f"none of the training states in {self.run.path} can be read; start a new run")
        self.display.note("the run had saved nothing yet: starting from the beginning")

    def _recall_pace(self) -> None:
        for line in read_log(self.run.log) if self.run.log.exists() else []:
            self.pace.measured(level_of(line["resolution"]), line["img_per_second"], 1.0)

    def requests(self) -> Iterator[Request]:
        """What the loader has to bring, from here to the end: a pure function of the images seen."""
        nimg = self.state.nimg
        while nimg < self.schedule.total:
            moment = self.schedule.at(nimg)
            for _ in range(self.schedule.n_critic):
                yield Request(nimg, moment.batch, moment.resolution)
                nimg += moment.batch

    def train(self) -> Outcome:
        """Trains to the end of the schedule, or until a signal asks to stop; either way the run is saved."""
        loader = Loader(
            self.store,
            seed=self.config.seed,
            mirror=self.config.mirror,
            workers=self.config.workers,
            cache_bytes=self.config.cache_mb << 20,
        )
        batches = loader.stream(self.requests())
        line: dict[str, Any] = {}
        with Signals() as signals, RunLog(self.run, self.state.nimg) as log:
            self._since = time.perf_counter()
            try:
                while self.state.nimg < self.schedule.total and not signals.stop:
                    trained = self.schedule.at(self.state.nimg)
                    self._iterate(batches, trained)
                    reached, ended = self._reached(trained)
                    self.display.moment(reached)
                    if ended or signals.stop or signals.save or reached.nimg >= self.state.counters["next_tick"]:
                        line = self._tick(reached, log)
                        self._save(reached, log, ended or bool(signals.stop) or signals.save)
                        signals.save = False
            except (torch.OutOfMemoryError, RuntimeError) as error:
                raise self._out_of_memory(error) from None
            finally:
                batches.close()
        return Outcome(self.run, self.state.nimg, signals.stop, self.state.counters["seconds"], line)

    def _out_of_memory(self, error: RuntimeError) -> Exception:
        """The error itself, or what a person can do where it says that memory is out."""
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            return error
        moment = self.schedule.at(self.state.nimg)
        side, saved = moment.resolution, self.run.states()
        smaller = f"--batch {side}:{max(1, moment.batch // 2)}"
        mend = f"start again with a smaller batch ({smaller}) or --fmap-base, and another --out"
        kept = f"; the run is saved up to {saved[-1].name}" if saved else ""
        return TrainingError(f"out of memory at {side}x{side} with batch {moment.batch}: {mend}{kept}")

    def _iterate(self, batches: Iterator[LoadedBatch], moment: Moment) -> None:
        before = self.state.nimg
        terms = iterate(self.state, self.feed, self._shown(batches), moment, self.schedule.n_critic)
        self.meter.add(terms, self.state.nimg - before)

    def _reached(self, trained: Moment) -> tuple[Moment, bool]:
        """Where the run is now, and whether that ends a phase or the run: a phase ends as what it trained."""
        now = self.schedule.at(self.state.nimg)
        if now.phase != trained.phase:
            return trained._replace(nimg=now.nimg, alpha=1.0), True
        return now, now.nimg >= self.schedule.total

    def _shown(self, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        for loaded in batches:
            self.snapshots.reals(loaded.images)
            yield loaded

    def _tick(self, moment: Moment, log: RunLog) -> dict[str, Any]:
        images = self.meter.images
        values = self.meter.read()  # waits for the device, so that the time is whole
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        self.pace.measured(moment.level, images, seconds)
        counters = self.state.counters
        counters["seconds"] += seconds
        counters["tick"] += 1
        counters["next_tick"] = moment.nimg + self.schedule.tick(moment.nimg)
        phase_left, run_left = self.pace.left(moment.nimg)
        line: dict[str, Any] = {
            "tick": int(counters["tick"]),
            "nimg": moment.nimg,
            "kimg": moment.nimg / 1000,
            "iteration": int(counters["iteration"]),
            "phase": moment.phase,
            "resolution": moment.resolution,
            "alpha": moment.alpha,
            "batch": moment.batch,
            "g_lr": moment.g_lr,
            "d_lr": moment.d_lr,
            **values,
            "img_per_second": images / max(seconds, 1e-9),
            "seconds": counters["seconds"],
            "phase_seconds_left": phase_left,
            "seconds_left": run_left,
            "skipped_steps": int(counters["skipped"]),
            **self._memory(),
        }
        # what is not finite (half precision seeking its loss scale) is None: JSON knows no NaN
        line = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        log.tick(line)
        self.display.tick(line)
        return line

    def _memory(self) -> dict[str, float]:
        if self.state.device.type != "cuda":
            return {}
        peak = torch.cuda.max_memory_allocated(self.state.device)
        torch.cuda.reset_peak_memory_stats(self.state.device)
        return {"memory_mb": peak / 2**20}

    def _save(self, moment: Moment, log: RunLog, always: bool) -> None:
        """Snapshot and training state where due by ticks, or always: at the end of a phase and when asked."""
        tick = int(self.state.counters["tick"])
        if always or tick % self.config.snapshot_ticks == 0:
            log.picture("samples", self.snapshots.write(moment), moment.nimg)
        if always or tick % self.config.checkpoint_ticks == 0:
            self.state.save(self.run.state(moment.nimg))
        self.run.keep(self.config.keep_checkpoints, self.config.keep_models)
        self._since = time.perf_counter()  # the pace is that of training alone


def label_column(store: Store, config: TrainConfig) -> tuple[int, dict[str, Any] | None]:
    """The data's label column that a conditional run uses: its number, and its name and classes (None: no labels)."""
    if config.labels is None:
        return 0, None
    names = [column.name for column in store.manifest.labels]
    if config.labels not in names:
        raise DataError(f"the data has no labels {config.labels!r}; it has: {', '.join(names) or 'none'}")
    column = store.manifest.labels[names.index(config.labels)]
    return names.index(config.labels), {"name": column.name, "classes": list(column.classes)}
