"""Memory on a CPU: the smallest micro-batch is tried, larger ones only where they fit, and nothing is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from pggan.config.train import PerResolution, to_json
from pggan.data.store.store import Store
from pggan.training import start
from pggan.training.engine import memory_trial
from pggan.training.engine.environment import RunEnvironment
from pggan.training.engine.memory_estimate import USABLE, image_bytes, micro_batch_sizes
from pggan.training.engine.memory_trial import fit_micro_batch, measure_micro_batch
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.start import begin, fit_to_data, resume
from pggan.utils import devices, distributed
from pggan.utils.errors import UsageError
from tests.helpers.runs import ONE_THREAD, Notes, same
from tests.helpers.waiting import PATIENCE

CPU = torch.device("cpu")
MIB = 1 << 20
measures = pytest.mark.skipif(not devices.can_measure(CPU), reason="this system does not tell a process's peak")


def one_level(config, **options):
    return dataclasses.replace(config, **{"start_res": 16, "stddev_group": 2, "cache": "none", **options})


def fitted(config, monkeypatch, free, measured=0.0, data=0, in_pass=0):
    """What a run plans at 16x16 with `free` MiB beside 100 MiB held, where an image takes 10 MiB, 4 checkpointed."""
    monkeypatch.setattr(memory_trial, "held_memory", lambda device: 100 * MIB)
    monkeypatch.setattr(memory_trial, "memory_limit", lambda config, device: (100 + free) * MIB / USABLE)
    monkeypatch.setattr(memory_trial, "image_bytes", lambda *a: (4 if a[3] else 10) * MIB)
    monkeypatch.setattr(memory_trial, "pass_bytes", lambda *a: in_pass * MIB)
    monkeypatch.setattr(memory_trial, "MOMENTS_AND_GRADIENT", 0)
    tried = []
    monkeypatch.setattr(
        memory_trial, "measure_micro_batch", lambda executor, level, n: tried.append(n) or measured * MIB
    )
    said, state = [], TrainState(config, CPU, "fp32")
    executor = StepExecutor(state, note=said.append)
    fit_micro_batch(executor, state.schedule.at(0), data)
    return 8 // executor.num_micro_batches(4, 8), 4 in executor.checkpointed, tried, said


@pytest.mark.parametrize(
    "free,measured,micro_batch,checkpointed,tried",
    [
        (1000, 0, 8, False, [2]),  # room for all: only the smallest is tried
        (60, 0, 4, False, [2]),
        (30, 0, 2, False, []),  # the smallest is left: nothing to decide
        (15, 0, 2, True, []),
        (100, 40, 4, False, [2]),  # an image takes twice the estimate
        (60, 50, 2, False, [2]),
    ],
)
def test_micro_batches_are_as_large_as_the_estimate_allows(
    config, monkeypatch, free, measured, micro_batch, checkpointed, tried
):
    found = fitted(one_level(config), monkeypatch, free, measured)
    assert found[:3] == (micro_batch, checkpointed, tried)
    assert all("too little memory is free" in line for line in found[3])
    assert bool(found[3]) == (micro_batch < 8)


def test_what_a_trial_corrects_is_the_whole_estimate(config, monkeypatch):
    """2 images took 80 MiB instead of 20 and the pass's 20: 4 take 120."""
    assert fitted(one_level(config), monkeypatch, 119, 80, in_pass=20)[:3] == (2, False, [2])
    assert fitted(one_level(config), monkeypatch, 121, 80, in_pass=20)[:3] == (4, False, [2])


def test_memory_without_room_for_a_group_is_refused_before_anything_is_tried(config, monkeypatch):
    with pytest.raises(UsageError, match="too little for 16x16: 2 images at once take about"):
        fitted(one_level(config), monkeypatch, 5)


def test_images_that_the_loader_caches_are_left_out(config, monkeypatch):
    config = one_level(config, cache="auto", cache_mb=100)
    images = 60 * MIB // (config.channels * 16 * 16)
    assert [fitted(config, monkeypatch, 110, data=data)[0] for data in (0, images)] == [8, 4]


