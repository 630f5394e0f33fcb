"""Courses that a run gives up: it rolls back, resumes with other options, or its newest checkpoint is damaged."""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest

from pggan.config.train import PerResolution
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.log_reader import read_log
from pggan.training.start import begin, resume
from tests.helpers.runs import Notes, poisoned


class SignalAt(Notes):
    """Sends this process a signal at numbers of images: those given, and one after a rollback."""

    def __init__(self, signals, after_rollback=None):
        super().__init__()
        self.signals, self.after_rollback = dict(signals), after_rollback or {}

    def show(self, scheduled):
        for nimg in [nimg for nimg in self.signals if nimg <= scheduled.nimg]:
            os.kill(os.getpid(), self.signals.pop(nimg))

    def note(self, message):
        super().note(message)
        if "went wrong" in message:
            self.signals |= self.after_rollback


@pytest.fixture
def sparse(config):
    """400 images at 8x8: a snapshot every 40 images, a checkpoint every 120."""
    return dataclasses.replace(
        config, tick_kimg=PerResolution(0.04), checkpoint_ticks=3, start_res=8, max_res=8, workers=0,
        stable_kimg=PerResolution(0.4),
    )  # fmt: skip


def test_a_rollback_leaves_nothing_of_the_course_that_it_gave_up(sparse, tmp_path, monkeypatch):
    """It saved at 176 images for a signal, diverged at 240 and went back to 120; then a signal stopped it at 144."""
    poisoned(monkeypatch, lambda call: 50 < call <= 60)
    notes = SignalAt({176: signal.SIGUSR1}, {144: signal.SIGTERM})
    stopped = begin(sparse, tmp_path / "run", notes)
    run = stopped.run
    assert any("back to 0.12 kimg" in said for said in notes.said)
    assert 144 <= stopped.nimg < 160
    assert [path.name for path in run.states()] == [run.state(120).name, run.interim_state(stopped.nimg).name]
    assert [path.name for path in run.models()] == [run.model(nimg).name for nimg in (40, 80, 120)]
    monkeypatch.undo()
    notes = Notes()
    resume(run, notes)
    assert notes.said[0].startswith(f"going on from {run.interim_state(stopped.nimg).name}")
    assert all(line["g_lr"] == 0.0005 for line in read_log(run.log) if line["nimg"] > 120)


def test_a_run_that_resumes_with_other_options_writes_its_own_snapshots(sparse, tmp_path):
    """The run was killed at 240 images, after snapshots that no checkpoint has."""
    run = begin(dataclasses.replace(sparse, total_kimg=0.24), tmp_path / "run", QuietDisplay()).run
    run.state(240).unlink()
    before = {path.name: path.read_bytes() for path in run.models()}
    resume(run, QuietDisplay(), changes={"g_lr": PerResolution(0.01)}, override=True)
    after = {path.name: path.read_bytes() for path in run.models()}
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == [run.model(n).name for n in (160, 200, 240)]


def test_beyond_a_damaged_checkpoint_what_is_saved_stays(sparse, tmp_path):
    """Resumed from the checkpoint before, a run saves one that is due, and one for a signal."""
    run = begin(dataclasses.replace(sparse, total_kimg=0.36), tmp_path / "run", QuietDisplay()).run
    run.state(360).write_bytes(b"damaged")
    run.state(240).unlink()
    stopped = resume(run, SignalAt({264: signal.SIGTERM}), changes={"keep_checkpoints": 1, "keep_models": 1})
    assert stopped.nimg < 360
    assert run.interim_state(stopped.nimg).exists()
    assert run.state(240).exists()
    notes = Notes()
    resume(run, notes)
    assert "trying the one before" in notes.said[0]
    assert notes.said[1].startswith(f"going on from {run.interim_state(stopped.nimg).name}")
