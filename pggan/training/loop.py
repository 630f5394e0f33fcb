"""The run: pictures in, ticks, snapshots and checkpoints out, from its start or from where it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pggan.config.schedule import Schedule, ScheduleState
from pggan.config.train import TrainConfig, level_of
from pggan.data.loading.cache_policy import CachePolicy
from pggan.data.loading.loader import BatchRequest, LoadedBatch, Loader
from pggan.data.store.store import Store
from pggan.training.engine.compile_worker import compiling_ahead
from pggan.training.engine.memory_estimate import describe
from pggan.training.engine.memory_probe import measured_plan
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import BatchBuilder, train_step
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import by_level
from pggan.training.monitor.disk_full import tolerate_write_errors
from pggan.training.monitor.display import Display
from pggan.training.monitor.eta import EtaEstimator
from pggan.training.monitor.evaluation import Evaluation
from pggan.training.monitor.health import diagnosis, relative_diversity
from pggan.training.monitor.label_holdout import hold_out_labels
from pggan.training.monitor.recovery import TrainingDiverged, check_share, restore, roll_back
from pggan.training.monitor.stats import MetricAverager, count_steps, tick_values
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log import RunLog, opened_log
from pggan.training.run.log_reader import read_log
from pggan.training.run.signals import Signals
from pggan.training.run.snapshots import Snapshots
from pggan.training.run.warm_start import load_pretrained
from pggan.utils import distributed
from pggan.utils.devices import (
    StepThrottle,
    can_measure,
    enable_cudnn_benchmark,
    limit_memory,
    out_of_memory,
    pick_device,
    set_precision,
)
from pggan.utils.distributed import SINGLE_PROCESS, World
from pggan.utils.errors import DataError, TrainingError


@dataclass
class RunResult:
    """How a run ended. `signal`: the one that stopped it, 0 if it is complete."""

    run: RunDirectory
    nimg: int
    signal: int
    seconds: float
    last: dict[str, Any] = field(default_factory=dict)


class Trainer:
    """One run in this process. `resolved` says what "auto" became: its `device` and `precision` are used."""

    def __init__(
        self,
        config: TrainConfig,
        resolved: dict[str, Any],
        run: RunDirectory,
        display: Display,
        world: World = SINGLE_PROCESS,
    ) -> None:
        self.config, self.run, self.display, self.world = config, run, display, world
        self.schedule = Schedule(config)
        self.pace = EtaEstimator(config, self.schedule)
        device = pick_device(resolved["device"])
        set_precision(resolved["precision"])
        enable_cudnn_benchmark(device)
        self.store = Store(str(config.data))
        self.state = TrainState(config, device, resolved["precision"], world)
        check_share(config, self.state, world)
        self._plan_computing(resolved)
        column, labels = label_column(self.store, config)
        classes = self.store.labels[:, column] if labels else None
        if not self.state.generator.config.label_size:
            labels = None  # D alone is told of them: pictures are asked for without
        if classes is not None and not (classes >= 0).any():
            raise DataError(f"no picture of the data has a known {config.labels!r}; train without --labels")
        self.feed = BatchBuilder(self.state, column, classes)
        self.exam = hold_out_labels(self.store, column, self.state)
        info = {"data": self.store.manifest.source, "attribution": self.store.manifest.attribution}
        self.snapshots = Snapshots(run, self.state, labels, info)
        self.evaluation = Evaluation(self.state, self.store, self.snapshots, display)
        self.meter, self.leash = MetricAverager(world), StepThrottle(device)
        self.state.counters["next_tick"] = self.schedule.tick(0)
        self._reals: Tensor | None = None
        self._pictured = 0  # resolution whose pictures are shown beside the samples
        self._iterations = 0  # since the last tick
        self._since = time.perf_counter()

    def _plan_computing(self, resolved: dict[str, Any]) -> None:
        """Modes and micro-batches as resolved; runs of before have neither."""
        modes = by_level(resolved)
        self.ahead = compiling_ahead(self.state, modes, self.display.note)
        self.state.computing = StepExecutor(modes, self.display.note, ahead=self.ahead)
        self.state.apply_memory_plan(resolved.get("memory", {}))
        if self.config.budget is not None:
            limit_memory(self.state.device, self.config.budget)

    def measure_memory(self) -> dict[str, dict[str, Any]]:
        """Plans micro-batches by what gradients take of memory here, and says so; returns the plan to record.

        Nothing but the plan changes. Raises `UsageError` where memory does not suffice.
        """
        start = time.perf_counter()
        found = measured_plan(self.state, self.feed, len(self.store), self.display.measured)
        shares = {str(side): share.recorded() for side, share in found.items()}
        self.state.apply_memory_plan(shares)
        seconds = time.perf_counter() - start if can_measure(self.state.device) else None
        for line in describe(shares, seconds):
            self.display.measured(line)
        return shares

    def resume(self) -> None:
        """Takes the newest training state that can be read; without any, the run starts from the beginning."""
        found = restore(self.state, self.run, self.display)
        if found is None:
            self.display.note("the run had saved nothing yet: starting from the beginning")
            return
        done = "complete already" if self.state.nimg >= self.schedule.total else f"going on from {found.name}"
        self.display.note(f"{done} ({self.state.nimg / 1000:g} kimg)")
        for line in read_log(self.run.log):
            if speed := line.get("img_per_second"):
                self.pace.measured(level_of(line["resolution"]), speed, 1.0)

    def requests(self) -> Iterator[BatchRequest]:
        """What the loader has to bring, from here to the end: a pure function of the images seen."""
        nimg = self.state.nimg
        while nimg < self.schedule.total:
            moment = self.schedule.at(nimg)
            for _ in range(self.schedule.n_critic):
                yield BatchRequest(nimg, moment.batch, moment.resolution)
                nimg += moment.batch

    def train(self) -> RunResult:
        """Trains to the end of the schedule, or until a signal asks to stop; either way the run is saved."""
        line: dict[str, Any] = {}
        opened = opened_log(self.run, self.state.nimg, self.world)
        with Signals() as signals, opened as log, self._loader() as loader, ExitStack() as stack:
            if self.ahead is not None:
                stack.callback(self.ahead.close)
            self._since = time.perf_counter()
            self._evaluate(self.schedule.at(self.state.nimg), signals, log)  # of a run cut off at that
            while self.state.nimg < self.schedule.total and not signals.stop:
                batches = loader.stream(self.requests())
                try:
                    line = self._train_until_interrupted(batches, signals, log)
                except TrainingDiverged as problem:
                    roll_back(self.state, self.run, self.config, problem.reason, log, self.display, self._start_again)
                    self.meter = MetricAverager(self.world)
                    self._evaluate(self.schedule.at(self.state.nimg), signals, log)
                except (torch.OutOfMemoryError, RuntimeError) as error:
                    raise self._out_of_memory(error) from None
                finally:
                    batches.close()
        return RunResult(self.run, self.state.nimg, signals.stop, self.state.counters["seconds"], line)

    def _loader(self) -> Loader:
        config = self.config
        caching = CachePolicy(config.cache, config.cache_mb << 20, str(self.state.device), self.display.note)
        rank, world = self.world.rank, self.world.size
        labels = self.exam.labels if self.exam is not None else None
        return Loader(
            self.store, config.seed, config.mirror, config.workers, caching, rank, world, config.held_out, labels
        )

    def _train_until_interrupted(
        self, batches: Iterator[LoadedBatch], signals: Signals, log: RunLog | None
    ) -> dict[str, Any]:
        """Iterations to the end, or to a signal. Raises `TrainingDiverged` where the run has to go back."""
        line: dict[str, Any] = {}
        while self.state.nimg < self.schedule.total and not signals.stop:
            trained = self.schedule.at(self.state.nimg)
            self._iterate(batches, trained)
            signals.agree(self.world)
            reached, ended = self._reached(trained)
            self.display.moment(reached)
            if ended or signals.stop or signals.save or reached.nimg >= self.state.counters["next_tick"]:
                line = self._tick(reached, log)
                self.evaluation.plan(reached, ended)
                self._save(reached, log, ended or bool(signals.stop) or signals.save)
                signals.save = False
                self._evaluate(reached, signals, log)
        return line

    def _evaluate(self, moment: ScheduleState, signals: Signals, log: RunLog | None) -> None:
        """Makes the evaluation that is owed; where a signal came meanwhile, the run is saved."""
        if not self.state.counters["evaluate"] or signals.stop:
            return
        moment = self.evaluation.pending(moment)
        self.evaluation.run(moment, signals, log, lambda: self.state.save(self.run.state(moment.nimg)))
        signals.agree(self.world)
        if signals.stop:
            self._save(moment, log, True)
        self._since = time.perf_counter()  # the pace is that of training alone

    def _out_of_memory(self, error: RuntimeError) -> Exception:
        """The error itself, or what a person can do where it says that memory is out."""
        if not out_of_memory(error):
            return error
        moment = self.schedule.at(self.state.nimg)
        side, saved = moment.resolution, self.run.states()
        smaller = f"--batch {side}:{max(1, moment.batch // 2)}"
        mend = f"start again with a smaller batch ({smaller}) or --fmap-base, and another --out"
        kept = f"; the run is saved up to {saved[-1].name}" if saved else ""
        return TrainingError(f"out of memory at {side}x{side} with batch {moment.batch}: {mend}{kept}")

    def _iterate(self, batches: Iterator[LoadedBatch], moment: ScheduleState) -> None:
        before, parts = self.state.nimg, self.state.parts.get(moment.level, 1)
        kept = moment.level not in self.state.recomputed
        terms = train_step(self.state, self.feed, self._shown(batches), moment, self.schedule.n_critic)
        self.leash.step()
        self.meter.add(terms, self.state.nimg - before)
        self._iterations += 1
        if self.state.parts.get(moment.level, 1) > parts:
            side = moment.resolution
            self.display.note(
                f"memory ran out at {side}x{side}: going on with {self.state.parts[moment.level]} micro-batches an "
                "iteration, which gives the same gradients"
            )
        if kept and moment.level in self.state.recomputed:
            self.display.note("memory ran out again: activations are computed again instead of kept, which is slower")

    def _reached(self, trained: ScheduleState) -> tuple[ScheduleState, bool]:
        """Where the run is now, and whether that ends a phase or the run: a phase ends as what it trained."""
        now = self.schedule.at(self.state.nimg)
        if now.phase != trained.phase:
            return trained._replace(nimg=now.nimg, alpha=1.0), True
        return now, now.nimg >= self.schedule.total

    def _shown(self, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        for loaded in batches:
            if self.world.is_main_process and loaded.request.resolution != self._pictured:
                self._pictured = loaded.request.resolution
                self.snapshots.reals(loaded.numpy_images())
            self._reals = torch.as_tensor(loaded.images)
            yield loaded

    def _tick(self, moment: ScheduleState, log: RunLog | None) -> dict[str, Any]:
        """Reads the means back, looks whether the run is well, and writes a line. Raises `TrainingDiverged`."""
        images = self.meter.images
        values = self.meter.read()  # waits for the device, so that the time is whole
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        self.pace.measured(moment.level, images, seconds)
        counters = self.state.counters
        counters["seconds"] += seconds
        counters["tick"] += 1
        counters["next_tick"] = moment.nimg + self.schedule.tick(moment.nimg)
        faults = count_steps(self.state)
        if self._reals is not None:
            values["diversity"] = relative_diversity(self.state, moment, self._reals)
        if self.exam is not None:
            values["heldout_accuracy"] = self.exam.accuracy(moment)
        line = tick_values(self.state, moment, values, images, seconds)
        line["phase_seconds_left"], line["seconds_left"] = self.pace.left(moment.nimg)
        steps, self._iterations = self._iterations, 0
        reason = diagnosis(self.state, line, steps * (self.schedule.n_critic + 1), faults)
        if distributed.all_reduce_max(int(reason is not None), self.world):
            raise TrainingDiverged(reason or "another process found the run to be going wrong")
        if log is not None:
            with tolerate_write_errors(self.display, "the log"):
                log.tick(line)
        self.display.tick(line)
        return line

    def _save(self, moment: ScheduleState, log: RunLog | None, always: bool) -> None:
        """Snapshot and training state where due by ticks, or always: at the end of a phase and when asked."""
        if log is None:
            return
        tick = int(self.state.counters["tick"])
        # the state first: it is what must not be lost
        if always or tick % self.config.checkpoint_ticks == 0:
            with tolerate_write_errors(self.display, "the checkpoint"):
                self.state.save(self.run.state(moment.nimg))
        if always or tick % self.config.snapshot_ticks == 0:
            with tolerate_write_errors(self.display, "the snapshot"):
                log.image("samples", self.snapshots.write(moment), moment.nimg)
        self.run.keep(self.config.keep_checkpoints, self.config.keep_models)
        self._since = time.perf_counter()  # the pace is that of training alone

    def _start_again(self) -> None:
        """The state as the run began, for one that went wrong before it had saved anything."""
        fresh = TrainState(self.config, self.state.device, self.state.precision, self.world)
        if self.config.start_from is not None:
            load_pretrained(fresh, self.config.start_from)
        fresh.counters["next_tick"] = self.schedule.tick(0)
        self.state.take(fresh)


def label_column(store: Store, config: TrainConfig) -> tuple[int, dict[str, Any] | None]:
    """The data's label column that a conditional run uses: its number, and its name and classes (None: no labels)."""
    if config.labels is None:
        return 0, None
    names = [column.name for column in store.manifest.labels]
    if config.labels not in names:
        raise DataError(f"the data has no labels {config.labels!r}; it has: {', '.join(names) or 'none'}")
    column = store.manifest.labels[names.index(config.labels)]
    return names.index(config.labels), {"name": column.name, "classes": list(column.classes)}
