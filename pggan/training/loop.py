"""The training loop: iterations with ticks, snapshots, checkpoints and evaluations, from a run's start or a resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pggan.config.schedule import ScheduleState
from pggan.config.train import TrainConfig, to_json
from pggan.data.loading.cache_policy import CachePolicy
from pggan.data.loading.loader import BatchRequest, LoadedBatch, Loader, default_workers
from pggan.data.store.store import Store
from pggan.training.engine.batch_builder import BatchBuilder
from pggan.training.engine.compile_worker import start_compile_worker
from pggan.training.engine.environment import RunEnvironment
from pggan.training.engine.memory_estimate import LIBRARIES, check_batch_divides, most_bytes
from pggan.training.engine.memory_trial import fit_micro_batch
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import train_step
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode
from pggan.training.monitor.disk_full import tolerate_write_errors
from pggan.training.monitor.display import Display
from pggan.training.monitor.early_stopping import EarlyStopping
from pggan.training.monitor.evaluation import Evaluation, pending
from pggan.training.monitor.label_holdout import hold_out_labels
from pggan.training.monitor.recovery import TrainingDiverged, restore, roll_back
from pggan.training.monitor.tick_recorder import TickRecorder
from pggan.training.run.call_options import NOTHING, CallOptions
from pggan.training.run.directory import RunDirectory, images_of
from pggan.training.run.log import RunLog, opened_log
from pggan.training.run.log_reader import read_log
from pggan.training.run.run_labels import RunLabels
from pggan.training.run.signals import Interrupted, Signals
from pggan.training.run.snapshot_command import SnapshotCommand
from pggan.training.run.snapshots import Snapshots
from pggan.training.run.trackers import Tracker
from pggan.training.run.warm_start import load_start
from pggan.utils.devices import (
    StepThrottle,
    limit_memory,
    out_of_memory,
    pick_device,
    set_precision,
    tune_for_steps,
)
from pggan.utils.distributed import SINGLE_PROCESS, World, all_reduce_max
from pggan.utils.errors import TrainingError
from pggan.utils.formatting import join_credits


@dataclass
class RunResult:
    """How a run ended."""

    run: RunDirectory
    nimg: int  # images seen
    signal: int  # number of the signal that stopped the run; 0: it is complete
    seconds: float  # of training
    last: dict[str, Any] = field(default_factory=dict)  # last line of the log
    stopped: str = ""  # why it ended before its schedule did; empty: it did not


class Trainer:
    """One run in this process: its training state, what feeds it and what it leaves in its directory."""

    def __init__(
        self,
        config: TrainConfig,
        environment: RunEnvironment,
        run: RunDirectory,
        display: Display,
        world: World = SINGLE_PROCESS,
        call: CallOptions = NOTHING,
    ) -> None:
        """Builds everything that a run needs, at its beginning.

        Args:
            config: The run's configuration.
            environment: Device, precision, step modes and memory plan.
            run: The directory.
            display: Shows ticks and messages.
            world: This process's place among those of the run.
            call: What this call does besides training.
        """
        self.call, self.stopping = call, EarlyStopping(config, run, world)
        self._command: SnapshotCommand | None = None
        self.config, self.run, self.display, self.world = config, run, display, world
        device = pick_device(environment.device)
        set_precision(environment.precision)
        tune_for_steps(device)
        if config.budget is not None:
            limit_memory(device, max(0.0, config.budget - LIBRARIES["cuda"]))  # on a GPU; its context takes the rest
        self.store = Store(str(config.data))
        self.state = TrainState(config, device, environment.precision, world)
        self.schedule = self.state.schedule
        check_batch_divides(config, world.size)
        records = config.mode == "auto" and device.type == "cpu" and world.is_main_process
        # no method of the loop: in a cycle with it, networks and store would outlive the run
        fell_back = partial(_record_modes, run, display) if records else (lambda modes: None)
        self.executor = StepExecutor(
            self.state, environment.modes, display.note, fell_back=fell_back, single_thread=environment.single_thread
        )
        self.executor.apply_memory_plan(environment.memory)
        labels = RunLabels.of(self.store, config)
        self.builder = BatchBuilder(self.state, labels.at, labels.known, labels.columns)
        self.held_out = hold_out_labels(self.store, labels.at, self.state)
        self.ticks = TickRecorder(self.executor, self.held_out, self.builder.drawn_labels)
        display.watch(self.ticks.left)
        info = _about_data(self.store, environment)
        # where D alone sees labels, images are generated without
        shown = labels.about if self.state.generator.config.label_size else None
        self.snapshots = Snapshots(run, self.state, shown, info)
        self.evaluation = Evaluation(self.state, self.store, self.snapshots, display)
        self.throttle = StepThrottle(device)
        self._resolution = 0  # of the last batch

    def resume(self) -> None:
        """Loads the newest checkpoint that can be read; the run starts from the beginning where none was written."""
        checkpoint = restore(self.state, self.run, self.display)
        if checkpoint is None:
            load_start(self.state)
            self.display.note("the run had saved nothing yet: starting from the beginning")
            return
        done = "complete already" if self.state.nimg >= self.schedule.total else f"going on from {checkpoint.name}"
        self.display.note(f"{done} ({self.state.nimg / 1000:g} kimg)")
        self.ticks.eta.learn(read_log(self.run.log))

    def requests(self) -> Iterator[BatchRequest]:
        """Yields what the loader has to prefetch, to the end of the run: a pure function of the images seen."""
        nimg = self.state.nimg
        while nimg < self.schedule.total:
            scheduled = self.schedule.at(nimg)
            for _ in range(self.schedule.n_critic):
                yield BatchRequest(nimg, scheduled.batch, scheduled.resolution)
                nimg += scheduled.batch

    def train(self) -> RunResult:
        """Trains to the end of the schedule, or until a signal asks to stop; either way the run is saved."""
        line: dict[str, Any] = {}
        opened = opened_log(self.run, self.state.nimg, self.world, self.display.note, self._trackers())
        with Signals() as signals, opened as log, self._loader() as loader, ExitStack() as stack:
            if self.call.on_snapshot is not None and log is not None:
                self._command = SnapshotCommand(self.call.on_snapshot, self.run, self.display.note)
                stack.callback(self._keep)  # what the command held
                stack.callback(self._command.close, signals)
            if (worker := start_compile_worker(self.executor)) is not None:
                stack.callback(worker.close)
            self.ticks.reset()
            self._catch_up(self.schedule.at(self.state.nimg), signals, log)  # what the last stop left pending
            if self.stopping.look():
                self.display.note(self.stopping.reason)
            while self._goes_on(signals):
                batches = loader.stream(self.requests())
                try:
                    line = self._train_until_interrupted(batches, signals, log)
                except TrainingDiverged as problem:
                    roll_back(self.state, self.run, self.config, problem.reason, log, self.display, self._start_again)
                    self.ticks.reset()
                    self._catch_up(self.schedule.at(self.state.nimg), signals, log)
                except RuntimeError as error:
                    raise self._with_advice(error) from None
                finally:
                    batches.close()
        seconds = self.state.progress.seconds
        return RunResult(self.run, self.state.nimg, signals.stop, seconds, line, self.stopping.reason)

    def _goes_on(self, signals: Signals) -> bool:
        return self.state.nimg < self.schedule.total and not signals.stop and not self.stopping.reason

    def _trackers(self) -> list[Tracker]:
        """Returns the tracker that this call names, in the main process."""
        if self.call.track is None or not self.world.is_main_process:
            return []
        return [Tracker(self.call.track, self.run, to_json(self.config), self.display.note)]

    def _loader(self) -> Loader:
        config = self.config
        device, note = str(self.state.device), self.display.note
        caching = CachePolicy(config.cache, config.cache_mb << 20, device, note, self._needed_bytes)
        rank, world = self.world.rank, self.world.size
        labels = self.held_out.labels if self.held_out is not None else None
        workers = default_workers(self.state.device.type) if config.workers is None else config.workers
        return Loader(self.store, config.seed, config.mirror, workers, caching, rank, world, config.held_out, labels)

    def _needed_bytes(self, side: int) -> float:
        """Returns what training may take of a GPU at a resolution, which a cache there has to leave."""
        config, own = self.config, max(1, int(self.config.batch.at(side)) // self.world.size)
        at_once = own if config.micro_batch is None else min(own, int(config.micro_batch.at(side)))
        return most_bytes(config, side, self.state.precision, at_once)

    def _train_until_interrupted(
        self, batches: Iterator[LoadedBatch], signals: Signals, log: RunLog | None
    ) -> dict[str, Any]:
        """Trains to the end, or to a signal; returns the last line. Raises `TrainingDiverged` to roll back."""
        line: dict[str, Any] = {}
        while self._goes_on(signals):
            trained = self.schedule.at(self.state.nimg)
            try:
                self._iterate(batches, trained, signals)
            except Interrupted:  # while the compiler was at work
                self._catch_up(trained, signals, log)
                continue
            signals.agree(self.world)
            reached, ended = self._reached(trained)
            self.display.show(reached)
            tick_due = ended or reached.nimg >= self.state.progress.next_tick
            if tick_due:
                line = self._tick(reached, log)
                self._plan(reached, ended)
            if tick_due or signals.stop or signals.save:
                checkpoint_due = tick_due and (ended or self.state.progress.tick % self.config.checkpoint_ticks == 0)
                self._save(reached, log, checkpoint_due, bool(signals.stop) or signals.save)
                signals.save = False
                self._catch_up(reached, signals, log)
        return line

    def _iterate(self, batches: Iterator[LoadedBatch], scheduled: ScheduleState, signals: Signals) -> None:
        before, is_first = self.state.nimg, scheduled.resolution != self._resolution
        with self.ticks.paused("start", scheduled.level) if is_first else nullcontext():
            if is_first:
                fit_micro_batch(self.executor, scheduled, len(self.store))
                own = scheduled.batch // self.world.size
                self.executor.prepare(scheduled.level, own, partial(self._all_ready, signals))
            terms = train_step(self.state, self.executor, self.builder, self._watched(batches), scheduled)
            self.throttle.step()
        self.ticks.add(terms, self.state.nimg - before, is_first)

    def _all_ready(self, signals: Signals, ready: bool) -> bool:
        """Returns whether the compiler has ended in all processes. Raises `Interrupted` where a signal asks to stop."""
        signals.agree(self.world)
        if signals.stop:
            raise Interrupted
        return all_reduce_max(not ready, self.world) == 0

    def _watched(self, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        """Passes batches on; those of a new resolution are shown beside the samples."""
        for loaded in self.ticks.watch(batches):
            if loaded.request.resolution != self._resolution:
                self._resolution = loaded.request.resolution
                if self.world.is_main_process:
                    self.snapshots.reals(loaded.numpy_images())
            yield loaded

    def _reached(self, trained: ScheduleState) -> tuple[ScheduleState, bool]:
        """Returns where the run is now, and whether a phase or the run ends there: then that phase, faded in."""
        now = self.schedule.at(self.state.nimg)
        if now.phase != trained.phase:
            return trained._replace(nimg=now.nimg, alpha=1.0, detail_alpha=1.0), True
        return now, now.nimg >= self.schedule.total

    def _tick(self, scheduled: ScheduleState, log: RunLog | None) -> dict[str, Any]:
        line = self.ticks.tick(scheduled)
        if log is not None:
            with tolerate_write_errors(self.display, "the log"):
                log.tick(line)
        self.display.tick(line)
        return line

    def _plan(self, scheduled: ScheduleState, ended: bool) -> None:
        """Notes which snapshot and evaluation are due at a tick; the checkpoint has them until they are made."""
        progress = self.state.progress
        is_due = ended or progress.tick % self.config.snapshot_ticks == 0
        progress.snapshot = scheduled.level if is_due else 0
        self.evaluation.plan(scheduled, ended)

    def _catch_up(self, scheduled: ScheduleState, signals: Signals, log: RunLog | None) -> None:
        """Makes the pending snapshot and evaluation. A request to stop leaves them pending and saves the run."""
        progress, measuring = self.state.progress, self.state.progress.evaluate
        with suppress(Interrupted):
            if progress.snapshot and not signals.stop:
                self._snapshot(pending(progress.snapshot, scheduled), signals, log)
            if progress.evaluate and not signals.stop:
                moment = pending(progress.evaluate, scheduled)
                with self.ticks.paused("evaluation", moment.level):
                    self.evaluation.run(moment, signals, log, lambda: self.state.save(self.run.state(moment.nimg)))
        signals.agree(self.world)
        if measuring and not progress.evaluate and self.stopping.look():
            self.display.note(self.stopping.reason)
            if log is not None:
                with tolerate_write_errors(self.display, "the log"):
                    log.event({"event": "enough", "at_nimg": scheduled.nimg, "reason": self.stopping.reason})
        if (signals.stop or self.stopping.reason) and not any(
            images_of(path) == scheduled.nimg for path in self.run.states()
        ):
            self._save(scheduled, log, False, True)

    def _snapshot(self, scheduled: ScheduleState, signals: Signals, log: RunLog | None) -> None:
        """Makes the pending snapshot, unless an earlier process of the run had made it."""
        if log is not None and not self.snapshots.exist(scheduled):  # the main process alone writes
            with self.ticks.paused("snapshot", scheduled.level), tolerate_write_errors(self.display, "the snapshot"):
                with signals.interrupting(self.world):
                    grid = self.snapshots.grid(scheduled)
                self.snapshots.write(scheduled, grid)
                log.image("samples", grid, scheduled.nimg)
                if self._command is not None:
                    self._command.start(self.run.model(scheduled.nimg), scheduled.nimg)
            self._keep()
        self.state.progress.snapshot = 0

    def _save(self, scheduled: ScheduleState, log: RunLog | None, due: bool, asked: bool) -> None:
        """Writes a checkpoint that is due by images, or that a signal asked for. That moves nothing that is due."""
        if not (due or asked) or log is None:
            return
        self.ticks.count()
        path = self.run.state(scheduled.nimg) if due else self.run.interim_state(scheduled.nimg)
        with self.ticks.paused("checkpoint", scheduled.level), tolerate_write_errors(self.display, "the checkpoint"):
            self.state.save(path)
        self._keep()

    def _keep(self) -> None:
        """Removes older checkpoints and models, but for those that a command is to see yet (--on-snapshot)."""
        held = self._command.models if self._command is not None else []
        self.run.keep(self.config.keep_checkpoints, self.config.keep_models, self.state.nimg, held)

    def _start_again(self) -> None:
        """Resets the state to the beginning, for a run that diverged before it had saved anything."""
        fresh = TrainState(self.config, self.state.device, self.state.precision, self.world)
        load_start(fresh)
        fresh.progress.next_tick = self.schedule.tick(0)
        self.state.take(fresh)

    def _with_advice(self, error: RuntimeError) -> Exception:
        """Returns the error itself, or what helps against it where memory ran out."""
        if not out_of_memory(error):
            return error
        scheduled = self.schedule.at(self.state.nimg)
        side, saved = scheduled.resolution, self.run.states()
        smaller = f"--batch {side}:{max(1, scheduled.batch // 2)}"
        advice = f"start again with a smaller batch ({smaller}) or --fmap-base, and another --out"
        last = f"; the run is saved up to {saved[-1].name}" if saved else ""
        return TrainingError(f"out of memory at {side}x{side} with batch {scheduled.batch}: {advice}{last}")


def _about_data(store: Store, environment: RunEnvironment) -> dict[str, Any]:
    """What models and pictures say of the data, and of those of the model that the run started from."""
    credit = join_credits([store.manifest.attribution, environment.start_attribution])
    return {"data": store.manifest.source, "attribution": credit}


def _record_modes(run: RunDirectory, display: Display, modes: Mapping[int, StepMode]) -> None:
    """Has a run on a CPU resume in the mode that took over from one that failed: to the same bits."""
    with tolerate_write_errors(display, "the step mode"):
        run.record_modes({str(2**level): mode.value for level, mode in modes.items()})