@pytest.mark.long
@measures
def test_the_peak_of_this_process():
    def work():
        return torch.ones(40 * MIB // 4).sum()

    taken = []
    for _ in range(3):  # the system may take pages of files back meanwhile
        held = devices.held_memory(CPU)
        taken.append(devices.peak_memory(CPU, work) - held)
    assert any(36 * MIB < each < 60 * MIB for each in taken), taken
    assert devices.held_memory(CPU) - held < 16 * MIB
    assert devices.peak_memory(CPU, lambda: None) - held < 16 * MIB  # a peak is forgotten


@pytest.mark.long
@measures
def test_more_images_take_more_memory(config):
    config = one_level(config, fmap_base=512, fmap_max=32, batch=PerResolution(64))
    executor = StepExecutor(TrainState(config, CPU, "fp32"))
    devices.free_cached(CPU)  # what other tests left would be freed, or used, while this one measures
    few, many = (measure_micro_batch(executor, 4, count) for count in (16, 64))
    assert 0.5 < (many - few) / 48 / image_bytes(config, 16, 4, False, "cpu") < 2.5


OPTIONS = [
    {},
    {"loss": "began"},
    {"d_norm": "layer", "g_norm": "virtual-batch"},
    {"loss_options": (("augment", "ada"), ("augment_p", 0.5)), "held_out": 0.25},
    {"loss": "gan", "loss_options": (("instance_noise", 0.1), ("historical_averaging", 0.1)), "labels": "hair"},
]


@pytest.mark.long
@measures
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())) or "plain")
def test_a_trial_changes_nothing_else(config, options, data):
    config = one_level(config, start_res=8, max_res=8, **options)
    with Store(str(data)) as store:
        config = fit_to_data(config, store.manifest)
    state = TrainState(config, CPU, "fp32")
    executor = StepExecutor(state)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    progress, random = state.progress.to_json(), torch.random.get_rng_state()
    smallest = micro_batch_sizes(config, 1)[8][0]
    assert measure_micro_batch(executor, 3, smallest) >= 0
    assert progress == state.progress.to_json()
    assert torch.equal(random, torch.random.get_rng_state())
    after = state.tensors()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not executor.checkpointed
    assert not executor._checkpointing.on
    assert all(parameter.grad is None for parameter in state.generator.parameters())


@pytest.mark.long
def test_a_run_records_its_plan_and_goes_on_with_it(config, tmp_path, monkeypatch):
    """The same weights as with that --micro-batch; --resume keeps the plan, or plans anew where less is free."""
    config = dataclasses.replace(config, stddev_group=2, total_kimg=0.064, precision="fp32", snapshot_ticks=100)
    images = micro_batch_sizes(config, 1)[4]
    assert images == [2, 4, 8]
    monkeypatch.setattr(
        "pggan.training.engine.memory_estimate.image_bytes", lambda *a: 1000 * MIB
    )  # of which the limit has room for two
    monkeypatch.setattr("pggan.training.engine.memory_estimate.memory_limit", lambda config, device: 3500 * MIB)
    monkeypatch.setattr(memory_trial, "image_bytes", lambda *a: 0.0)
    notes, run = Notes(), RunDirectory(tmp_path / "planned")
    begin(dataclasses.replace(config, total_kimg=0.048), run.path, notes)
    environment = RunEnvironment.from_json(run.read_options()[1])
    assert {level: share[:2] for level, share in environment.memory.items()} == dict.fromkeys((2, 3, 4), (2, False))
    resume(run, QuietDisplay(), changes={"total_kimg": 0.064}, override=True)
    begin(dataclasses.replace(config, micro_batch=PerResolution(2)), tmp_path / "plain", QuietDisplay())
    assert same(run.states()[-1], RunDirectory(tmp_path / "plain").states()[-1])

    monkeypatch.setattr("pggan.training.engine.memory_estimate.memory_limit", lambda config, device: 2600 * MIB)
    monkeypatch.setattr("pggan.training.engine.memory_estimate.image_bytes", lambda *a: 600 * MIB)
    again = Notes()
    assert resume(run, again).nimg == 64
    assert sum("planned again" in said for said in again.said) == 1


