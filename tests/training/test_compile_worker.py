"""Compiling beside the run: what is compiled, when the run waits for it, and what becomes of a process that fails."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import threading

import pytest
import torch
from torch._dynamo.utils import counters

from pggan.config.train import to_json
from pggan.training.engine import compile_worker
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.compile_worker import CompileTask, CompileWorker, fill_cache, start_compile_worker
from pggan.training.engine.gradients import distance, eager
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode
from pggan.training.run.directory import RunDirectory
from pggan.training.start import begin, resume
from pggan.utils.devices import set_precision
from tests.helpers.runs import Notes
from tests.helpers.step_modes import SMALL, executed
from tests.helpers.waiting import wait_for

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


@pytest.mark.long
@pytest.mark.parametrize("config", [SMALL, LABELLED])
def test_compiles_what_a_run_computes(config):
    """The graphs of both players, for batches of the run's shapes; nothing is run."""
    graphs = []

    def backend(graph, inputs):
        graphs.append([tuple(each.shape) for each in inputs if torch.is_tensor(each)])

    torch._dynamo.reset()
    task = {"config": to_json(config), "device": "cpu", "precision": "fp32", "threads": torch.get_num_threads()}
    fill_cache({**task, "level": 3, "images": 4}, backend)
    assert len(graphs) == 2
    assert (4, 3, 8, 8) in graphs[0]  # of D
    assert all((4, config.latent_size) in shapes for shapes in graphs)
    torch._dynamo.reset()


@pytest.mark.long
@pytest.mark.parametrize("mode", [StepMode.COMPILED, StepMode.CAPTURED])
def test_the_run_goes_on_until_the_code_is_there(mode, monkeypatch):
    """In the mode's stand-in: eager, or captured without the compiler; the next iteration takes the code over."""
    gate = compile_worker.os.pipe()
    program = f"import os, sys; sys.stdin.readline(); os.read({gate[0]}, 1)"
    monkeypatch.setattr(compile_worker.subprocess, "Popen", _inheriting(gate[0]))
    executor, notes, inputs = executed({3: mode})
    executor.worker = worker = helper(program, monkeypatch, lambda level: CompileTask(level + 1, 4), notes)
    both = {player: dataclasses.replace(inputs, player=player) for player in "dg"}
    plain = {player: eager(executor.state.context, both[player]).by_name for player in "dg"}
    for _ in range(2):
        for player in "dg":
            assert distance(executor(both[player]).by_name, plain[player]) < 1e-5
    assert notes[0] == "compiling the step at 8x8 beside the run, which goes on without until then"
    captured = [] if mode is StepMode.COMPILED else ["the step at 8x8: captured-eager"]
    assert [line.split(",")[0] for line in notes[1:]] == captured
    os.write(gate[1], b"x")
    wait_for(lambda: worker.ready(3, 8))
    for player in "dg":
        assert distance(executor(both[player]).by_name, plain[player]) < 1e-5
    assert notes[-1].startswith(f"the step at 8x8: {mode.value}, ")
    assert worker._task == CompileTask(4, 4)  # the next one's turn
    process = worker._process
    worker.close()
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
def test_a_failed_process_is_reported_and_the_run_goes_on_eagerly(program, reason, monkeypatch):
    executor, notes, inputs = executed({3: StepMode.COMPILED})
    executor.worker = helper(program, monkeypatch)
    wait_for(lambda: executor(inputs) and executor.modes == {3: StepMode.EAGER})
    assert notes == [f"the step at 8x8 could not be compiled ({reason}); going on with eager"]


def test_only_where_a_core_is_free(monkeypatch):
    """On a CPU its threads and the run's would wait for each other; a GPU's budget has no room for a second process."""
    monkeypatch.setattr(compile_worker, "available_cores", lambda: torch.get_num_threads() + 1)
    captured, _, _ = executed({2: StepMode.EAGER, 3: StepMode.CAPTURED_EAGER})
    assert start_compile_worker(captured) is None
    executor, _, _ = executed({2: StepMode.EAGER, 3: StepMode.COMPILED})
    worker = start_compile_worker(executor)
    assert executor.worker is worker
    assert worker._upcoming(2) == CompileTask(3, 8)
    assert worker._upcoming(3) is None
    executor.checkpoint(3)
    assert worker._upcoming(2) is None
    monkeypatch.setattr(compile_worker, "available_cores", torch.get_num_threads)
    executor, _, _ = executed({2: StepMode.EAGER, 3: StepMode.COMPILED})
    assert start_compile_worker(executor)._upcoming(2) is None


def test_a_run_on_a_cpu_waits_for_the_compiler(monkeypatch):
    """No step of a phase is computed in another mode."""
    executor, notes, inputs = executed({3: StepMode.COMPILED})
    monkeypatch.setattr(compile_worker, "_PROGRAM", "import sys, time; sys.stdin.readline(); time.sleep(0.5)")
    worker = start_compile_worker(executor)
    executor.prepare(3, inputs.images)
    assert worker._done == {CompileTask(3, inputs.images)}
    assert distance(executor(inputs).by_name, eager(executor.state.context, inputs).by_name) < 1e-5
    executor(dataclasses.replace(inputs, player="g"))
    assert notes[0] == "compiling the step at 8x8: the run waits for it"
    assert [line.split(",")[0] for line in notes[1:]] == ["the step at 8x8: compiled"]


def test_a_stop_is_heard_while_the_run_waits(config, tmp_path, monkeypatch):
    """The run is saved at once, and the compiler ends with it."""
    workers = []

    class Stopped(Notes):
        def note(self, message):
            super().note(message)
            if message.startswith("compiling"):
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()

    def start(executor):
        workers.append(start_compile_worker(executor))
        return workers[-1]

    monkeypatch.setattr(compile_worker, "_PROGRAM", "import time; time.sleep(600)")
    monkeypatch.setattr("pggan.training.loop.start_compile_worker", start)
    run, stopped = RunDirectory(tmp_path / "run"), Stopped()
    result = begin(dataclasses.replace(config, mode="compiled"), run.path, stopped)
    assert (result.signal, result.nimg) == (signal.SIGTERM, 0)
    assert [path.name for path in run.states()] == [run.interim_state(0).name]
    assert workers[0]._process is None
    resumed = resume(run, Notes(), changes={"mode": "eager", "total_kimg": 0.016}, override=True)
    assert (resumed.signal, resumed.nimg) == (0, 16)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiles with g++")
def test_the_run_finds_the_code(tmp_path, monkeypatch):
    """From the process's cache: nothing is compiled a second time, though one thread of two computes this step."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    set_precision("fp32")  # as a run does: the compiler's keys hold torch's switches
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    said, state = [], TrainState(SMALL, torch.device("cpu"), "fp32")
    executor = StepExecutor(state, {2: StepMode.COMPILED}, said.append, single_thread=(2,))
    worker = start_compile_worker(executor)
    try:
        wait_for(lambda: worker.ready(2, 8))
        counters.clear()
        with executor.step_at(2):
            for inputs in example_inputs(state, 2, 8).values():
                inputs = dataclasses.replace(inputs, alpha=torch.tensor(0.7))
                assert distance(executor(inputs).by_name, eager(state.context, inputs).by_name) < 1e-4
    finally:
        torch.set_num_threads(before)
        worker.close()
    assert said[-1].startswith("the step at 4x4: compiled, ")
    assert counters["inductor"]["fxgraph_cache_miss"] == 0
    assert counters["inductor"]["fxgraph_cache_hit"] == 2
