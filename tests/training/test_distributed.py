"""Several processes (gloo, on the CPU) against one: gradients, weights, signals, a lost process, other world sizes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.utils.distributed import SINGLE_PROCESS, World, buckets, world_from_environment
from pggan.utils.errors import UsageError
from tests.helpers.runs import ONE_THREAD
from tests.helpers.waiting import PATIENCE, wait_for

OPTIONS = [
    "--fmap-base", "64", "--fmap-max", "8", "--latent-size", "8", "--batch", "16", "--tick-kimg", "0.08",
    "--stable-kimg", "0.08", "--fade-kimg", "0.08", "--workers", "1", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "store"
    prepare("drawn:40", path, PrepareOptions(max_res=8))
    return path


def train(data, out, *more, wait=True):
    command = [sys.executable, "-m", "pggan", "train", str(data), "--out", str(out), *OPTIONS, *more]
    if not wait:
        return subprocess.Popen(command, env=ONE_THREAD, stderr=subprocess.PIPE, text=True)
    return subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, check=False, timeout=PATIENCE)


def model_of(run):
    return safetensors.torch.load_file(str(RunDirectory(run).models()[-1]))


@pytest.mark.slow
@pytest.mark.long
def test_two_and_four_processes_train_what_one_does(data, tmp_path):
    """The same data and noise: fifteen iterations over three phases, with micro-batches beside."""
    for name, more in (
        ("one", ()),
        ("two", ("--gpus", "2")),
        ("four", ("--gpus=4",)),
        ("parts", ("--gpus", "2", "--micro-batch", "4", "--labels", "hair")),
        ("labelled", ("--labels", "hair")),
        ("half", ("--precision", "bf16")),
        ("half-two", ("--precision", "bf16", "--gpus", "2")),
    ):
        done = train(data, tmp_path / name, *more)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("trained") == 1  # one process speaks
    for name, like in (("two", "one"), ("four", "one"), ("parts", "labelled")):
        a, b = model_of(tmp_path / like), model_of(tmp_path / name)
        # Adam with beta1 0 makes a whole step of a gradient's sign: where it is near 0, rounding decides
        different = torch.cat([(a[key] - b[key]).abs().flatten() for key in a])
        assert (different < 1e-5).float().mean() > 0.999, name
        lines, others = (read_log(RunDirectory(tmp_path / each).log) for each in (like, name))
        assert [line["nimg"] for line in lines] == [line["nimg"] for line in others]
        for line, other in zip(lines, others):
            assert line["d_loss"] == pytest.approx(other["d_loss"], abs=1e-4)
            assert line["gradient_norm"] == pytest.approx(other["gradient_norm"], abs=1e-4)

    # in half precision one and two processes round alike in almost every weight: their samples do not meet before
    a, b = model_of(tmp_path / "half"), model_of(tmp_path / "half-two")
    different = torch.cat([(a[key] - b[key]).abs().flatten() for key in a])
    assert (different < 1e-2).float().mean() > 0.99
    lines, others = (read_log(RunDirectory(tmp_path / each).log) for each in ("half", "half-two"))
    assert lines[0]["d_loss"] == pytest.approx(others[0]["d_loss"], abs=0.05)


GRADIENTS = """
import json, sys, torch
from pathlib import Path
from pggan.config.train import from_json, TrainConfig
from pggan.data.store.store import Store
from pggan.data.loading.loader import LoadedBatch
from pggan.utils.distributed import process_group
from pggan.training.engine import step
from pggan.training.engine.batch_builder import BatchBuilder
from pggan.training.engine.loss_functions import StepInputs
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode
from pggan.training.engine.state import TrainState
config = from_json(TrainConfig, json.loads(sys.argv[1]))
device = torch.device("cpu")
with process_group(device) as world:
    state = TrainState(config, device, "fp32", world)
    executor = StepExecutor(state, {3: StepMode(sys.argv[3])}, backend=None)
    store = Store(config.data)
    own = list(range(16))[world.rank :: world.size]
    loaded = LoadedBatch(store.read(8, own), store.labels[own], None)
    feed, alpha = BatchBuilder(state, 0, None), torch.tensor(0.3)
    found = {}
    for player in ("discriminator", "generator"):
        batch = feed.d_batch(loaded, 32, alpha)
        if player == "generator":
            batch = feed.g_batch(batch, 48)
        gradients, _, _ = step.compute_gradients(executor, StepInputs(player[0], 3, batch, alpha, torch.ones(())))
        found |= {f"{player}.{k}": g for k, g in gradients.items() if g is not None}
    if world.is_main_process:
        torch.save(found, sys.argv[2])
