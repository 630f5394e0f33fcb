"""The ETA: functions of what was measured, and what they said of recorded runs beside what came.

fixtures/logs: lines of runs on painted portraits, on a two-core machine. quiet: timed by the processor time of the run,
as on a machine of its own. busy, busier: by the clock, while other programs took up to four times the cores there were;
they were written before pauses were logged. demo: by the clock, alone, with minibatches of 4, whose
steps at 4x4 take their time for launching kernels.
"""

from __future__ import annotations

import itertools
import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig, from_json
from pggan.networks.flops import layers
from pggan.training.monitor.eta import PAUSES, EtaEstimator, Measurement, robust_rate, work

LOGS = Path(__file__).parents[1] / "fixtures" / "logs"
CONFIG = TrainConfig(max_res=32, stable_kimg=PerResolution(1), fade_kimg=PerResolution(1), eval_every=0)


def estimator():
    return EtaEstimator(CONFIG, Schedule(CONFIG))


def test_without_measurements_there_is_no_estimate():
    left = estimator().left(0)
    assert (left.phase, left.run, left.is_range) == (None, None, True)


def test_measured_levels_count_as_measured():
    eta = estimator()
    for level in range(2, 6):
        eta.measured(level, 100, level)  # level / 100 seconds an image
    left = eta.left(0)
    assert left.phase == pytest.approx(1000 * 0.02)
    assert left.run == pytest.approx([1000 * 0.02 + 2000 * (0.03 + 0.04 + 0.05)] * 3)
    assert not left.is_range
    left = eta.left(6500)
    assert left.phase == left.run.likely == pytest.approx(500 * 0.05)
    assert eta.left(7000).run == (0, 0, 0)


def test_a_level_that_was_not_tried_is_a_range_and_costs_no_less_than_the_one_below():
    eta = estimator()
    eta.measured(2, 100, 1)
    eta.measured(3, 100, 1.5)
    at4, at5 = eta.seconds_per_image(4), eta.seconds_per_image(5)
    assert 0.015 <= at4.low < at4.likely < at4.high
    assert at4.likely < at5.likely
    assert eta.left(0).is_range
    slow = estimator()
    slow.measured(2, 100, 1)
    slow.measured(3, 100, 0.5)  # faster than the level below, as a machine is that was busy before
    assert slow.seconds_per_image(4).low >= 0.005


@pytest.mark.parametrize("batch", [2, 16, 128])
@pytest.mark.parametrize("launch,flops", [(0.004, 50e9), (0.002, 150e9), (0.0001, 10e9)])
def test_launching_kernels_and_arithmetic_are_told_apart(batch, launch, flops):
    config = replace(CONFIG, batch=PerResolution(batch))
    eta = EtaEstimator(config, Schedule(config))

    def seconds(level):
        count = sum(len(layers(network, level)) for network in config.networks())
        return launch * count / batch + work(config, level, 1) / flops

    eta.measured(2, 1, seconds(2))
    for level in (3, 4, 5):  # with one level tried, the range holds
        low, _, high = eta.seconds_per_image(level)
        assert low < seconds(level) < high
    eta.measured(3, 1, seconds(3))
    for level in (4, 5):  # with two, the likely time is it
        assert eta.seconds_per_image(level).likely == pytest.approx(seconds(level))


def test_one_bad_tick_hardly_counts_and_old_ones_fade():
    steady = [Measurement(100, 10)] * 6
    slept = [*steady, Measurement(100, 4000)]
    assert robust_rate(steady) == pytest.approx(0.1)
    assert robust_rate(slept) < 0.3
    changed = [*[Measurement(100, 10)] * 20, *[Measurement(100, 20)] * 10]
    assert robust_rate(changed) == pytest.approx(0.2, rel=0.2)
    # the iterations since the last line count, too
    assert robust_rate([], Measurement(10, 5)) == 0.5
    assert robust_rate([], Measurement(0, 5)) is None


