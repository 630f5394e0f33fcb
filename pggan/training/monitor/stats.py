"""Statistics of a tick: averages of the step's loss terms, throughput, counts, memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pggan.config.schedule import ScheduleState
from pggan.training.engine.state import TrainState
from pggan.utils import distributed
from pggan.utils.distributed import World


class MetricAverager:
    """Sums the terms of the iterations since the last tick on the device, without synchronising before `read`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self.images = 0

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Adds the terms of one iteration over `images`."""
        for name, value in terms.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1
        self.images += images

    def read(self) -> dict[str, float]:
        """Returns the means over iterations and processes since the last call, and starts again at zero."""
        if not self._sums:
            return {}
        means = torch.stack([v.float() for v in self._sums.values()]) / self._count
        distributed.all_reduce_mean([means], self.world)
        averages = dict(zip(self._sums, means.tolist()))
        self._sums, self._count, self.images = {}, 0, 0
        return averages


def count_steps(state: TrainState) -> int:
    """Adds the skipped and faulty steps of G and D to the progress; returns the faulty ones since the last call."""
    faults = 0
    for scaler in (state.g_scaler, state.d_scaler):
        skipped, faulty = scaler.read_counts()
        state.progress.skipped += skipped
        faults += faulty
    state.progress.faults += faults
    return faults


def tick_values(
    state: TrainState, scheduled: ScheduleState, values: dict[str, float], images: int, seconds: float
) -> dict[str, Any]:
    """Makes a line of the log, all but the time left.

    Args:
        state: has the progress.
        scheduled: where in the schedule the run is.
        values: averages of the tick.
        images: shown to D in the tick.
        seconds: that the tick took.

    Returns:
        Values by name; None in place of what is not finite, as while half precision seeks its loss scale.
    """
    progress = state.progress
    line: dict[str, Any] = {
        "tick": progress.tick,
        "nimg": scheduled.nimg,
        "kimg": scheduled.nimg / 1000,
        "iteration": progress.iteration,
        "phase": scheduled.phase,
        "resolution": scheduled.resolution,
        "alpha": scheduled.alpha,
        **({} if scheduled.detail is None else {"detail": 2**scheduled.detail}),
        "batch": scheduled.batch,
        "g_lr": scheduled.g_lr * progress.lr_factor,
        "d_lr": scheduled.d_lr * progress.lr_factor,
        **values,
        "img_per_second": images / max(seconds, 1e-9),
        "seconds": progress.seconds,
        "skipped_steps": progress.skipped,
        "faulty_steps": progress.faults,
        "rollbacks": progress.rollbacks,
        **_memory(state.device),
    }
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}


def _memory(device: torch.device) -> dict[str, float]:
    """The peak of GPU memory since the last call, in MiB."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_reserved(device)  # reserved, not allocated: CUDA graphs' memory counts
    torch.cuda.reset_peak_memory_stats(device)
    return {"memory_mb": peak / 2**20}
