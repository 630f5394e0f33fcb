"""Evaluation during training: when metrics of the EMA generator are due, their measuring, and the best model.

It changes nothing of the training: its images are those of fixed seeds, and metrics have random streams of their own.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pggan.config.metrics import METRICS, measurable
from pggan.config.schedule import ScheduleState
from pggan.data.store.store import Store
from pggan.metrics.embeddings import embeddings_for
from pggan.metrics.evaluate import evaluate_model
from pggan.networks.model_file import save_model
from pggan.training.monitor.disk_full import tolerate_write_errors
from pggan.training.monitor.display import Display
from pggan.training.run.signals import Interrupted, Signals
from pggan.utils.devices import free_cached, out_of_memory
from pggan.utils.errors import OutOfMemoryError
from pggan.utils.output import activity

if TYPE_CHECKING:
    from pggan.training.engine.state import TrainState
    from pggan.training.run.log import RunLog
    from pggan.training.run.snapshots import Snapshots


@contextmanager
def _stage(title: str, count: int) -> Iterator[Callable[[int], None]]:
    """Has the heartbeat say how far a pass over images is."""
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images

    with activity(lambda: f"evaluating, {title}: {done} of {count}"):
        yield advance


def pending(level: int, now: ScheduleState) -> ScheduleState:
    """Returns the moment that a pending snapshot or evaluation is of: at the end of a phase that phase's `level`."""
    return now if level == now.level else now._replace(level=level, alpha=1.0)


class Evaluation:
    """The evaluations of a run. Every process calls its methods, and generates its share of the images.

    The state's progress holds the pending evaluation ("evaluate": its level, 0 for none) and the best score so far. A
    run that was cut off during an evaluation therefore repeats it, and the best score is that of the checkpoint.
    Metrics that need a network load it in the constructor, so that a missing one ends the run before it trains.
    """

    def __init__(self, state: TrainState, store: Store, snapshots: Snapshots, display: Display) -> None:
        self.state, self.store, self.snapshots, self.display = state, store, snapshots, display
        self.config = config = state.config
        names = config.eval_metrics if config.eval_every else ()
        weights = Path(config.inception_weights) if config.inception_weights else None
        self._embeddings = embeddings_for(names, weights, config.embedding, state.device)
        self._best = METRICS[config.best_metric or config.eval_metrics[0]]

    def names(self, resolution: int) -> list[str]:
        """The run's metrics that are defined for images of this resolution."""
        return measurable(self.config.eval_metrics, resolution)

    def plan(self, scheduled: ScheduleState, ended: bool) -> None:
        """Notes whether an evaluation is due: at the end of a phase, and at every `eval_every`-th snapshot."""
        every = self.config.eval_every * self.config.snapshot_ticks
        due = every and self.names(scheduled.resolution) and (ended or self.state.progress.tick % every == 0)
        self.state.progress.evaluate = scheduled.level if due else 0

    def run(self, scheduled: ScheduleState, signals: Signals, log: RunLog | None, save: Callable[[], object]) -> None:
        """Makes the pending evaluation. A signal stops it by `Interrupted`, and it stays pending.

        Args:
            scheduled: of the model to measure.
            signals: are looked at between batches.
            log: receives the metrics; None in processes that write no log.
            save: writes the checkpoint, which must have the best score of any best model that is on the disk.
        """
        progress, world = self.state.progress, self.state.world
        if not self.config.eval_every or not self.names(scheduled.resolution):  # switched off since it was planned
            progress.evaluate = 0
        if not progress.evaluate or signals.stop:
            return

        def check() -> None:
            signals.agree(world)
            if signals.stop:
                raise Interrupted

        start = time.perf_counter()
        try:
            with signals.interrupting(world):
                scores = self.measure(scheduled, check)
        except (RuntimeError, MemoryError, OutOfMemoryError) as error:
            if world.size > 1 or not (isinstance(error, (MemoryError, OutOfMemoryError)) or out_of_memory(error)):
                raise
            scores = {}
            self.display.note("no memory for the evaluation, which is left out; give a smaller --eval-samples")
        free_cached(self.state.device)
        progress.evaluate = 0
        if log is not None and scores:
            self._record(scheduled, scores, time.perf_counter() - start, log, save)

    def measure(self, scheduled: ScheduleState, check: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Returns the metrics by name in the main process, nothing elsewhere. `check` may raise, which ends it."""
        model = self.snapshots.picture_model(scheduled)
        return evaluate_model(
            model.seed_images, self.store, scheduled.resolution, self.names(scheduled.resolution),
            self.config.eval_samples,
            device=self.state.device, embeddings=self._embeddings, world=self.state.world, check=check, stage=_stage,
        )  # fmt: skip

    def _record(
        self,
        scheduled: ScheduleState,
        scores: dict[str, float],
        seconds: float,
        log: RunLog,
        save: Callable[[], object],
    ) -> None:
        """Writes the metrics to the log, and the model where it is the best so far."""
        with tolerate_write_errors(self.display, "the log"):
            finite = {name: value if math.isfinite(value) else None for name, value in scores.items()}
            log.add_metrics(scheduled.nimg, {**finite, "eval_samples": self.config.eval_samples})
        best = self._is_best(scheduled, scores)
        run = self.snapshots.run
        if best:
            model, figure = self.snapshots.model(scheduled), self._best.figure
            model.info["best"] = {"metric": figure, "score": scores[figure], "pictures": self.config.eval_samples}
            with tolerate_write_errors(self.display, "the best model"):
                save_model(run.best, model)
                log.best_model(run.best, scheduled.nimg, figure, scores[figure])
        if best or run.state(scheduled.nimg).exists():
            with tolerate_write_errors(self.display, "the checkpoint"):
                save()
        figures = [METRICS[name].figure for name in self.config.eval_metrics]
        shown = [f"{figure} {scores[figure]:.4g}" for figure in figures if figure in scores]
        side = scheduled.resolution
        self.display.measured(
            f"{side}x{side} at {scheduled.nimg / 1000:g} kimg, {self.config.eval_samples} pictures: {', '.join(shown)}"
            f"{', the best so far' if best else ''} ({seconds:.1f} s)"
        )

    def _is_best(self, scheduled: ScheduleState, scores: dict[str, float]) -> bool:
        """Whether these are the best scores so far; if so, the state's progress records them.

        Scores compare within one resolution, metric, number of images and embedding network only. The first score of
        another kind counts as the best.
        """
        progress = self.state.progress
        score = scores.get(self._best.figure)
        if score is None or not math.isfinite(score):
            return False
        network = self._embeddings[self._best.needs].identity if self._best.needs else ""
        kind = zlib.crc32(f"{self._best.name} {self.config.eval_samples} {network}".encode())
        comparable = progress.best_kind == kind and progress.best_level == scheduled.level
        sign = 1 if self._best.better == "lower" else -1
        if comparable and sign * score >= sign * progress.best_score:
            return False
        progress.best_kind, progress.best_level = kind, scheduled.level
        progress.best_score, progress.best_nimg = score, scheduled.nimg
        return True
