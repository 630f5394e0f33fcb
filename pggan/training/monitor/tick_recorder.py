"""Ticks: what a line of the log says of the iterations since the one before, and whether they diverged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pggan.config.schedule import ScheduleState
from pggan.data.loading.loader import LoadedBatch
from pggan.training.engine.loss_functions import lazy_objectives
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.monitor.eta import EtaEstimator, Left, Measurement
from pggan.training.monitor.health import diagnosis, relative_diversity
from pggan.training.monitor.label_holdout import HeldOutLabels
from pggan.training.monitor.recovery import TrainingDiverged
from pggan.training.monitor.stats import MetricAverager, count_steps, tick_values
from pggan.utils import distributed


class TickRecorder:
    """Averages metrics, measures throughput and estimates the time left (ETA) from tick to tick.

    When a line is due is a function of the images seen. What is measured since the last line is in the run's progress,
    so that a run which stops between two lines and resumes writes the same ones.
    """

    def __init__(
        self, executor: StepExecutor, held_out: HeldOutLabels | None, drawn_labels: Callable[[int], Tensor]
    ) -> None:
        """Starts to measure. `drawn_labels(count)` returns label vectors as frequent as those that G trains on."""
        self.executor, self.state, self.held_out = executor, executor.state, held_out
        self._drawn_labels = drawn_labels
        self.schedule = self.state.schedule
        self.eta = EtaEstimator(self.state.config, self.schedule)
        self.state.progress.next_tick = self.schedule.tick(0)
        self._averager = MetricAverager(self.state)
        self._reals: Tensor | None = None
        self._pauses: dict[str, float] = {}  # seconds by kind since the last line
        self._start = Measurement(0, 0.0)  # the first iteration of the resolution
        self.reset()

    def reset(self) -> None:
        """Starts the clock of the training: what went before counts as nothing."""
        self._since, self._processor_since = time.perf_counter(), time.process_time()

    @contextmanager
    def paused(self, kind: str, level: int) -> Iterator[None]:
        """Leaves the block's time out of the throughput; the next line has it as a pause of this kind (`PAUSES`)."""
        begin = time.perf_counter()
        self.state.progress.tick_seconds += begin - self._since
        self.state.progress.processor_seconds += time.process_time() - self._processor_since
        try:
            yield
        finally:
            self.reset()
            seconds = self._since - begin
            self._pauses[kind] = self._pauses.get(kind, 0.0) + seconds
            self.eta.paused(kind, level, seconds)

    def watch(self, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        """Passes batches on, and remembers the reals of the last one to compare the diversity of fakes with."""
        for loaded in batches:
            self._reals = torch.as_tensor(loaded.images)
            yield loaded

    def add(self, terms: dict[str, Tensor], images: int, is_first: bool) -> None:
        """Adds an iteration's terms. `is_first`: it was the resolution's first one, whose time was that of a pause."""
        self._averager.add(terms)
        if is_first:
            self._start = Measurement(images, self._pauses.get("start", 0.0))
        else:
            self.state.progress.tick_images += images

    def left(self, nimg: int) -> tuple[float | None, Left]:
        """Returns the images a second since the last line, None before any, and the time left."""
        progress = self.state.progress
        current = Measurement(progress.tick_images, progress.tick_seconds + time.perf_counter() - self._since)
        return (1 / current.each if current.images else None), self.eta.left(nimg, current)

    def count(self) -> None:
        """Counts the steps that were skipped, before a checkpoint is written between two lines."""
        count_steps(self.state)

    def tick(self, scheduled: ScheduleState) -> dict[str, Any]:
        """Makes a line of the log, and counts the tick in the run's progress.

        Raises:
            TrainingDiverged: The run has to roll back.
        """
        state, progress = self.state, self.state.progress
        d_steps = progress.tick_iterations * self.schedule.n_critic
        lazy = -(-d_steps // state.config.penalty_every) if lazy_objectives(state.context, scheduled.level) else 0
        steps = d_steps + lazy + progress.tick_iterations
        values = self._averager.read()  # waits for the device, so that the time is whole
        seconds = progress.tick_seconds + time.perf_counter() - self._since
        progress.processor_seconds += time.process_time() - self._processor_since
        self.reset()
        timed = Measurement(progress.tick_images, seconds) if progress.tick_images else self._start
        self.eta.measured(scheduled.level, *timed)
        count_steps(state)
        faults, progress.tick_faults = progress.tick_faults, 0
        progress.tick_images, progress.tick_seconds = 0, 0.0
        progress.seconds += seconds
        progress.tick += 1
        progress.next_tick = scheduled.nimg + self.schedule.tick(scheduled.nimg)
        if (reals := self._reals) is not None:
            size = len(reals) // self.executor.num_micro_batches(scheduled.level, len(reals))
            values["diversity"] = relative_diversity(state, scheduled, reals, self._drawn_labels(len(reals)), size)
        if self.held_out is not None:
            values["heldout_accuracy"] = self.held_out.accuracy(scheduled)
        line = tick_values(state, scheduled, values, *timed)
        line |= {f"{kind}_seconds": pause for kind, pause in self._pauses.items()}
        self._pauses = {}
        line |= time_left(self.eta.left(scheduled.nimg))
        reason = diagnosis(state, line, steps, faults)
        if distributed.all_reduce_max(int(reason is not None), state.world):
            raise TrainingDiverged(reason or "another process found the run to be going wrong")
        return line


def time_left(left: Left) -> dict[str, float | None]:
    """Returns the time left as values of a line; the ends of its range where the run has levels to try."""
    values = {"phase_seconds_left": left.phase, "seconds_left": left.run.likely if left.run else None}
    if left.run is not None and left.is_range:
        values |= {"seconds_left_low": left.run.low, "seconds_left_high": left.run.high}
    return values
