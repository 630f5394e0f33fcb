"""Evaluation during training: it changes nothing of the run, repeats what was cut off, and keeps the best model."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pggan.cli import run as pggan
from pggan.config.model_metadata import STATE_KEY, read_metadata
from pggan.config.train import PerResolution
from pggan.generation.model import load
from pggan.networks.model_file import read_tensors, write_tensors
from pggan.training.engine.progress import Progress
from pggan.training.monitor import evaluation
from pggan.training.monitor.display import QuietDisplay
from pggan.training.monitor.evaluation import Evaluation
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.run.signals import Interrupted
from pggan.training.start import begin, resume
from pggan.utils.errors import OutOfMemoryError, UsageError


@pytest.fixture
def measured(config):
    """A short run with evaluations of a few pictures; of its models only the newest stays."""
    short = PerResolution(0.024)
    return dataclasses.replace(
        config, start_res=8, stable_kimg=short, fade_kimg=short, tick_kimg=PerResolution(0.016), keep_models=1,
        eval_every=1, eval_samples=8, eval_metrics=("neighbours", "swd"), best_metric="swd",
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole") / "run"


def done(config, path):
    """The run in that place, trained at the first call."""
    if not path.exists():
        begin(config, path, QuietDisplay())
    return RunDirectory(path)


def lines(run):
    return [{key: value for key, value in line.items() if "second" not in key} for line in read_log(run.log)]


def counters(run):
    values = read_metadata(run.states()[-1], STATE_KEY)["counters"]
    return {key: value for key, value in values.items() if "second" not in key}


def same(one, other):
    a, b = (safetensors.torch.load_file(str(path)) for path in (one, other))
    assert a
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.long
def test_a_run_with_evaluations_trains_as_one_without(measured, whole, tmp_path):
    run, plain = done(measured, whole), done(dataclasses.replace(measured, eval_every=0), tmp_path / "plain")
    assert same(run.states()[-1], plain.states()[-1])
    assert not plain.best.exists()
    ticks = read_log(run.log)
    assert ticks
    assert all("nearest_ratio" in line for line in ticks)
    with_swd = [line for line in ticks if "swd" in line]
    assert [line["resolution"] for line in with_swd] == [16] * len(with_swd)  # below it is not defined
    assert len(with_swd) >= 3
    events = EventAccumulator(str(run.events)).Reload()
    assert [event.step for event in events.Scalars("metric/swd")] == [line["nimg"] for line in with_swd]

    best = min(with_swd, key=lambda line: line["swd"])
    assert counters(run)["best_score"] == best["swd"]
    assert counters(run)["best_nimg"] == best["nimg"]
    info = read_metadata(run.best, "pggan.model")["info"]
    assert info["best"] == {"metric": "swd", "score": best["swd"], "pictures": 8}
    assert info["kimg"] == best["kimg"]
    assert len(run.models()) == 1  # the best one is none of those that make room


@pytest.mark.long
@pytest.mark.parametrize("how,call", [("signal", 2), ("signal", 4), ("crash", 5)])  # 2: a phase's end
def test_an_evaluation_that_was_cut_off_is_repeated(measured, whole, tmp_path, monkeypatch, how, call):
    original, calls = evaluation.evaluate_model, []

    def cut_off(*arguments, **options):
        calls.append(1)
        if len(calls) == call and how == "crash":
            raise KeyError("as if the machine had failed")
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **options)

    monkeypatch.setattr(evaluation, "evaluate_model", cut_off)
    if how == "crash":
        with pytest.raises(KeyError, match="as if the machine had failed"):
            begin(measured, tmp_path / "cut", QuietDisplay())
    else:
        assert begin(measured, tmp_path / "cut", QuietDisplay()).signal == signal.SIGTERM
    cut = RunDirectory(tmp_path / "cut")
    assert len([line for line in read_log(cut.log) if "nearest_ratio" in line]) == call - 1
    assert resume(cut, QuietDisplay()).signal == 0
    run = done(measured, whole)
    assert lines(cut) == lines(run)
    assert counters(cut) == counters(run)
    assert same(cut.states()[-1], run.states()[-1])
    assert same(cut.best, run.best)
    assert read_metadata(cut.best, "pggan.model") == read_metadata(run.best, "pggan.model")


@pytest.mark.long
@pytest.mark.parametrize("changes", [{"eval_every": 0}, {"eval_metrics": ("swd",)}])
def test_a_pending_evaluation_that_was_switched_off_is_left_out(measured, tmp_path, monkeypatch, changes):
    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        raise Interrupted

    monkeypatch.setattr(evaluation, "evaluate_model", interrupted)
    run = begin(measured, tmp_path / "run", QuietDisplay()).run  # at 8x8, where swd has no value
    assert counters(run)["evaluate"] == 3
    monkeypatch.undo()
    changes = {"best_metric": "swd", **changes}
    assert resume(run, QuietDisplay(), changes=changes).signal == 0


@pytest.mark.long
def test_checkpoints_without_a_best_score_resume(measured, whole, tmp_path):
    state = done(measured, whole).states()[0]
    about = read_metadata(state, STATE_KEY)["counters"]
    older = {key: value for key, value in about.items() if key != "evaluate" and not key.startswith("best_k")}
    path = tmp_path / "run"
    begin(dataclasses.replace(measured, total_kimg=0.02), path, QuietDisplay())
    run = RunDirectory(path)
    assert run.states()
    for path in run.states():
        write_tensors(path, read_tensors(path, STATE_KEY), STATE_KEY, {"counters": {**older, "nimg": 24}})
    assert resume(run, QuietDisplay()).signal == 0


def test_the_best_is_a_better_score_of_the_same_kind_or_the_first_of_another(config):
    def evaluated(**options):
        config_ = dataclasses.replace(config, **options)
        state = SimpleNamespace(config=config_, device=torch.device("cpu"), progress=progress)
        return Evaluation(state, None, None, QuietDisplay())

    def best(evaluation_, level, **figures):
        return evaluation_._is_best(SimpleNamespace(level=level, nimg=7), figures)

    progress = Progress()
    swd = evaluated(eval_metrics=("swd", "msssim"))
    assert best(swd, 4, swd=50.0)
    assert not best(swd, 4, swd=50.0)
    assert not best(swd, 4, swd=51.0)
    assert not best(swd, 4, swd=float("nan"))
    assert not best(swd, 4, msssim=0.1)
    assert best(swd, 4, swd=49.0)
    assert best(swd, 5, swd=90.0)  # the first at a higher resolution
    assert progress.best_score == 90
    assert best(evaluated(eval_metrics=("swd",), eval_samples=99), 5, swd=95.0)  # other pictures do not compare
    higher = evaluated(eval_metrics=("swd", "neighbours"), best_metric="neighbours")
    assert best(higher, 5, nearest_ratio=0.5)
    assert not best(higher, 5, nearest_ratio=0.4)
    assert best(higher, 5, nearest_ratio=0.6)


def test_impossible_evaluation_options_are_refused(config):
    for options, message in (
        ({"eval_metrics": ("swd", "fix")}, "fid"),
        ({"eval_metrics": ()}, "no metric"),
        ({"eval_metrics": ("swd",), "best_metric": "fid"}, "--best-metric"),
        ({"eval_metrics": ("fd",), "eval_every": 1}, "--embedding"),
        ({"eval_samples": 2}, "--eval-samples"),
        ({"eval_every": -1}, "--eval-every"),
    ):
        with pytest.raises(UsageError, match=message):
            dataclasses.replace(config, **options)


def test_every_command_uses_the_best_model_when_asked(measured, whole, tmp_path, capsys):
    run = done(measured, whole)
    arguments = [
        "generate",
        str(run.path),
        "--n",
        "2",
        "--best",
        "--json",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "p"),
    ]
    assert pggan(arguments) == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(run.best)
    walk = [str(run.path), "--best", "--json", "--seconds", "0.2", "--fps", "10", "--out", str(tmp_path / "walk.gif")]
    assert pggan(["interpolate", *walk]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(run.best)
    assert load(run.path, "cpu", best=True).path == run.best
    assert pggan(["info", str(run.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best_model"] == str(run.best)
    assert pggan(["generate", str(run.best), "--best", "--out", str(tmp_path / "p")]) == 2
    assert "is about a run" in capsys.readouterr().err
    assert pggan(["generate", str(tmp_path), "--best", "--out", str(tmp_path / "p")]) == 1
    assert "no best model yet" in capsys.readouterr().err


@pytest.mark.long
def test_memory_that_runs_out_leaves_the_evaluation_out(measured, tmp_path, monkeypatch):
    """While its pictures are made, and while they are measured."""
    errors = [
        OutOfMemoryError("out of memory with 1 pictures at a time"),
        torch.OutOfMemoryError("CUDA"),
        MemoryError(),
    ]

    def short(*_, **__):
        raise errors[calls.append(1) or len(calls) % len(errors)]

    calls = []
    monkeypatch.setattr(evaluation, "evaluate_model", short)
    run = begin(measured, tmp_path / "run", QuietDisplay()).run
    assert len(calls) >= len(errors)
    ticks = read_log(run.log)
    assert ticks
    assert not any("nearest_ratio" in line for line in ticks)
    assert run.states()
