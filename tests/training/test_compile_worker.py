"""Compiling beside the run: what is compiled, when it is waited for, and what becomes of a process that fails."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time

import pytest
import torch
from torch._dynamo.utils import counters

from pggan.config.train import to_json
from pggan.training.engine import compile_worker
from pggan.training.engine.compile_worker import CompileWorker, Task, fill_cache
from pggan.training.engine.gradients import distance, eager
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.utils.devices import set_precision
from tests.training.test_step_modes import SMALL, a_batch, recorder

LABELLED = dataclasses.replace(
    SMALL,
    label_size=3,
    labels="kind",
    held_out=0.1,
    loss_options=(("feature_matching", 1.0), ("augment", "diffaugment")),
)


def helper(program, monkeypatch, upcoming=lambda level: None, notes=None):
    monkeypatch.setattr(compile_worker, "_PROGRAM", program)
    return CompileWorker(SMALL, "cpu", "fp32", upcoming, (notes if notes is not None else []).append)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("config", [SMALL, LABELLED])
def test_compiles_what_a_run_computes(config):
    """The graphs of both players, for batches of the run's shapes; nothing is run."""
    graphs = []

    def backend(graph, inputs):
        graphs.append([tuple(each.shape) for each in inputs if torch.is_tensor(each)])

    torch._dynamo.reset()
    asked = {"config": to_json(config), "device": "cpu", "precision": "fp32", "threads": torch.get_num_threads()}
    fill_cache({**asked, "level": 3, "images": 4, "forward": bool(config.label_size)}, backend)
    assert len(graphs) == 2
    assert (4, 3, 8, 8) in graphs[0]  # of D
    assert all((4, config.latent_size) in shapes for shapes in graphs)
    torch._dynamo.reset()


def test_the_run_goes_on_until_the_code_is_there(monkeypatch):
    notes, gate = [], compile_worker.os.pipe()
    program = f"import os, sys; sys.stdin.readline(); os.read({gate[0]}, 1)"
    monkeypatch.setattr(compile_worker.subprocess, "Popen", _inheriting(gate[0]))
    compiling = helper(program, monkeypatch, lambda level: Task(level + 1, 4), notes)
    state = TrainState(SMALL, torch.device("cpu"), "fp32")
    computing = StepExecutor({3: "compiled"}, notes.append, None, recorder, compiling)
    inputs = a_batch(state, 3), 3, torch.tensor(0.5), torch.tensor(1.0)
    plain = {player: eager(state.setup, player, *inputs).found for player in "dg"}
    for _ in range(2):
        found = computing(state.setup, "d", *inputs).found
        assert all(g is None or torch.equal(g, found[name]) for name, g in plain["d"].items())
    assert notes == ["compiling the step at 8x8 beside the run, which goes on without until then"]
    os.write(gate[1], b"x")
    until(lambda: compiling.ready(3, 8))
    for player in "dg":
        assert distance(computing(state.setup, player, *inputs).found, plain[player]) < 1e-5
    assert notes[1].startswith("the step at 8x8: compiled, ")
    assert compiling._task == Task(4, 4, False)  # the next one's turn
    process = compiling._process
    compiling.close()
    assert process.poll() is not None
    for end in gate:
        os.close(end)


def _inheriting(handle):
    class Popen(compile_worker.subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, pass_fds=[handle], **options)

    return Popen


@pytest.mark.parametrize(
    "program,reason",
    [
        ("import sys; print('no\\nsuch instruction'); sys.exit(1)", "such instruction"),
        ("import os; os.kill(os.getpid(), 9)", "its process ended with -9"),
    ],
)
def test_a_process_that_fails_is_told(program, reason, monkeypatch):
    notes = []
    state = TrainState(SMALL, torch.device("cpu"), "fp32")
    computing = StepExecutor({3: "eager|compiled"}, notes.append, None, recorder, helper(program, monkeypatch))
    inputs = a_batch(state, 3), 3, torch.tensor(0.5), torch.tensor(1.0)
    until(lambda: computing(state.setup, "d", *inputs) and computing.modes == {3: "eager"})
    assert notes == [f"the step at 8x8 could not be compiled ({reason}); going on with eager"]


def test_only_where_a_core_is_free(monkeypatch):
    """On a CPU its threads and the run's would wait for each other; a GPU's budget has no room for a second process."""
    state = TrainState(SMALL, torch.device("cpu"), "fp32")
    monkeypatch.setattr(compile_worker, "available_cores", lambda: torch.get_num_threads() + 1)
    assert compile_worker.compiling_ahead(state, {2: "eager", 3: "eager|captured-eager"}, print) is None
    found = compile_worker.compiling_ahead(state, {2: "eager", 3: "compiled"}, print)
    assert found._upcoming(2) == Task(3, 8)
    assert found._upcoming(3) is None
    state.recompute(3)
    assert found._upcoming(2) is None
    monkeypatch.setattr(compile_worker, "available_cores", torch.get_num_threads)
    assert compile_worker.compiling_ahead(state, {3: "compiled"}, print) is None


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiles with g++")
def test_the_run_finds_the_code(tmp_path, monkeypatch):
    """From the process's cache: nothing is compiled a second time."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    set_precision("fp32")  # as a run does: the compiler's keys hold torch's switches
    state = TrainState(SMALL, torch.device("cpu"), "fp32")
    compiling = CompileWorker(SMALL, "cpu", "fp32", lambda level: None)
    try:
        deadline = time.monotonic() + 900
        while not compiling.ready(2, 8):
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        compiling.close()
    counters.clear()
    said = []
    computing = StepExecutor({2: "compiled"}, said.append, ahead=compiling)
    for player, part in compile_worker.example(state, 2, 8).items():
        inputs = part, 2, torch.tensor(0.7), torch.tensor(1.0)
        assert distance(computing(state.setup, player, *inputs).found, eager(state.setup, player, *inputs).found) < 1e-4
    assert said[-1].startswith("the step at 4x4: compiled, ")
    assert counters["inductor"]["fxgraph_cache_miss"] == 0
    assert counters["inductor"]["fxgraph_cache_hit"] == 2
