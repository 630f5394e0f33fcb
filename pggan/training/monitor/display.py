"""How a run shows itself: a live panel on a terminal, a line a tick elsewhere. All on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from pggan.config.schedule import Phase, Schedule, ScheduleState
from pggan.utils.formatting import duration

if TYPE_CHECKING:
    from rich.console import Console

REFRESH_SECONDS = 0.25


# Terms that some losses and techniques have, and how they are called in a line.
MORE = (("k", "k"), ("M", "convergence"), ("I", "mutual_information"), ("accuracy", "heldout_accuracy"))


def clock(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)


def stage(line: dict[str, Any]) -> str:
    side = line["resolution"]
    if line.get("detail", side) != side:
        return f"{side}x{side} detail {line['detail']:g}"
    return f"{side}x{side} " + (f"fade {line['alpha']:.2f}" if line["alpha"] < 1 else "stable")


def tick_line(line: dict[str, Any], total: int) -> str:
    """One tick in words: stage, progress, losses, speed, time left."""
    terms = [
        f"{short} {line[name]:+.3f}"
        for short, name in (("D", "d_loss"), ("G", "g_loss"), ("W", "wasserstein"), *MORE)
        if line.get(name) is not None
    ]
    if line.get("gradient_norm") is not None:
        terms.append(f"|grad| {line['gradient_norm']:.2f}")
    if line.get("augment_p") is not None:
        terms.append(f"p {line['augment_p']:.3f}")
    return (
        f"{stage(line):<19} {line['kimg']:>9.1f}/{total / 1000:g} kimg  {'  '.join(terms)}  "
        f"{line['img_per_second']:.1f} img/s  left {clock(line['phase_seconds_left'])} of phase, "
        f"{clock(line['seconds_left'])} of run"
    )


class QuietDisplay:
    """Says only what a person has to know."""

    def note(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def moment(self, moment: ScheduleState) -> None:
        pass

    def tick(self, line: dict[str, Any]) -> None:
        pass

    def measured(self, message: str) -> None:
        """Figures of the metrics, or of memory, in words."""


class SilentDisplay(QuietDisplay):
    """Of a process whose leader speaks for it."""

    def note(self, message: str) -> None:
        pass


class LineDisplay(QuietDisplay):
    """A line a tick, for logs."""

    def __init__(self, schedule: Schedule) -> None:
        self.total = schedule.total

    def tick(self, line: dict[str, Any]) -> None:
        self.note(tick_line(line, self.total))

    def measured(self, message: str) -> None:
        self.note(message)


class LiveDisplay:
    """Bars of phase and run with time left over the scrolling lines of the ticks. Enter it as a context."""

    def __init__(self, schedule: Schedule, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.schedule = schedule
        console = console or Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description:<24}"), BarColumn(40), TextColumn("{task.fields[says]}"))
        self.bars = Progress(*columns, console=console, refresh_per_second=4)
        self.phase_bar = self.bars.add_task("phase", total=1, says="")
        self.run_bar = self.bars.add_task("run", total=schedule.total, says="")
        self._phases = {phase.index: phase for phase in schedule.phases}
        self._last: dict[str, Any] = {}
        self._shown = 0.0
        self._tick_at = time.monotonic()

    def __enter__(self) -> LiveDisplay:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def note(self, message: str) -> None:
        self.bars.print(message, markup=False)

    def measured(self, message: str) -> None:
        self.note(message)

    def moment(self, moment: ScheduleState) -> None:
        now = time.monotonic()
        if now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        phase = self._phases.get(moment.phase) or self._phases[max(self._phases)]
        self._show_phase(phase, moment, now - self._tick_at)
        left = self._left("seconds_left", now - self._tick_at)
        says = f"{moment.nimg / 1000:.1f}/{self.schedule.total / 1000:g} kimg{left}"
        self.bars.update(self.run_bar, completed=moment.nimg, says=says)

    def _show_phase(self, phase: Phase, moment: ScheduleState, since: float) -> None:
        side = f"{moment.resolution}x{moment.resolution}"
        kind = f"fading in, alpha {moment.alpha:.2f}" if moment.alpha < 1 else "stable"
        self.bars.update(
            self.phase_bar,
            description=f"{side} {kind}",
            total=max(phase.images, 1),
            completed=moment.nimg - phase.start,
            says=f"{self._rate()}{self._left('phase_seconds_left', since)}",
        )

    def _rate(self) -> str:
        return f"{self._last['img_per_second']:.1f} img/s" if self._last else ""

    def _left(self, what: str, since: float) -> str:
        seconds = self._last.get(what)
        return "" if seconds is None else f", {clock(max(0.0, seconds - since))} left"

    def tick(self, line: dict[str, Any]) -> None:
        self._last, self._tick_at = line, time.monotonic()
        self.bars.print(tick_line(line, self.schedule.total), markup=False)
