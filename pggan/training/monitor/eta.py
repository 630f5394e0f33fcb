"""ETA: the time left of a phase and of the run, estimated from what the run measured so far (torch-free).

All estimates are functions of the measurements and of the plan: they read no clock.

Time is that of training (images times seconds per image of their level) and that of pauses: checkpoints, snapshots,
evaluations, and the start of each resolution, where memory is tried and code is compiled.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pggan.config.metrics import measurable
from pggan.config.schedule import Phase, Schedule
from pggan.config.train import TrainConfig, level_of
from pggan.networks.flops import d_passes, iteration_flops, layers

# Seconds of training after which a tick counts half in the rate of its level.
HALF_LIFE = 60.0
# Times the median at which a tick's rate counts at most: a machine that slept says nothing of the rest.
OUTLIER = 4.0
# FLOPs that take as long as moving one value of a layer's output to memory and back, as often as an iteration does:
# fitted to iterations from 4x4 to 256x256 on a CPU.
FLOPS_PER_VALUE = 3500.0
# An iteration takes a time for each layer, to launch its kernels, and one for its arithmetic. After the first level the
# share of the arithmetic is unknown. It may be one part in `FIRST_SHARE`, or less where the machine did fewer FLOPs a
# second than `FAST`, which one of two cores may reach with larger pictures.
FIRST_SHARE, FAST = 6.0, 400e9
# How much smaller or larger the share may be than what two tried levels say, and more of them.
SECOND_DOUBT, LATER_DOUBT = 2.0, 1.3
# Least factor of the range of a level that was not tried yet, and what each further level adds.
SPREAD, SPREAD_PER_LEVEL = 1.3, 0.12
# What a pause costs at the next level, as a multiple: between four times the pixels and the same work.
PAUSE_GROWTH = 2.0
# Kinds of pauses. A line of the log has the seconds of each kind since the line before, as `KIND_seconds`.
PAUSES = ("start", "checkpoint", "snapshot", "evaluation")


class Span(NamedTuple):
    """A duration in seconds: the likely one, and the range in which it should lie."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> Span:
        return Span(self.low * factor, self.likely * factor, self.high * factor)

    def plus(self, other: Span) -> Span:
        return Span(self.low + other.low, self.likely + other.likely, self.high + other.high)


class Left(NamedTuple):
    """The time left in seconds; None where nothing is measured."""

    phase: float | None
    run: Span | None
    is_range: bool  # some level of the run was not tried yet


class Measurement(NamedTuple):
    """That `images` took `seconds`."""

    images: float
    seconds: float

    @property
    def each(self) -> float:
        return self.seconds / max(self.images, 1e-9)


def robust_rate(ticks: Iterable[Measurement], current: Measurement | None = None) -> float | None:
    """Returns seconds per image over the newest ticks of a level; None without any.

    It is a mean in which ticks of some minutes ago hardly count, and none as more than `OUTLIER` times the median of
    the last five.

    Args:
        ticks: The level's ticks in their order.
        current: The iterations since the last tick.
    """
    newest = [*reversed(list(ticks))]
    if current is not None and current.images > 0:
        newest.insert(0, current)
    if not newest:
        return None
    limit = OUTLIER * statistics.median(tick.each for tick in newest[:5])
    seconds = images = age = 0.0
    for tick in newest:
        weight = 0.5 ** (age / HALF_LIFE)
        counted = min(tick.each, limit) * tick.images
        seconds += weight * counted
        images += weight * tick.images
        age += counted
    return seconds / images


