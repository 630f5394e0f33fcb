"""What a person sees of a run: progress bars on a terminal, one line per tick elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pggan.config.schedule import Schedule, ScheduleState
from pggan.training.monitor.eta import Left
from pggan.utils.formatting import duration, figure, printable
from pggan.utils.output import mute_heartbeat, say

if TYPE_CHECKING:
    from rich.console import Console

# The bars are redrawn at most this often.
REFRESH_SECONDS = 0.25
# (label in a tick's line, name in the log) of terms that only some losses and techniques have.
OPTIONAL_TERMS = (("k", "k"), ("M", "convergence"), ("I", "mutual_information"), ("accuracy", "heldout_accuracy"))


# Returns images a second since the last line, None before any, and the time left after a number of images.
MeasureLeft = Callable[[int], tuple[float | None, Left]]


class Display:
    """Where a run shows itself. The training loop calls every method; these show nothing."""

    def watch(self, left: MeasureLeft) -> None:
        """Takes what measures the time left between two lines of the log."""

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


def run_clock(low: float | None, likely: float | None, high: float | None) -> str:
    """Formats the time left of the run, as a range where its ends are given."""
    return f"{clock(low)} to {clock(high)}" if low is not None and high is not None else clock(likely)


def phase_name(schedule: Schedule, nimg: int) -> str:
    """Returns the name of the phase whose time is left after `nimg` images, e.g. `16x16 fade`."""
    phase = next((phase for phase in schedule.phases if phase.end > nimg), schedule.phases[-1])
    kind = "stable" if not phase.fading else "fade"
    return f"{2**phase.detail}x{2**phase.detail} {kind}"


def time_left(schedule: Schedule, nimg: int, left: Left) -> str:
    """Formats the time left of the phase and of the run."""
    run = left.run
    of_run = "?" if run is None else run_clock(run.low, run.likely, run.high) if left.is_range else clock(run.likely)
    return f"left {clock(left.phase)} of {phase_name(schedule, nimg)}, {of_run} of run"


def stage(line: dict[str, Any]) -> str:
    """Formats a tick's resolution with its fade, or with the level of detail of blurred reals."""
    side = line["resolution"]
    if line.get("detail", side) != side:
        return f"{side}x{side} detail {line['detail']:g}"
    return f"{side}x{side} " + (f"fade {line['alpha']:.2f}" if line["alpha"] < 1 else "stable")


def tick_line(line: dict[str, Any], schedule: Schedule) -> str:
    """Formats a tick as one line: stage, progress, losses, speed, time left."""
    terms = [
        f"{short} {line[name]:+.3f}"
        for short, name in (("D", "d_loss"), ("G", "g_loss"), ("W", "wasserstein"), *OPTIONAL_TERMS)
        if line.get(name) is not None
    ]
    if line.get("gradient_norm") is not None:
        terms.append(f"|grad| {line['gradient_norm']:.2f}")
    if line.get("augment_p") is not None:
        terms.append(f"p {line['augment_p']:.3f}")
    run = run_clock(line.get("seconds_left_low"), line["seconds_left"], line.get("seconds_left_high"))
    phase = phase_name(schedule, round(line["kimg"] * 1000))
    return (
        f"{stage(line):<19} {figure(line['kimg']):>9}/{schedule.total / 1000:g} kimg  {'  '.join(terms)}  "
        f"{figure(line['img_per_second'])} img/s  left {clock(line['phase_seconds_left'])} of {phase}, {run} of run"
    )


class CallbackDisplay(Display):
    """Calls functions of a program instead of showing anything.

    Args:
        schedule: The run's.
        on_progress: Receives "training", images seen and images in all after every iteration.
        on_tick: Receives every line of the log.
        on_note: Receives messages for people.
    """

    def __init__(
        self,
        schedule: Schedule,
        on_progress: Callable[[str, int, int], None] | None = None,
        on_tick: Callable[[dict[str, Any]], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.total = schedule.total
        self._on_progress, self._on_tick, self._on_note = on_progress, on_tick, on_note

    def note(self, message: str) -> None:
        if self._on_note is not None:
            self._on_note(message)

    def measured(self, message: str) -> None:
        self.note(message)

    def show(self, scheduled: ScheduleState) -> None:
        if self._on_progress is not None:
            self._on_progress("training", min(scheduled.nimg, self.total), self.total)

    def tick(self, line: dict[str, Any]) -> None:
        if self._on_tick is not None:
            self._on_tick(line)


class QuietDisplay(Display):
    """Shows notes only."""

    def note(self, message: str) -> None:
        say(message, err=True)


class LineDisplay(QuietDisplay):
    """Shows one line per tick, for output that is not a terminal. `describe` is for the heartbeat between them."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._left: MeasureLeft | None = None
        self._shown = 0.0
        self._text = "preparing the run"

    def watch(self, left: MeasureLeft) -> None:
        self._left = left
        self._text = "in the first iteration"

    def show(self, scheduled: ScheduleState) -> None:
        if self._left is None or (now := time.monotonic()) - self._shown < 1:
            return
        self._shown = now
        rate, left = self._left(scheduled.nimg)
        speed = f"  {figure(rate)} img/s" if rate else ""
        detail = {} if scheduled.detail is None else {"detail": 2**scheduled.detail}
        place = {"resolution": scheduled.resolution, "alpha": scheduled.alpha, **detail}
        self._text = (
            f"{stage(place):<19} "
            f"{figure(scheduled.nimg / 1000):>9}/{self.schedule.total / 1000:g} kimg{speed}  "
            f"{time_left(self.schedule, scheduled.nimg, left)}"
        )

    def describe(self) -> str:
        """Returns how far the run was after its last iteration."""
        return self._text

    def tick(self, line: dict[str, Any]) -> None:
        self.note(tick_line(line, self.schedule))

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
        self._left: MeasureLeft | None = None
        self._shown = 0.0

    def __enter__(self) -> LiveDisplay:
        mute_heartbeat(True)
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()
        mute_heartbeat(False)

    def watch(self, left: MeasureLeft) -> None:
        self._left = left

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
        rate, left = self._left(scheduled.nimg) if self._left is not None else (None, Left(None, None, True))
        done, text = scheduled.nimg - phase.start, f"{figure(rate)} img/s" if rate else ""
        if left.phase is not None:
            text += f", {clock(left.phase)} left"
        self.bars.update(self.phase_bar, description=title, total=max(phase.images, 1), completed=done, text=text)
        text = f"{figure(scheduled.nimg / 1000)}/{self.schedule.total / 1000:g} kimg"
        if left.run is not None:
            ends = (left.run.low, left.run.high) if left.is_range else (None, None)
            text += f", {run_clock(ends[0], left.run.likely, ends[1])} left"
        self.bars.update(self.run_bar, completed=scheduled.nimg, text=text)

    def tick(self, line: dict[str, Any]) -> None:
        self.bars.print(tick_line(line, self.schedule), markup=False)
