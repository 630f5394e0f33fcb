"""Time left: measured pace where there is one, and elsewhere the same share of the arithmetic (torch-free)."""

from __future__ import annotations

from pggan.config.schedule import Schedule
from pggan.config.train import TrainConfig
from pggan.networks.flops import iteration_flops

# Weight of the newest measurement against those before it.
NEWEST = 0.3


class EtaEstimator:
    """Seconds per image at each level.

    A level not trained yet lies on the line of seconds over arithmetic through the two highest known ones; while only
    one is known nothing is said: at 4x4 a step is all overhead, and tells little of what arithmetic costs.
    """

    def __init__(self, config: TrainConfig, schedule: Schedule) -> None:
        self._schedule = schedule
        g, d = config.networks()
        self._flops = {p.level: iteration_flops(g, d, p.level, schedule.n_critic) for p in schedule.phases}
        self._seconds: dict[int, float] = {}

    def measured(self, level: int, images: float, seconds: float) -> None:
        each = seconds / max(images, 1e-9)
        before = self._seconds.get(level, each)
        self._seconds[level] = before + (each - before) * NEWEST

    def at(self, level: int) -> float | None:
        """Seconds per image at a level, None while too little is measured."""
        if level in self._seconds:
            return self._seconds[level]
        if len(self._seconds) < 2:
            return None
        # the highest levels measured say most about the higher ones to come: what they cost beside arithmetic stays
        *_, below, known = sorted(self._seconds)
        seconds, flops = self._seconds[known], self._flops[known]
        slope = (seconds - self._seconds[below]) / (flops - self._flops[below])
        return max(seconds + max(slope, 0.0) * (self._flops[level] - flops), 1e-9)

    def left(self, nimg: int) -> tuple[float | None, float | None]:
        """Seconds to the end of the phase and of the run, None where too little is measured to say."""
        left = [
            None if (each := self.at(phase.level)) is None else (phase.end - max(phase.start, nimg)) * each
            for phase in self._schedule.phases
            if phase.end > nimg
        ]
        known = [seconds for seconds in left if seconds is not None]
        return (left[0] if left else 0.0), (sum(known) if len(known) == len(left) else None)