class EtaEstimator:
    """Collects what a run measures, and estimates the time left."""

    def __init__(self, config: TrainConfig, schedule: Schedule) -> None:
        self._config, self._schedule = config, schedule
        self._batch = {phase.level: phase.batch for phase in schedule.phases}
        self._work = {at: batch * work(config, at, schedule.n_critic) for at, batch in self._batch.items()}
        self._layers = {at: sum(len(layers(network, at)) for network in config.networks()) for at in self._batch}
        self._ticks: dict[int, deque[Measurement]] = {}
        self._pauses: dict[tuple[str, int], deque[float]] = {}

    def measured(self, level: int, images: float, seconds: float) -> None:
        """Takes in that `images` at a level took `seconds` of training."""
        if images > 0:
            self._ticks.setdefault(level, deque(maxlen=1000)).append(Measurement(images, seconds))

    def paused(self, kind: str, level: int, seconds: float) -> None:
        """Takes in that a pause of a kind took `seconds` at a level."""
        self._pauses.setdefault((kind, level), deque(maxlen=3)).append(seconds)

    def learn(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Takes in the ticks of a run's log. Pauses belong to the level of the line before: they follow it."""
        seconds, level = 0.0, None
        for line in lines:
            before, level = level, level_of(int(line["resolution"]))
            elapsed, seconds = float(line.get("seconds") or 0.0) - seconds, float(line.get("seconds") or 0.0)
            if (rate := line.get("img_per_second")) and elapsed > 0:
                self.measured(level, rate * elapsed, elapsed)
            for kind in PAUSES:
                if (pause := line.get(f"{kind}_seconds")) is not None:
                    self.paused(kind, before if before is not None and kind != "start" else level, pause)

    def seconds_per_image(self, level: int, current: Measurement | None = None) -> Span | None:
        """Returns the training time of an image at a level: measured, or as a range predicted from the levels below.

        `current`: the iterations since the last tick, at this level. None while no level is measured.
        """
        rate = robust_rate(self._ticks.get(level, ()), current)
        if rate is not None:
            return Span(rate, rate, rate)
        tried = sorted(self._ticks)
        if not tried:
            return None
        highest = max((at for at in tried if at < level), default=tried[0])
        rate = robust_rate(self._ticks[highest])
        assert rate is not None
        if level < highest:
            return Span(rate / FIRST_SHARE, rate, rate)
        return self._predicted(level, highest, rate)

    def _predicted(self, level: int, highest: int, rate: float) -> Span:
        """Predicts the seconds per image of a level from the highest one that was tried."""
        more_layers = self._layers[level] / self._layers[highest]
        more_work = self._work[level] / self._work[highest]
        iteration = rate * self._batch[highest]

        def at(share: float) -> float:
            return iteration * ((1 - share) * more_layers + share * more_work) / self._batch[level]

        low, likely, high = map(at, self._arithmetic_share(highest, iteration))
        spread = SPREAD + SPREAD_PER_LEVEL * (level - highest - 1)
        # not less than the level below
        return Span(max(rate, min(low, likely / spread)), max(rate, likely), max(rate, likely, high) * spread)

    def _arithmetic_share(self, level: int, iteration: float) -> Span:
        """Returns which share of the seconds of an iteration at a tried level is arithmetic."""
        least = min(1 / FIRST_SHARE, self._work[level] / iteration / FAST)
        below = max((at for at in self._ticks if at < level), default=None)
        earlier = robust_rate(self._ticks[below]) if below is not None else None
        if below is None or earlier is None or self._work[below] >= self._work[level]:
            return Span(least, least**0.5, 1.0)
        layers_below = self._layers[below] / self._layers[level]
        work_below = self._work[below] / self._work[level]
        time_below = earlier * self._batch[below] / iteration
        share = min(max((layers_below - time_below) / (layers_below - work_below), least), 1.0)
        doubt = SECOND_DOUBT if len(self._ticks) == 2 else LATER_DOUBT
        return Span(share / doubt, share, min(1.0, doubt * share))

    def left(self, nimg: int, current: Measurement | None = None) -> Left:
        """Returns the time left after `nimg` images. `current`: the iterations since the last tick."""
        phases = [phase for phase in self._schedule.phases if phase.end > nimg]
        if not phases:
            return Left(0.0, Span(0.0, 0.0, 0.0), False)
        spans = []
        for phase in phases:
            here = current if phase is phases[0] else None
            if (rate := self.seconds_per_image(phase.level, here)) is None:
                return Left(None, None, True)
            begun = min(max(nimg - phase.start, 0), phase.images)
            spans.append(rate.times(phase.images - begun).plus(self._pauses_of(phase, begun, rate.likely)))
        untried = {phase.level for phase in phases[1:]} - set(self._ticks) - {phases[0].level}
        total = spans[0]
        for span in spans[1:]:
            total = total.plus(span)
        return Left(spans[0].likely, total, bool(untried))

    def _pauses_of(self, phase: Phase, begun: int, rate: float) -> Span:
        """Returns the time of the pauses that are left in a phase after `begun` of its images."""
        total = Span(0.0, 0.0, 0.0)
        for kind, count in self._pauses_left(phase, begun).items():
            if count:
                total = total.plus(self._pause(kind, phase.level, rate).times(count))
        return total

    def _pauses_left(self, phase: Phase, begun: int) -> dict[str, int]:
        """Counts the pauses left in a phase. They follow ticks, and the end of a phase brings one of each kind."""
        config = self._config
        tick = max(1, round(config.tick_kimg.at(phase.resolution) * 1000), phase.batch * self._schedule.n_critic)
        ticks = (phase.images - begun) // tick
        snapshots = ticks // config.snapshot_ticks + 1
        can_measure = config.eval_every and measurable(config.eval_metrics, phase.resolution)
        starts = not begun and not self._ticks.get(phase.level) and (phase.fading or not phase.index)
        return {
            "start": int(starts),
            "checkpoint": ticks // config.checkpoint_ticks + 1,
            "snapshot": snapshots,
            "evaluation": ticks // (config.snapshot_ticks * config.eval_every) + 1 if can_measure else 0,
        }

    def _pause(self, kind: str, level: int, rate: float) -> Span:
        """Returns the duration of a pause: as measured at the level, or from the nearest level where it was measured.

        Where none was, an evaluation is taken to cost a few times the generation of its images.
        """
        at = min((at for name, at in self._pauses if name == kind), key=lambda at: abs(at - level), default=None)
        if at is None:
            guess = self._config.eval_samples * rate * 0.25 if kind == "evaluation" else 0.0
            return Span(0.0, guess, 4 * guess)
        seconds = statistics.median(self._pauses[kind, at])
        if kind == "start" or at == level:
            return Span(seconds, seconds, seconds)
        steps = level - at
        growths = sorted((1.0, 4.0**steps))
        return Span(seconds * growths[0], seconds * PAUSE_GROWTH**steps, seconds * growths[1])


def work(config: TrainConfig, level: int, n_critic: int) -> float:
    """Returns what an image costs at a level, in FLOPs: arithmetic, and the memory traffic of the layers' outputs."""
    g, d = config.networks()
    values = sum(layer.activations for network in (g, d) for layer in layers(network, level))
    return iteration_flops(g, d, level, n_critic, d_passes(config)) + FLOPS_PER_VALUE * values
