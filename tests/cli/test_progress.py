"""Progress where output is a pipe: the rate leaves the start out, and no time left is guessed from nothing."""

from __future__ import annotations

import pytest

from pggan.cli.progress_bar import WINDOW, Throughput, _Lines


def test_the_time_until_the_first_unit_is_left_out():
    measured = Throughput()
    measured.add(2, 600.0)  # after ten minutes of opening a store
    assert measured.rate(600.5) is None
    measured.add(10, 605.0)
    assert measured.rate(605.0) == pytest.approx(2)


def test_the_rate_is_that_of_the_last_minute():
    measured = Throughput()
    for second in range(200):
        measured.add(1 if second < 100 else 10, float(second))
    assert measured.rate(199.0) == pytest.approx(10, rel=0.02)
    assert measured.done == 100 + 1000
    assert len(measured._points) <= WINDOW + 2


def test_a_line_says_only_what_is_known(capsys):
    lines = _Lines("exporting", 64, "pictures")
    assert lines.describe() == "exporting: 0/64 pictures"
    lines.advance(64)
    assert capsys.readouterr().err == "exporting: 64/64 pictures\n"
