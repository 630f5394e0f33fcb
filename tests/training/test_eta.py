"""Time left: exact where it was measured, sensible where it was not."""

from __future__ import annotations

import pytest

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig
from pggan.training.monitor.eta import EtaEstimator

CONFIG = TrainConfig(max_res=32, stable_kimg=PerResolution(1), fade_kimg=PerResolution(1))


def pace():
    return EtaEstimator(CONFIG, Schedule(CONFIG))


def test_nothing_measured():
    assert pace().left(0) == (None, None)


def test_measured_levels_count_as_measured():
    found = pace()
    for level in range(2, 6):
        found.measured(level, 100, level)  # level / 100 seconds an image
    phase, run = found.left(0)
    assert phase == pytest.approx(1000 * 0.02)
    assert run == pytest.approx(1000 * 0.02 + 2000 * (0.03 + 0.04 + 0.05))
    phase, run = found.left(6500)
    assert phase == run == pytest.approx(500 * 0.05)
    assert found.left(7000) == (0.0, 0.0)


def test_unmeasured_levels_cost_more_the_larger_they_are():
    found = pace()
    found.measured(2, 100, 1)
    assert found.at(3) is None
    assert found.left(0) == (pytest.approx(1000 * 0.01), None)
    found.measured(3, 100, 1.5)
    assert 0.015 < found.at(4) < found.at(5)
    assert found.left(0)[1] > 1000 * 0.01 + 2000 * 0.015


def test_the_newest_measurement_weighs():
    found = pace()
    found.measured(2, 1, 1)
    found.measured(2, 1, 2)
    assert 1 < found.at(2) < 2
