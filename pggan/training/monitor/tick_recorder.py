"""Ticks: what a line of the log says of the iterations since the one before, and whether they diverged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pggan.config.schedule import ScheduleState
from pggan.config.train import level_of
from pggan.data.loading.loader import LoadedBatch
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.monitor.eta import EtaEstimator
from pggan.training.monitor.health import diagnosis, relative_diversity
from pggan.training.monitor.label_holdout import HeldOutLabels
from pggan.training.monitor.recovery import TrainingDiverged
from pggan.training.monitor.stats import MetricAverager, count_steps, tick_values
from pggan.utils import distributed


class TickRecorder:
    """Averages metrics, measures throughput and estimates the time left (ETA) from tick to tick."""

    def __init__(self, executor: StepExecutor, held_out: HeldOutLabels | None) -> None:
        self.executor, self.state, self.held_out = executor, executor.state, held_out
        self.schedule = self.state.schedule
        self.eta = EtaEstimator(self.state.config, self.schedule)
        self.reset()
        self.state.progress.next_tick = self.schedule.tick(0)
        self._reals: Tensor | None = None

    def reset(self) -> None:
        """Forgets the iterations since the last tick: the run rolls back."""
        self._averager, self._iterations = MetricAverager(self.state.world), 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves the time since the last tick out: throughput is that of training alone."""
        self._since = time.perf_counter()

    def learn_throughput(self, lines: list[dict[str, Any]]) -> None:
        """Takes the throughput of a resumed run from the lines of its log."""
        for line in lines:
            if (speed := line.get("img_per_second", 0)) > 0:
                self.eta.measured(level_of(int(line["resolution"])), speed, 1.0)

    def watch(self, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        """Passes batches on, and remembers the reals of the last one to compare the diversity of fakes with."""
        for loaded in batches:
            self._reals = torch.as_tensor(loaded.images)
            yield loaded

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Adds an iteration's terms."""
        self._averager.add(terms, images)
        self._iterations += 1

    def tick(self, scheduled: ScheduleState) -> dict[str, Any]:
        """Makes a line of the log, and counts the tick in the run's progress.

        Raises:
            TrainingDiverged: The run has to roll back.
        """
        state, progress = self.state, self.state.progress
        images = self._averager.images
        values = self._averager.read()  # waits for the device, so that the time is whole
        seconds = time.perf_counter() - self._since
        self.restart_clock()
        self.eta.measured(scheduled.level, images, seconds)
        progress.seconds += seconds
        progress.tick += 1
        progress.next_tick = scheduled.nimg + self.schedule.tick(scheduled.nimg)
        faults = count_steps(state)
        if (reals := self._reals) is not None:
            size = len(reals) // self.executor.num_micro_batches(scheduled.level, len(reals))
            values["diversity"] = relative_diversity(state, scheduled, reals, size)
        if self.held_out is not None:
            values["heldout_accuracy"] = self.held_out.accuracy(scheduled)
        line = tick_values(state, scheduled, values, images, seconds)
        line["phase_seconds_left"], line["seconds_left"] = self.eta.left(scheduled.nimg)
        steps, self._iterations = self._iterations * (self.schedule.n_critic + 1), 0
        reason = diagnosis(state, line, steps, faults)
        if distributed.all_reduce_max(int(reason is not None), state.world):
            raise TrainingDiverged(reason or "another process found the run to be going wrong")
        return line
