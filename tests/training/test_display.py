"""The displays of a run."""

from __future__ import annotations

import io

import pytest

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig
from pggan.training.monitor.display import LineDisplay, LiveDisplay, QuietDisplay, tick_line
from pggan.training.monitor.eta import Left, Span

CONFIG = TrainConfig(max_res=16, stable_kimg=PerResolution(1), fade_kimg=PerResolution(1))
LINE = {
    "resolution": 8, "alpha": 0.25, "kimg": 1.25, "d_loss": -1.5, "g_loss": 2.25, "wasserstein": -1.75,
    "gradient_norm": 1.01, "img_per_second": 123.4, "phase_seconds_left": 75.0, "seconds_left": None,
}  # fmt: skip


def test_a_tick_line_has_stage_progress_losses_speed_and_time_left(capsys):
    LineDisplay(Schedule(CONFIG)).tick(LINE)
    output = capsys.readouterr().err
    for part in ("8x8 fade 0.25", "1.25/5 kimg", "D -1.500", "G +2.250", "123.4 img/s", "1:15 of 8x8 fade, ? of run"):
        assert part in output


def test_the_live_display_shows_notes_bars_and_time_left(monkeypatch):
    from rich.console import Console

    schedule = Schedule(CONFIG)
    screen = io.StringIO()
    display = LiveDisplay(schedule, Console(file=screen, force_terminal=True, width=160, color_system=None))
    with display:
        display.note("[not markup] a note")
        display.show(schedule.at(1500))
        display.watch(lambda nimg: (123.4, Left(75.0, Span(60.0, 150.0, 300.0), True)))
        display.tick(LINE)
        display._shown = 0.0
        display.show(schedule.at(1600))
        display.bars.refresh()
        display._shown = 0.0
        display.show(schedule.at(9000))  # beyond the end: the last phase goes on
    output = screen.getvalue()
    for part in (
        "[not markup] a note",
        "8x8 fading in, alpha 0.60",
        "1.60/5 kimg",
        "123.4 img/s",
        "1:15 left",
        "1:00 to 5:00 left",
    ):
        assert part in output


@pytest.mark.parametrize(
    "line", [{**LINE, "d_loss": None, "gradient_norm": None}, {k: v for k, v in LINE.items() if "loss" not in k}]
)
def test_odd_lines_do_not_break_the_display(line, capsys):
    LineDisplay(Schedule(CONFIG)).tick(line)
    QuietDisplay().tick(line)
    assert "img/s" in capsys.readouterr().err


def test_slow_runs_show_the_digits_that_they_need():
    line = {**LINE, "kimg": 0.026, "img_per_second": 0.0347}
    assert "0.026/5 kimg" in tick_line(line, Schedule(CONFIG))
    assert "0.0347 img/s" in tick_line(line, Schedule(CONFIG))


def test_a_range_and_the_phase_whose_time_is_left_are_named():
    schedule = Schedule(CONFIG)
    left = {"seconds_left": 600.0, "seconds_left_low": 300.0, "seconds_left_high": 900.0}
    assert "left 1:15 of 8x8 fade, 5:00 to 15:00 of run" in tick_line({**LINE, **left}, schedule)
    # a line at the end of a phase tells the time of the next one
    assert "left 1:15 of 16x16 fade" in tick_line({**LINE, "kimg": 3.0, "alpha": 1.0}, schedule)


def test_between_lines_the_heartbeat_has_the_progress():
    display = LineDisplay(Schedule(CONFIG))
    assert display.describe() == "preparing the run"
    display.watch(lambda nimg: (0.5, Left(75.0, Span(60.0, 150.0, 300.0), True)))
    assert display.describe() == "in the first iteration"
    display.show(Schedule(CONFIG).at(1016))
    text = display.describe()
    for part in ("8x8 fade 0.02", "1.02/5 kimg", "0.5 img/s", "1:15 of 8x8 fade, 1:00 to 5:00 of run"):
        assert part in text
