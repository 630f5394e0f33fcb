"""--stop-when: a run ends where a metric has stopped to get better, once, and goes on where a person wants it."""

import dataclasses
import json

import pytest

from pggan.cli.info import describe
from pggan.config.metrics import StopRule
from pggan.config.train import PerResolution
from pggan.report.run_data import read_run_data
from pggan.report.sections import status
from pggan.training.monitor import evaluation
from pggan.training.monitor.early_stopping import evaluations_without_gain
from pggan.training.run.directory import RunDirectory
from pggan.training.start import advice, begin, resume
from pggan.utils.errors import UsageError
from tests.helpers.runs import Notes, StopAfter


def ticks(scores, **fields):
    return [{"nimg": 0, "resolution": 16, "alpha": 1.0, **fields, **({} if s is None else {"swd": s})} for s in scores]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], 0),
        ([5], 0),
        ([5, 4, 3], 0),
        ([5, 6], 1),
        ([5, 5, 5], 2),
        ([5, 6, 4, None, 7, None, 8], 2),
        ([9, 1, 8, 7, 6], 3),
    ],
)  # fmt: skip
def test_evaluations_since_the_best_one_are_counted(scores, expected):
    assert evaluations_without_gain(ticks(scores), StopRule("swd", 5), 16) == expected


def test_higher_is_better_where_the_metric_says_so():
    lines = [{"resolution": 16, "alpha": 1.0, "nearest_ratio": value} for value in (0.5, 0.7, 0.6)]
    assert evaluations_without_gain(lines, StopRule("neighbours", 5), 16) == 1


def test_lower_resolutions_fades_and_blurred_reals_do_not_count():
    before = [*ticks([1, 2, 3], resolution=8), *ticks([1, 2, 3], alpha=0.5), *ticks([1, 2, 3], detail=8)]
    before += ticks([1, 2, 3], detail=16, detail_alpha=0.5)
    assert evaluations_without_gain([*before, *ticks([7, 6])], StopRule("swd", 1), 16) == 0


def test_scores_of_another_number_of_pictures_do_not_compare():
    scores = [*ticks([5, 4], eval_samples=64), *ticks([9, 8.5, 9], eval_samples=8)]
    assert evaluations_without_gain(scores, StopRule("swd", 5), 16) == 1
    assert evaluations_without_gain([*ticks([5, 6]), *scores[3:]], StopRule("swd", 5), 16) == 1  # of before


@pytest.mark.parametrize(
    "text", ["swd", "swd:", "swd:0", "swd:-1", "swd:x", ":5", "nothing:5", "swd:99999999", "swd:1.5"]
)
def test_another_rule_is_refused(text):
    with pytest.raises(UsageError):
        StopRule.parse(text)


def test_a_metric_that_is_not_measured_is_refused(config):
    for fields in ({"eval_every": 0}, {"eval_every": 1, "eval_metrics": ("msssim",)}):
        with pytest.raises(UsageError, match=r"--stop-when swd:5: no evaluation measures it"):
            dataclasses.replace(config, stop_when="swd:5", **fields)
    with pytest.raises(UsageError, match=r"swd takes pictures of 16x16 and larger, and the run ends at 8x8"):
        dataclasses.replace(config, stop_when="swd:5", eval_every=1, max_res=8)
    with pytest.raises(UsageError, match=r"--best-metric swd: swd takes pictures of 16x16 and larger"):
        dataclasses.replace(config, best_metric="swd", eval_every=1, max_res=8)
    unmeasured = dataclasses.replace(config, eval_every=1, max_res=8)
    assert [line for line in advice(unmeasured, 100_000) if "none of --eval-metrics swd is for pictures of 8x8" in line]
    assert not [
        line for line in advice(dataclasses.replace(unmeasured, eval_every=0), 100_000) if "eval-metrics" in line
    ]
    assert StopRule.parse("never") is None


def test_a_run_ends_saves_and_goes_on_where_it_is_told_to(config, tmp_path, monkeypatch):
    few = PerResolution(0.024)
    config = dataclasses.replace(
        config, start_res=16, stable_kimg=PerResolution(0.4), fade_kimg=few, tick_kimg=PerResolution(0.016),
        eval_every=1, eval_samples=8, stop_when="swd:3", checkpoint_ticks=1000,
    )  # fmt: skip
    scores = iter([50.0, 40.0, 41.0, 40.0, 45.0, *[60.0] * 30])
    monkeypatch.setattr(evaluation, "evaluate_model", lambda *a, **k: {"swd": next(scores)})
    notes = Notes()
    result = begin(config, tmp_path / "run", notes)
    run = RunDirectory(tmp_path / "run")
    assert result.stopped == "no better swd in 3 evaluations (--stop-when)"
    assert (result.nimg, result.signal) == (80, 0)
    assert notes.said.count(result.stopped) == 1
    assert run.model(80).exists()
    assert run.states()[-1].name == "interim-000000080.safetensors"
    assert status(read_run_data(run.path))[0] == "ended early"
    events = [line for line in map(json.loads, run.log.read_text().splitlines()) if "event" in line]
    assert [event["event"] for event in events] == ["enough"]
    assert describe(str(run.path))["go_on_with"] == f"pggan train --resume {run.path} --stop-when never"

    again = resume(run, notes)  # it has had enough still
    assert (again.nimg, again.stopped) == (80, result.stopped)
    more = resume(run, notes, changes={"stop_when": "swd:5"})
    assert more.nimg == 112
    stopped = resume(run, StopAfter(200), changes={"stop_when": "never"})
    assert stopped.signal
    assert describe(str(run.path))["go_on_with"] == f"pggan train --resume {run.path}"
    assert resume(run, notes).nimg == 400
    assert status(read_run_data(run.path))[0] == "finished"
