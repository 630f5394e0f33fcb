"""Figures of the running average while a run goes on: when they are due, how they are made, the best model kept.

Nothing here decides a number of the training: pictures are those of seeds, metrics draw from generators of their own.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pggan.config.metrics import METRICS
from pggan.config.schedule import ScheduleState
from pggan.data.store.store import Store
from pggan.generation.model import Model
from pggan.metrics.embeddings import embeddings_for
from pggan.metrics.evaluate import evaluate_model
from pggan.networks.model_file import save_model
from pggan.training.monitor.recovery import kept
from pggan.utils.devices import free_cached, out_of_memory
from pggan.utils.errors import OutOfMemoryError

if TYPE_CHECKING:
    from pggan.training.engine.state import TrainState
    from pggan.training.loop import Display
    from pggan.training.run.log import RunLog
    from pggan.training.run.signals import Signals
    from pggan.training.run.snapshots import Snapshots


class _Stopped(Exception):  # noqa: N818 (a request more than an error)
    """A signal asks the run to stop."""


class Evaluation:
    """The evaluations of a run. Every process calls it, and makes its share of the pictures.

    The state's counters say what is owed ("evaluate": the level, 0: nothing) and what is best so far, so that a run
    that was cut off in the middle of an evaluation makes it again, and the record is that of the checkpoint.
    Raises, before training starts, what opening the metrics' networks raises.
    """

    def __init__(self, state: TrainState, store: Store, snapshots: Snapshots, display: Display) -> None:
        self.state, self.store, self.snapshots, self.display = state, store, snapshots, display
        self.config = config = state.config
        names = config.eval_metrics if config.eval_every else ()
        weights = Path(config.inception_weights) if config.inception_weights else None
        self._embeddings = embeddings_for(names, weights, config.embedding, state.device)
        self._best = METRICS[config.best_metric or config.eval_metrics[0]]

    def names(self, resolution: int) -> list[str]:
        """The run's metrics that can look at pictures of this size."""
        return [name for name in self.config.eval_metrics if METRICS[name].side <= resolution]

    def plan(self, moment: ScheduleState, ended: bool) -> None:
        """Notes that an evaluation is owed: at the end of a phase, and at every `eval_every`-th snapshot."""
        every = self.config.eval_every * self.config.snapshot_ticks
        due = every and self.names(moment.resolution) and (ended or self.state.counters["tick"] % every == 0)
        self.state.counters["evaluate"] = moment.level if due else 0

    def pending(self, now: ScheduleState) -> ScheduleState:
        """What the evaluation that is owed is of, at the moment that the schedule says: a phase ends as it trained."""
        level = int(self.state.counters["evaluate"])
        return now if level == now.level else now._replace(level=level, alpha=1.0)

    def run(self, moment: ScheduleState, signals: Signals, log: RunLog | None, save: Callable[[], object]) -> None:
        """Makes the evaluation that is owed, unless a signal stops it: it then stays owed.

        `save` writes the training state, which has to know what is best before it can be forgotten.
        """
        counters, world = self.state.counters, self.state.world
        if not counters["evaluate"] or signals.stop:
            return

        def check() -> None:
            signals.agree(world)
            if signals.stop:
                raise _Stopped

        start = time.perf_counter()
        try:
            figures = self.measure(moment, check)
        except _Stopped:
            return
        except (RuntimeError, MemoryError, OutOfMemoryError) as error:
            if world.size > 1 or not (isinstance(error, (MemoryError, OutOfMemoryError)) or out_of_memory(error)):
                raise
            figures = {}
            self.display.note("no memory for the evaluation, which is left out; give a smaller --eval-samples")
        free_cached(self.state.device)
        counters["evaluate"] = 0
        if log is not None and figures:
            self._record(moment, figures, time.perf_counter() - start, log, save)

    def measure(self, moment: ScheduleState, check: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Figures by name, in the first process; elsewhere none. `check` may raise to end it."""
        model = Model(self.snapshots.model(moment), self.state.device)
        return evaluate_model(
            model.generate, self.store, moment.resolution, self.names(moment.resolution), self.config.eval_samples,
            device=self.state.device, embeddings=self._embeddings, world=self.state.world, check=check,
        )  # fmt: skip

    def _record(
        self, moment: ScheduleState, figures: dict[str, float], seconds: float, log: RunLog, save: Callable[[], object]
    ) -> None:
        shown = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        kept(self.display, lambda: log.measured(moment.nimg, shown), "the log")
        best = self._is_best(moment, figures)
        run = self.snapshots.run
        if best:
            score = figures[self._best.figure]
            about = {"metric": self._best.figure, "score": score, "pictures": self.config.eval_samples}
            model = self.snapshots.model(moment)
            model.info["best"] = about
            kept(self.display, lambda: save_model(run.best, model), "the best model")
        if best or run.state(moment.nimg).exists():
            kept(self.display, save, "the checkpoint")
        told = [
            f"{figure} {figures[figure]:.4g}"
            for name in self.config.eval_metrics
            if (figure := METRICS[name].figure) in figures
        ]
        side = moment.resolution
        self.display.measured(
            f"{side}x{side} at {moment.nimg / 1000:g} kimg, {self.config.eval_samples} pictures: {', '.join(told)}"
            f"{', the best so far' if best else ''} ({seconds:.1f} s)"
        )

    def _is_best(self, moment: ScheduleState, figures: dict[str, float]) -> bool:
        """Whether these are the best figures so far, which the state then remembers.

        Figures of different resolutions do not compare: a higher one is the better. So it is for the first figures
        by another metric, number of pictures or network than before.
        """
        counters = self.state.counters
        score = figures.get(self._best.figure)
        if score is None or not math.isfinite(score):
            return False
        network = self._embeddings[self._best.needs].identity if self._best.needs else ""
        kind = zlib.crc32(f"{self._best.name} {self.config.eval_samples} {network}".encode())
        comparable = counters["best_kind"] == kind and counters["best_level"] == moment.level
        sign = 1 if self._best.better == "lower" else -1
        if comparable and sign * score >= sign * counters["best_score"]:
            return False
        counters.update(best_kind=kind, best_level=moment.level, best_score=score, best_nimg=moment.nimg)
        return True
