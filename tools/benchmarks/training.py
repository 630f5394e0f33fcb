"""Training steps without a loader, at the one resolution of a configuration, in any step mode."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from itertools import repeat
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring import rate, synchronize
from pggan.config.train import TrainConfig
from pggan.data.loading.loader import BatchRequest, LoadedBatch
from pggan.training.engine.batch_builder import BatchBuilder
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import train_step
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode, single_thread_levels
from pggan.utils.devices import pick_device, pick_precision, set_precision, tune_for_steps


class Trainer:
    """Iterations on one batch of noise, half faded in: one graph serves fade and stable phases.

    `notes` holds what the executor said, such as a mode that failed.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: str,
        mode: str = "eager",
        joined: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Prepares iterations.

        Args:
            config: Its first resolution is measured.
            device: Where.
            mode: The step mode.
            joined: Level up to which D judges reals and fakes in one batch; None: the device's.
            threads: Of a CPU; None: as a run has them.
        """
        self.device = pick_device(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self.precision = pick_precision(config.precision, self.device)
        set_precision(self.precision)
        tune_for_steps(self.device)
        self.state = TrainState(config, self.device, self.precision)
        if joined is not None:
            self.state.context = replace(self.state.context, joined=joined)
        self.notes: list[str] = []
        self.scheduled = self.state.schedule.at(0)._replace(alpha=0.5)
        single = single_thread_levels(config, self.device.type, 1) if threads is None else ()
        if threads is not None:
            torch.set_num_threads(threads)
        modes = {self.scheduled.level: StepMode(mode)}
        self.executor = StepExecutor(self.state, modes, self.notes.append, single_thread=single)
        self.threads = self.executor.num_threads(self.scheduled.level)
        count, side = self.scheduled.batch, self.scheduled.resolution
        images = np.random.default_rng(0).integers(0, 256, (count, config.channels, side, side), np.uint8)
        labels = np.zeros((count, 0), np.int32)
        self._batches = repeat(LoadedBatch(images, labels, BatchRequest(0, count, side)))
        self._builder = BatchBuilder(self.state, 0, None)

    @property
    def mode(self) -> str:
        """What computes the steps now."""
        return self.executor.modes.get(self.scheduled.level, StepMode.EAGER).value

    def step(self) -> int:
        """An iteration, begun; returns the images it shows D."""
        before = self.state.nimg
        train_step(self.state, self.executor, self._builder, self._batches, self.scheduled)
        return self.state.nimg - before

    def wait(self) -> None:
        """Until all iterations are done: a run does not wait for each."""
        synchronize(self.device)


def operations(trainer: Trainer, iterations: int = 3) -> dict[str, float]:
    """The share of a device's busy time that each kind of operation takes, largest first, by torch's profiler.

    On a GPU these are kernels; "(idle)" is the share of the time that passes without any.
    """
    gpu = trainer.device.type == "cuda"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its words about GPUs that are not there
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    trainer.wait()
    with profile(activities=activities, acc_events=True) as found:
        start = time.perf_counter()
        for _ in range(iterations):
            trainer.step()
        trainer.wait()
        passed = time.perf_counter() - start
    taken = {each.key: _own_time(each, gpu) for each in found.key_averages()}
    busy = sum(taken.values())
    largest = sorted(taken.items(), key=lambda pair: -pair[1])
    shares = {name: each / busy for name, each in largest if each > 0.002 * busy}
    return {**shares, "(idle)": max(0.0, 1 - busy / 1e6 / passed)} if gpu else shares


def _own_time(event: Any, gpu: bool) -> float:
    """Microseconds in the operation itself. On a GPU only what runs there counts, not what launched it."""
    if not gpu:
        return float(event.self_cpu_time_total)
    # spans that were named in the code hold kernels that count themselves
    named = getattr(event, "is_user_annotation", False)
    return float(event.self_device_time_total) if event.device_type != DeviceType.CPU and not named else 0.0


def training_rate(config: TrainConfig, device: str, seconds: float, rounds: int) -> float:
    """The median of `rounds` measurements, each of an iteration at least, after one that is not counted."""
    trainer = Trainer(config, device)
    trainer.step()
    return median([rate(trainer.step, seconds, trainer.wait).wall for _ in range(rounds)])