"""


TECHNIQUES = {
    "loss": "gan", "g_norm": "virtual-batch", "d_norm": "weight", "categorical": (3,), "continuous": 1,
    "loss_options": (
        ("label_smoothing", 0.9), ("instance_noise", 0.3), ("feature_matching", 0.5), ("feature_matching_mode", "add"),
        ("historical_averaging", 0.1), ("augment", "diffaugment"),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    "options,runs",
    [
        ({}, ((1, "eager"), (2, "compiled"), (4, "eager"))),
        (TECHNIQUES, ((1, "eager"), (2, "eager"))),
        ({"loss": "began"}, ((1, "eager"), (2, "compiled"))),
    ],
    ids=["default", "techniques", "began"],
)
def test_gradients_of_one_process(data, tmp_path, options, runs):
    from pggan.config.train import PerResolution, TrainConfig, to_json

    common = {"max_res": 8, "latent_size": 8, "fmap_base": 64, "fmap_max": 8, "batch": PerResolution(16)}
    config = TrainConfig(data=str(data), device="cpu", **common, **options)
    found = {}
    for size, mode in runs:
        out = tmp_path / f"{size}.pt"
        common = {**ONE_THREAD, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29510 + size + os.getpid() % 20000)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", GRADIENTS, json.dumps(to_json(config)), str(out), mode],
                env={**common, "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)},
            )
            for rank in range(size)
        ]
        assert [process.wait(PATIENCE) for process in processes] == [0] * size
        found[size] = torch.load(out, weights_only=True)
    for size in [size for size, _ in runs[1:]]:
        assert found[size].keys() == found[1].keys()
        for name, g in found[1].items():
            assert (g - found[size][name]).abs().max() <= 1e-6 * max(1.0, float(g.abs().max())), name


@pytest.mark.slow
@pytest.mark.long
def test_resumed_with_another_number_of_processes(data, tmp_path):
    """Stopped as two, gone on as one; the other way round; both get where one process gets."""
    whole = train(data, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    for name, first, then in (("a", ["--gpus", "2"], []), ("b", [], ["--gpus", "2"])):
        cut = train(data, tmp_path / name, "--total-kimg", "0.112", *first)
        assert cut.returncode == 0, cut.stderr
        options = tmp_path / name / "options.json"
        values = json.loads(options.read_text())
        values["config"]["total_kimg"] = None
        options.write_text(json.dumps(values))
        command = [sys.executable, "-m", "pggan", "train", "--resume", str(tmp_path / name), "--device", "cpu", *then]
        done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        a, b = model_of(tmp_path / "whole"), model_of(tmp_path / name)
        different = torch.cat([(a[key] - b[key]).abs().flatten() for key in a])
        assert (different < 1e-5).float().mean() > 0.999


def children(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
        return [int(number) for number in file.read().split()]


LONG = ["--stable-kimg", "4:0.08,8:1000", "--checkpoint-ticks", "1", "--mode", "eager"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="finds child processes in /proc")
def test_a_lost_process_is_noticed_and_the_run_goes_on_afterwards(data, tmp_path):
    run = tmp_path / "run"
    process = train(data, run, "--gpus", "2", *LONG, wait=False)
    wait_for(RunDirectory(run).states, process)
    os.kill(children(process)[1], signal.SIGKILL)
    assert process.wait(PATIENCE) != 0
    error = process.stderr.read()
    assert "Traceback" not in error
    assert re.search(r"process 1 was killed by signal 9|another process of the run is gone", error)
    again = subprocess.Popen(
        [sys.executable, "-m", "pggan", "train", "--resume", str(run), "--gpus", "2", "--device", "cpu"],
        env=ONE_THREAD, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    states = len(RunDirectory(run).states())
    newest = RunDirectory(run).states()[-1]
    wait_for(lambda: RunDirectory(run).states()[-1] != newest, again)
    again.send_signal(signal.SIGTERM)
    assert again.wait(PATIENCE) == 143, again.stderr.read()
    assert states
    assert "going on from" in again.stderr.read()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_all_processes(number, data, tmp_path):
    run = tmp_path / "run"
    process = train(data, run, "--gpus", "2", *LONG, wait=False)
    wait_for(RunDirectory(run).states, process)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 128 + number
    error = process.stderr.read()
    assert error.count("stopped and saved") == 1
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="compiles with g++")
def test_a_signal_reaches_processes_that_wait_for_the_compiler(data, tmp_path, monkeypatch):
    monkeypatch.setitem(ONE_THREAD, "TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    process = train(data, tmp_path / "run", "--gpus", "2", "--mode", "compiled", wait=False)
    lines = iter(process.stderr.readline, "")
    assert any("the run waits for it" in line for line in lines)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 143
    notes = process.stderr.read()
    assert "stopped and saved" in notes
    assert ": compiled, " not in notes
    assert RunDirectory(tmp_path / "run").states()


@pytest.mark.long
def test_batches_that_cannot_be_shared(data, tmp_path):
    done = train(data, tmp_path / "run", "--gpus", "3")
    assert done.returncode == 2
    assert "cannot share a batch of 16 at 4x4: it has 4 groups" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_launchers_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert world_from_environment() == SINGLE_PROCESS
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert world_from_environment() == World(3, 8, 3)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert world_from_environment() == World(3, 8, 1)
    for name, value in (("RANK", "8"), ("RANK", "x"), ("RANK", "-1")):
        monkeypatch.setenv(name, value)
        with pytest.raises(UsageError, match="torchrun"):
            world_from_environment()


def test_buckets(monkeypatch):
    monkeypatch.setattr("pggan.utils.distributed.BUCKET_BYTES", 100)
    tensors = [torch.zeros(n, dtype=t) for n, t in ((10, torch.float32), (10, torch.float32), (10, torch.float32),
               (1, torch.float64), (100, torch.float64), (1, torch.float64))]  # fmt: skip
    found = list(buckets(tensors))
    assert [len(bucket) for bucket in found] == [2, 1, 1, 1, 1]
    assert [id(t) for bucket in found for t in bucket] == [id(t) for t in tensors]
