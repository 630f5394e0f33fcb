"""Trackers: what a run sends, once, also where it resumes or goes back; a failure there never ends the run."""

import dataclasses
import json
import sys

import pytest

from pggan.cli import run as pggan
from pggan.config.train import PerResolution
from pggan.training.run.call_options import CallOptions
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log import RunLog
from pggan.training.run.log_reader import read_log
from pggan.training.run.prune import prune
from pggan.training.run.trackers import TRACKERS, Tracker, find_tracker
from pggan.training.start import begin, resume
from pggan.utils.errors import TrainingError, UsageError
from tests.helpers.runs import Notes
from tests.helpers.tracker_module import Service


@pytest.fixture(params=TRACKERS)
def service(request, monkeypatch):
    service = Service(request.param)
    monkeypatch.setitem(sys.modules, request.param, service.module())
    return service


@pytest.fixture
def short(config):
    few = PerResolution(0.024)
    return dataclasses.replace(
        config,
        start_res=8,
        stable_kimg=few,
        fade_kimg=few,
        eval_every=1,
        eval_samples=8,
        tick_kimg=PerResolution(0.016),
    )


def values_of(service, name):
    (run,) = service.runs.values()
    return [(row["nimg"], row[name]) for row in run["rows"] if name in row]


@pytest.mark.long
def test_a_run_sends_hyperparameters_scalars_grids_and_its_best_model(short, tmp_path, service, capsys):
    begin(short, tmp_path / "run", Notes(), call=CallOptions(track=service.kind))
    run, (sent,) = RunDirectory(tmp_path / "run"), service.runs.values()
    ticks = read_log(run.log)
    assert len(ticks) >= 4
    assert values_of(service, "loss/d_loss") == [(line["nimg"], line["d_loss"]) for line in ticks]
    assert values_of(service, "progress/alpha") == [(line["nimg"], line["alpha"]) for line in ticks]
    measured = [(line["nimg"], line["swd"]) for line in ticks if "swd" in line]
    assert values_of(service, "metric/swd") == measured
    assert len(measured) >= 2
    grids = values_of(service, "samples")
    assert [nimg for nimg, _ in grids] == [line["nimg"] for line in ticks]
    assert grids[0][1].shape[-1] == 3
    assert sent["config"]["max_res"] == 16
    assert sent["config"]["data"] == "store"  # the folder's name, not where it lies
    artifact, aliases = sent["artifacts"][-1]
    assert (aliases, artifact.type) == (["best"], "model")
    assert artifact.files == [run.best.read_bytes()]
    assert values_of(service, "best/swd")[-1][1] == min(score for _, score in measured)
    assert service.tracked.finished
    if service.kind == "wandb":
        assert sent["metrics"] == [("nimg", None), ("*", "nimg")]
        assert {row["step"] for row in sent["rows"]} == {None}
    else:
        assert all(row["step"] == row["nimg"] for row in sent["rows"])
    assert "a tracker talks" not in capsys.readouterr().out  # stdout is for results


@pytest.mark.long
def test_a_resumed_run_goes_on_there_without_doubles(short, tmp_path, service):
    begin(short, tmp_path / "run", Notes(), call=CallOptions(track=service.kind))
    run = RunDirectory(tmp_path / "run")
    whole = [values_of(service, name) for name in ("loss/d_loss", "metric/swd")]
    for path in run.states()[-2:]:  # as if it had been killed before
        path.unlink()
    resume(run, Notes(), call=CallOptions(track=service.kind))
    assert service.starts == 2
    assert [values_of(service, name) for name in ("loss/d_loss", "metric/swd")] == whole
    resume(run, Notes())  # without --track nothing is sent
    assert service.starts == 2
    prune(run)
    assert not run.tracker.exists()


def test_values_that_were_pending_are_sent_after_a_resume(tmp_path, service):
    (tmp_path / "run").mkdir()
    run, notes = RunDirectory(tmp_path / "run"), []
    line = {"nimg": 1000, "kimg": 1.0, "d_loss": 1.0, "resolution": 8, "alpha": 1.0}
    for measured in (False, True):
        with RunLog(run, 1000, notes.append, [Tracker(service.kind, run, {}, notes.append)]) as log:
            log.tick(line)
            if measured:
                log.add_metrics(1000, {"swd": 5.0, "msssim": None})
            log.rewind(0)  # of a run that diverged: what was sent stays
            log.tick({**line, "nimg": 500})
            log.tick({**line, "nimg": 2000 + measured})
    assert values_of(service, "loss/d_loss") == [(1000, 1.0), (2000, 1.0), (2001, 1.0)]
    assert values_of(service, "metric/swd") == [(1000, 5.0)]
    assert values_of(service, "metric/msssim") == []
    assert notes == []


def test_a_tracker_that_fails_is_noted_once_and_the_run_goes_on(tmp_path, service):
    (tmp_path / "run").mkdir()
    run, notes = RunDirectory(tmp_path / "run"), []
    with RunLog(run, 0, notes.append, [Tracker(service.kind, run, {}, notes.append)]) as log:
        for nimg in (1, 2, 3, 4):
            service.fails = nimg in (2, 3)
            log.tick({"nimg": nimg, "kimg": nimg / 1000, "d_loss": 0.0})
    assert notes == [f"WARNING: {service.kind} did not take the run's values (no route to host). The run goes on"]
    assert [nimg for nimg, _ in values_of(service, "loss/d_loss")] == [1, 4]
    assert len(run.log.read_text().splitlines()) == 4


def test_one_that_cannot_start_is_an_error_before_training(tmp_path, service, monkeypatch):
    def init(**options):
        raise PermissionError("api_key not\nconfigured")

    monkeypatch.setattr(sys.modules[service.kind], "init", init)
    (tmp_path / "run").mkdir()
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(TrainingError, match=r"did not start \(api_key not configured\); mend that, or leave --track"):
        RunLog(run, 0, print, [Tracker(service.kind, run, {}, print)])


@pytest.mark.parametrize("content", ["", "[]", "{", '{"wandb": {"id": "../../x", "sent": 1}}', '{"wandb": 7}'])
def test_a_damaged_memory_of_the_run_is_a_new_run_there(tmp_path, content, monkeypatch):
    service = Service("wandb")
    monkeypatch.setitem(sys.modules, "wandb", service.module())
    (tmp_path / "run").mkdir()
    run = RunDirectory(tmp_path / "run")
    run.tracker.write_text(content)
    with RunLog(run, 0, print, [Tracker("wandb", run, {}, print)]) as log:
        log.tick({"nimg": 1, "d_loss": 0.0})
    (key,) = service.runs
    assert json.loads(run.tracker.read_text())["wandb"] == {"id": key, "sent": {"tick": 1}}


def test_a_package_that_is_missing_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="--track wandb needs one more package: pip install wandb"):
        find_tracker("wandb")
    assert pggan(["train", "--track", "wandb", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("pggan: error: --track wandb needs one more package")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="none of wandb, trackio"):
        find_tracker("os")
