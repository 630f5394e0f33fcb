"""Signals change nothing of a run: it leaves the files of one without them, stopped and resumed wherever it may be."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time

import pytest
import safetensors

from pggan.config.model_metadata import MODEL_KEY, STATE_KEY, read_metadata
from pggan.config.train import PerResolution
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.signals import Interrupted, Signals
from pggan.training.start import begin, resume
from pggan.utils.distributed import SINGLE_PROCESS
from tests.helpers.runs import same


class SignalsAt(QuietDisplay):
    """Sends this process signals after so many images: {images: signal}."""

    def __init__(self, signals):
        self.signals = dict(signals)

    def show(self, scheduled):
        for nimg in [nimg for nimg in self.signals if scheduled.nimg >= nimg]:
            os.kill(os.getpid(), self.signals.pop(nimg))


@pytest.fixture(scope="module")
def options():
    return {
        "eval_every": 1, "eval_samples": 16, "eval_metrics": ("swd",), "snapshot_ticks": 2, "checkpoint_ticks": 3,
        "keep_checkpoints": 2, "keep_models": 4, "raw_models": "always",
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run, once for all tests of this file."""
    return tmp_path_factory.mktemp("whole") / "run"


def uninterrupted(config, path):
    if not path.exists():
        begin(config, path, QuietDisplay())
    return RunDirectory(path)


def files(run):
    """The files of a run but TensorBoard's, of which every start makes one."""
    paths = (path.relative_to(run.path) for path in run.path.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if path.parts[0] != "events")


def timeless(values):
    return {name: value for name, value in values.items() if "second" not in name}


def log_of(run):
    return [timeless(json.loads(line)) for line in run.log.read_text().splitlines()]


def check_equal(one, other):
    assert files(one) == files(other)
    for name in files(one):
        a, b = one.path / name, other.path / name
        if name.startswith("checkpoints"):
            assert same(a, b), name
            counters = [timeless(read_metadata(path, STATE_KEY)["counters"]) for path in (a, b)]
            assert counters[0] == counters[1], name
        elif name.startswith("models"):  # the library writes the metadata's entries in any order
            assert same(a, b), name
            assert read_metadata(a, MODEL_KEY) == read_metadata(b, MODEL_KEY)
        elif name.startswith("samples"):
            assert a.read_bytes() == b.read_bytes(), name
    assert log_of(one) == log_of(other)


@pytest.mark.long
@pytest.mark.parametrize(
    "points",
    [
        {24: signal.SIGUSR1, 56: signal.SIGUSR1, 104: signal.SIGUSR1},  # at lines of the log
        {16: signal.SIGUSR1, 88: signal.SIGUSR1, 160: signal.SIGUSR1},  # between two
        {32: signal.SIGTERM},
        {64: signal.SIGTERM, 152: signal.SIGTERM},  # also before a snapshot and an evaluation
        {40: signal.SIGINT, 88: signal.SIGUSR1, 96: signal.SIGTERM, 192: signal.SIGTERM},
    ],
)
def test_a_run_with_signals_leaves_what_one_without_does(config, options, whole, tmp_path, points):
    config = dataclasses.replace(config, **options)
    run = uninterrupted(config, whole)
    cut, display = RunDirectory(tmp_path / "run"), SignalsAt(points)
    result = begin(config, cut.path, display)
    stops = 0
    while result.signal:
        stops += 1
        assert any(path.stem.endswith(f"{result.nimg:09d}") for path in cut.states())
        result = resume(cut, display)
    assert not display.signals
    assert stops == sum(number != signal.SIGUSR1 for number in points.values())
    check_equal(run, cut)


@pytest.mark.long
def test_a_checkpoint_between_two_lines_stays_until_a_newer_one_is_due(config, tmp_path):
    every = dataclasses.replace(config, checkpoint_ticks=1000, snapshot_ticks=1000, stable_kimg=PerResolution(0.08))
    stopped = begin(every, tmp_path / "run", SignalsAt({8: signal.SIGUSR1, 16: signal.SIGUSR1, 28: signal.SIGTERM}))
    run = RunDirectory(tmp_path / "run")
    assert [path.name for path in run.states()] == [f"interim-{stopped.nimg:09d}.safetensors"]
    with safetensors.safe_open(run.states()[0], "pt") as file:
        sums = [name for name in file.keys() if name.startswith("tick.")]  # noqa: SIM118
    assert sums  # of the line that is not written yet
    resume(run, QuietDisplay())
    assert all(path.name.startswith("state-") for path in run.states())


@pytest.mark.long
@pytest.mark.parametrize("place", ["grid", "measure"])
def test_a_stop_does_not_wait_for_snapshots_and_evaluations(config, options, whole, tmp_path, place, monkeypatch):
    """The signal comes within the work, which a later start does again."""
    config = dataclasses.replace(config, **options)
    run = uninterrupted(config, whole)
    from pggan.training.monitor.evaluation import Evaluation
    from pggan.training.run.snapshots import Snapshots

    owner, calls = {"grid": Snapshots, "measure": Evaluation}[place], []
    original = getattr(owner, place)

    def slow(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return original(*arguments)

    monkeypatch.setattr(owner, place, slow)
    cut, start = RunDirectory(tmp_path / "run"), time.monotonic()
    assert begin(config, cut.path, QuietDisplay()).signal == signal.SIGTERM
    assert time.monotonic() - start < 60
    assert resume(cut, QuietDisplay()).signal == 0
    check_equal(run, cut)


def test_a_request_to_stop_interrupts_one_process_only():
    several = dataclasses.replace(SINGLE_PROCESS, size=2)
    with Signals() as signals:
        with signals.interrupting(several):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted), signals.interrupting(SINGLE_PROCESS):
            raise AssertionError("a request came before")
    with Signals() as signals, pytest.raises(Interrupted), signals.interrupting(SINGLE_PROCESS):
        signal.raise_signal(signal.SIGTERM)
