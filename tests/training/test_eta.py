"""The ETA: exact for levels that were measured, sensible for those that were not."""

from __future__ import annotations

import pytest

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig
from pggan.training.monitor.eta import EtaEstimator

CONFIG = TrainConfig(max_res=32, stable_kimg=PerResolution(1), fade_kimg=PerResolution(1))


def estimator():
    return EtaEstimator(CONFIG, Schedule(CONFIG))


def test_without_measurements_there_is_no_estimate():
    assert estimator().left(0) == (None, None)


def test_measured_levels_count_as_measured():
    eta = estimator()
    for level in range(2, 6):
        eta.measured(level, 100, level)  # level / 100 seconds an image
    phase, run = eta.left(0)
    assert phase == pytest.approx(1000 * 0.02)
    assert run == pytest.approx(1000 * 0.02 + 2000 * (0.03 + 0.04 + 0.05))
    phase, run = eta.left(6500)
    assert phase == run == pytest.approx(500 * 0.05)
    assert eta.left(7000) == (0.0, 0.0)


def test_unmeasured_levels_cost_more_the_larger_they_are():
    eta = estimator()
    eta.measured(2, 100, 1)
    assert eta.at(3) is None
    assert eta.left(0) == (pytest.approx(1000 * 0.01), None)
    eta.measured(3, 100, 1.5)
    assert 0.015 < eta.at(4) < eta.at(5)
    assert eta.left(0)[1] > 1000 * 0.01 + 2000 * 0.015


def test_an_estimate_averages_old_and_new_measurements():
    eta = estimator()
    eta.measured(2, 1, 1)
    eta.measured(2, 1, 2)
    assert 1 < eta.at(2) < 2
