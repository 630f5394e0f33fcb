"""Early stopping: a run ends where a metric has stopped to get better (--stop-when)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pggan.config.metrics import METRICS, StopRule
from pggan.config.train import TrainConfig
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_ticks
from pggan.utils import distributed
from pggan.utils.distributed import World


def evaluations_without_gain(ticks: Iterable[dict[str, Any]], rule: StopRule, resolution: int) -> int:
    """Returns how many evaluations came after the best one.

    Args:
        ticks: Of the log, in order.
        rule: Names the metric.
        resolution: The run's last one. Evaluations before it, and those of a fade or of reals that are blurred, do
            not compare with it, nor do those of another number of generated pictures than the newest.
    """
    metric, best, count, samples = METRICS[rule.metric], None, 0, None
    for tick in ticks:
        place = tick["resolution"], tick.get("detail", resolution), tick["alpha"], tick.get("detail_alpha", 1)
        if place != (resolution, resolution, 1, 1) or metric.figure not in tick:
            continue
        score = tick[metric.figure] if metric.better == "lower" else -tick[metric.figure]
        count += 1
        if best is None or score < best or tick.get("eval_samples") != samples:
            best, count, samples = score, 0, tick.get("eval_samples")
    return count


class EarlyStopping:
    """Whether a run has had enough. The log decides, so that a run that resumes decides alike."""

    def __init__(self, config: TrainConfig, run: RunDirectory, world: World) -> None:
        self.rule = StopRule.parse(config.stop_when)
        self.resolution, self.run, self.world = config.max_res, run, world
        self.reason = ""  # why the run ends; empty: it goes on

    def look(self) -> bool:
        """Looks at the log after an evaluation; every process calls this. Returns whether the run ends."""
        if self.rule is None:
            return False
        count = 0
        if self.world.is_main_process:
            count = evaluations_without_gain(read_ticks(self.run.log), self.rule, self.resolution)
        count = distributed.all_reduce_max(count, self.world)
        if count >= self.rule.patience:
            self.reason = f"no better {METRICS[self.rule.metric].figure} in {count} evaluations (--stop-when)"
        return bool(self.reason)