TWO = """
import json, sys, torch
from pggan.config.train import from_json, TrainConfig
from pggan.utils.distributed import process_group
from pggan.training.engine import memory_trial
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
config = from_json(TrainConfig, json.loads(sys.argv[1]))
device = torch.device("cpu")
with process_group(device) as world:
    state = TrainState(config, device, "fp32", world)
    executor = StepExecutor(state)
    memory_trial.fit_micro_batch(executor, state.schedule.at(0))
    found = [executor.num_micro_batches(4, 4)]
    each = (1 << 30, 4 << 30)[world.rank]
    memory_trial.image_bytes = lambda *a: each
    memory_trial.memory_limit = lambda *a: 12 << 30
    memory_trial.can_measure = lambda device: False
    memory_trial.fit_micro_batch(executor, state.schedule.at(0))
print(json.dumps([*found, executor.num_micro_batches(4, 4)]))
"""


@pytest.mark.long
def test_processes_agree_on_the_smallest_micro_batch(config):
    config = one_level(config, batch=PerResolution(8))
    environment = {**ONE_THREAD, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29600 + os.getpid() % 20000)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, json.dumps(to_json(config))],
            env={**environment, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    assert [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in processes] == [[1, 2], [1, 2]]


LIMITED = """
import json, resource, sys
from pathlib import Path
import numpy as np
import torch
from pggan.config.train import from_json, TrainConfig
from pggan.data.loading.loader import LoadedBatch
from pggan.training.engine import memory_trial, step
from pggan.training.engine.batch_builder import BatchBuilder
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.utils import devices
config, knows = from_json(TrainConfig, json.loads(sys.argv[1])), sys.argv[2] == "knows"
state = TrainState(config, torch.device("cpu"), "fp32")
executor = StepExecutor(state)
ROOM = 256 << 20
def taken():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
memory_trial.compute_micro_batch(executor, 4, 2)  # what libraries load once
limit = taken() + ROOM
resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
devices.free_memory = lambda device: max(0, limit - taken()) if knows else 1 << 40
refused = []
def watched(error):
    refused.append(str(error))
    resource.setrlimit(resource.RLIMIT_DATA, (8 * limit, resource.RLIM_INFINITY))  # one refusal shows the limit
    return devices.out_of_memory(error)
step.out_of_memory = memory_trial.out_of_memory = watched
moment = state.schedule.at(0)
memory_trial.fit_micro_batch(executor, moment)
images = np.zeros((moment.batch, 3, 16, 16), np.uint8)
loaded = LoadedBatch(images, np.zeros((moment.batch, 0), np.int32), None)
step.train_step(state, executor, BatchBuilder(state, 0, None), iter([loaded]), moment)
print(json.dumps({"refused": len(refused), "micro_batches": executor.num_micro_batches(4, moment.batch)}))
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="Linux limits a process's data")
def test_an_iteration_keeps_within_a_limit_of_memory(config):
    """In 256 MiB beyond what a process holds, which it sees as free memory, no allocation is refused. A process that
    sees more has some refused, so the limit is one. Where the kernel kills instead of refusing, the first would live;
    a kill itself is not shown.
    """
    config = one_level(config, fmap_base=512, fmap_max=64, batch=PerResolution(256), precision="fp32")
    found = {}
    for knows in ("knows", "does not"):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, json.dumps(to_json(config)), knows],
            env=ONE_THREAD, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[knows] = json.loads(done.stdout.splitlines()[-1])
    assert found["knows"]["refused"] == 0
    assert found["knows"]["micro_batches"] > 1
    assert found["does not"]["refused"] > 0


def test_a_process_takes_the_gpu_that_it_sees(monkeypatch, tmp_path):
    """One GPU visible to each of several processes, as `srun --gpus-per-task=1` has it."""
    for name, value in (("RANK", "3"), ("LOCAL_RANK", "3"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("pggan.utils.devices.has_kernels", lambda number: True)
    monkeypatch.setattr("pggan.training.run.launcher.end_with_launcher", lambda: None)
    joined = []

    def process_group(device):
        joined.append(device)
        return nullcontext(distributed.SINGLE_PROCESS)

    monkeypatch.setattr(distributed, "process_group", process_group)
    with start._joined(RunEnvironment("cuda:0", "bf16"), RunDirectory(tmp_path / "run")) as (own, _):
        assert own.device == "cuda:0"
    assert joined == [torch.device("cuda", 0)]