def test_pauses_count_as_often_as_they_come():
    config = TrainConfig(
        max_res=16, start_res=16, stable_kimg=PerResolution(1), tick_kimg=PerResolution(0.1), snapshot_ticks=5,
        checkpoint_ticks=2, eval_every=2, batch=PerResolution(8),
    )  # fmt: skip
    eta = EtaEstimator(config, Schedule(config))
    eta.measured(4, 100, 1)
    for kind, seconds in (("checkpoint", 1), ("snapshot", 10), ("evaluation", 100)):
        eta.paused(kind, 4, seconds)
    # 500 images, then 2 + 1 checkpoints, 1 + 1 snapshots, an evaluation at the end of the phase
    assert eta.left(500).phase == pytest.approx(500 * 0.01 + 3 * 1 + 2 * 10 + 1 * 100)


def test_a_resumed_run_has_what_its_log_tells():
    recorded = json.loads((LOGS / "busy.json").read_text())
    config = from_json(TrainConfig, recorded["config"])
    whole, live = EtaEstimator(config, Schedule(config)), EtaEstimator(config, Schedule(config))
    whole.learn(recorded["lines"])
    before = 0.0
    for line in recorded["lines"]:
        seconds, before = line["seconds"] - before, line["seconds"]
        live.measured(line["resolution"].bit_length() - 1, line["img_per_second"] * seconds, seconds)
    assert whole.left(12_000).run == pytest.approx(live.left(12_000).run)


def replay(name):
    """Yields of each line of a recorded run: seconds since its start, seconds in its phase, estimate, what came."""
    recorded = json.loads((LOGS / f"{name}.json").read_text())
    config, lines = from_json(TrainConfig, recorded["config"]), recorded["lines"]
    schedule = Schedule(config)
    clock, before = [], 0.0
    for line in lines:
        pauses = sum(line.get(f"{kind}_seconds", 0.0) for kind in PAUSES)
        clock.append((clock[-1] if clock else 0.0) + line["seconds"] - before + pauses)
        before = line["seconds"]
    for i, line in enumerate(lines[:-1]):
        eta = EtaEstimator(config, schedule)
        eta.learn(lines[: i + 1])
        phase = next(phase for phase in schedule.phases if phase.end > line["nimg"])
        began = max((at for at, other in zip(clock, lines) if other["nimg"] < phase.start + phase.batch), default=0.0)
        last = next(i for i, other in enumerate(lines) if other["nimg"] >= phase.end)
        after = lines[last + 1 : last + 2]  # the pauses at the end of a phase belong to it
        ends = clock[last] + sum(other.get(f"{kind}_seconds", 0.0) for other in after for kind in PAUSES[1:])
        yield clock[i], clock[i] - began, eta.left(line["nimg"]), ends - clock[i], clock[-1] - clock[i]


def test_on_a_quiet_machine_the_phase_is_right_and_the_run_within_its_range():
    rows = list(replay("quiet"))
    assert len(rows) > 30
    for clock, in_phase, left, phase, run in rows:
        if in_phase > 2 and phase > 5:  # the levels of this run take seconds
            assert 0.7 < left.phase / phase < 1.3, clock
        if left.is_range:
            assert left.run.low * 0.9 < run < left.run.high * 1.1, clock
        elif run > 5:
            assert 0.7 < left.run.likely / run < 1.3, clock


@pytest.mark.parametrize("name,middle,worst", [("demo", 1.2, 1.5), ("busy", 1.3, 2.0), ("busier", 1.35, 2.6)])
def test_on_busy_machines_it_is_as_wrong_as_the_machine_is_fickle(name, middle, worst):
    rows = list(replay(name))
    errors = [max(left.phase / phase, phase / left.phase) for *_, left, phase, run in rows]
    assert statistics.median(errors) < middle
    assert max(errors) < worst
    ranges = [(left.run, run) for *_, left, phase, run in rows if left.is_range]
    assert sum(span.low < run < span.high for span, run in ranges) >= 0.6 * len(ranges)
    # no jumps: what was projected a line ago is about what is projected now
    totals = [clock + left.run.likely for clock, _, left, *_ in rows if not left.is_range]
    assert all(0.5 < b / a < 2 for a, b in itertools.pairwise(totals))
