"""What a person sees of a run: progress bars on a terminal, one line per tick elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pggan.config.schedule import Schedule, ScheduleState
from pggan.utils.formatting import duration, printable
from pggan.utils.output import say

if TYPE_CHECKING:
    from rich.console import Console

# The bars are redrawn at most this often.
REFRESH_SECONDS = 0.25
# (label in a tick's line, name in the log) of terms that only some losses and techniques have.
OPTIONAL_TERMS = (("k", "k"), ("M", "convergence"), ("I", "mutual_information"), ("accuracy", "heldout_accuracy"))


class Display:
    """Where a run shows itself. The training loop calls every method; these show nothing."""

    def note(self, message: str) -> None:
        """Shows something that a person has to know."""

    def show(self, scheduled: ScheduleState) -> None:
        """Shows where in the schedule the run is; called after every iteration."""

    def tick(self, line: dict[str, Any]) -> None:
        """Shows a line of the log."""

    def measured(self, message: str) -> None:
        """Shows figures of metrics or of memory, in words."""


def clock(seconds: float | None) -> str:
    """Formats a time left; "?" while it is unknown."""
    return "?" if seconds is None else duration(seconds)


def stage(line: dict[str, Any]) -> str:
    """Formats a tick's resolution with its fade, or with the level of detail of blurred reals."""
    side = line["resolution"]
    if line.get("detail", side) != side:
        return f"{side}x{side} detail {line['detail']:g}"
    return f"{side}x{side} " + (f"fade {line['alpha']:.2f}" if line["alpha"] < 1 else "stable")


def tick_line(line: dict[str, Any], total: int) -> str:
    """Formats a tick as one line: stage, progress, losses, speed, time left. `total`: images of the whole run."""
    terms = [
        f"{short} {line[name]:+.3f}"
        for short, name in (("D", "d_loss"), ("G", "g_loss"), ("W", "wasserstein"), *OPTIONAL_TERMS)
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


class QuietDisplay(Display):
    """Shows notes only."""

    def note(self, message: str) -> None:
        say(message, err=True)


class LineDisplay(QuietDisplay):
    """Shows one line per tick, for output that is not a terminal."""

    def __init__(self, schedule: Schedule) -> None:
        self.total = schedule.total

    def tick(self, line: dict[str, Any]) -> None:
        self.note(tick_line(line, self.total))

    def measured(self, message: str) -> None:
        self.note(message)


class LiveDisplay(Display):
    """Shows progress bars of the phase and the run below the scrolling lines of the ticks. Enter it as a context."""

    def __init__(self, schedule: Schedule, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.schedule = schedule
        console = console or Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description:<24}"), BarColumn(40), TextColumn("{task.fields[text]}"))
        self.bars = Progress(*columns, console=console, refresh_per_second=4)
        self.phase_bar = self.bars.add_task("phase", total=1, text="")
        self.run_bar = self.bars.add_task("run", total=schedule.total, text="")
        self._phases = schedule.phases
        self._last: dict[str, Any] = {}
        self._shown = 0.0
        self._tick_at = time.monotonic()

    def __enter__(self) -> LiveDisplay:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def note(self, message: str) -> None:
        self.bars.print(printable(message), markup=False)

    def measured(self, message: str) -> None:
        self.note(message)

    def show(self, scheduled: ScheduleState) -> None:
        now = time.monotonic()
        if now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        phase = self._phases[min(scheduled.phase, len(self._phases) - 1)]
        kind = f"fading in, alpha {scheduled.alpha:.2f}" if scheduled.alpha < 1 else "stable"
        title = f"{scheduled.resolution}x{scheduled.resolution} {kind}"
        rate = f"{self._last['img_per_second']:.1f} img/s" if self._last else ""
        done, text = scheduled.nimg - phase.start, rate + self._left("phase_seconds_left", now)
        self.bars.update(self.phase_bar, description=title, total=max(phase.images, 1), completed=done, text=text)
        kimg = f"{scheduled.nimg / 1000:.1f}/{self.schedule.total / 1000:g} kimg"
        self.bars.update(self.run_bar, completed=scheduled.nimg, text=kimg + self._left("seconds_left", now))

    def _left(self, name: str, now: float) -> str:
        seconds = self._last.get(name)
        return "" if seconds is None else f", {clock(max(0.0, seconds - (now - self._tick_at)))} left"

    def tick(self, line: dict[str, Any]) -> None:
        self._last, self._tick_at = line, time.monotonic()
        self.bars.print(tick_line(line, self.schedule.total), markup=False)
