"""ETA: the time left of a phase and of the run, from measured throughput and, for later levels, FLOPs (torch-free)."""

from __future__ import annotations

from pggan.config.schedule import Schedule
from pggan.config.train import TrainConfig
from pggan.networks.flops import iteration_flops

# Weight of the newest measurement in the exponential moving average of a level's speed.
NEWEST = 0.3


class EtaEstimator:
    """Seconds per image at each level.

    The estimate of a level that has not trained yet is linear in FLOPs, through the two highest levels measured. With
    one level measured there is none: at 4x4 a step is all overhead, which says little of what arithmetic costs.
    """

    def __init__(self, config: TrainConfig, schedule: Schedule) -> None:
        self._schedule = schedule
        g, d = config.networks()
        self._flops = {p.level: iteration_flops(g, d, p.level, schedule.n_critic) for p in schedule.phases}
        self._seconds: dict[int, float] = {}  # per image, by level

    def measured(self, level: int, images: float, seconds: float) -> None:
        """Takes in that `images` at a level took `seconds`."""
        newest = seconds / max(images, 1e-9)
        average = self._seconds.get(level, newest)
        self._seconds[level] = average + (newest - average) * NEWEST

    def at(self, level: int) -> float | None:
        """Seconds per image at a level; None while too little is measured."""
        if level in self._seconds:
            return self._seconds[level]
        if len(self._seconds) < 2:
            return None
        # the highest levels measured predict the next ones best: their overhead beside arithmetic stays
        *_, below, highest = sorted(self._seconds)
        seconds, flops = self._seconds[highest], self._flops[highest]
        slope = (seconds - self._seconds[below]) / (flops - self._flops[below])
        return max(seconds + max(slope, 0.0) * (self._flops[level] - flops), 1e-9)

    def left(self, nimg: int) -> tuple[float | None, float | None]:
        """Seconds to the end of the phase and to the end of the run; None where too little is measured."""
        phases = [phase for phase in self._schedule.phases if phase.end > nimg]
        if not phases:
            return 0.0, 0.0
        speeds = [self.at(phase.level) for phase in phases]
        seconds = [
            None if speed is None else (phase.end - max(phase.start, nimg)) * speed
            for phase, speed in zip(phases, speeds)
        ]
        known = [value for value in seconds if value is not None]
        return seconds[0], (sum(known) if len(known) == len(seconds) else None)
