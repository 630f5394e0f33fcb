"""Statistics of a tick: averages of the step's loss terms, throughput, counts, memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pggan.config.schedule import ScheduleState
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import LAZY_STEPS, LAZY_TERM
from pggan.utils import distributed


class MetricAverager:
    """Sums the terms of the iterations since the last tick on the device, without synchronising before `read`.

    The sums are the state's, so that a checkpoint between two ticks holds them.
    """

    def __init__(self, state: TrainState) -> None:
        self.state = state

    def add(self, terms: dict[str, Tensor]) -> None:
        """Adds the terms of one iteration."""
        sums = self.state.tick_sums
        for name, value in terms.items():
            sums[name] = sums[name] + value if name in sums else value
        self.state.progress.tick_iterations += 1

    def read(self) -> dict[str, float]:
        """Returns the means over iterations and processes since the last call, and starts again at zero.

        Terms of lazy penalties are means over the steps that had them, beside the other terms of the same name.
        """
        sums, count = self.state.tick_sums, self.state.progress.tick_iterations
        self.state.tick_sums, self.state.progress.tick_iterations = {}, 0
        if not sums:
            return {}
        means = torch.stack([v.float() for v in sums.values()]) / count
        distributed.all_reduce_mean([means], self.state.world)
        values = dict(zip(sums, means.tolist()))
        steps = values.pop(LAZY_STEPS, 0.0)
        for name in [name for name in values if name.startswith(LAZY_TERM)]:
            term = name.removeprefix(LAZY_TERM)
            values[term] = values.get(term, 0.0) + values.pop(name) / steps
        return values


def count_steps(state: TrainState) -> None:
    """Adds the skipped and faulty steps of G and D since the last call to the progress."""
    for scaler in (state.g_scaler, state.d_scaler):
        skipped, faulty = scaler.read_counts()
        state.progress.skipped += skipped
        state.progress.faults += faulty
        state.progress.tick_faults += faulty


def tick_values(
    state: TrainState, scheduled: ScheduleState, values: dict[str, float], images: float, seconds: float
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
        **({} if scheduled.detail is None else {"detail": 2**scheduled.detail, "detail_alpha": scheduled.detail_alpha}),
        "batch": scheduled.batch,
        **state.schedule.changing(scheduled.nimg),
        **dict(zip(("g_lr", "d_lr"), state.learning_rates(scheduled))),
        **values,
        "img_per_second": images / max(seconds, 1e-9),
        "seconds": progress.seconds,
        "processor_seconds": progress.processor_seconds,
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
