"""Devices: free memory and its limit, out-of-memory errors, TF32, a GPU for each process, the step throttle."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from pggan.utils import devices
from pggan.utils.devices import free_memory, limit_memory, out_of_memory
from pggan.utils.distributed import local_device
from pggan.utils.errors import UsageError

GPU = torch.device("cuda", 1)


@pytest.fixture
def card(monkeypatch):
    """A card of 100 bytes, 40 of them taken by others; torch holds 30, and 20 after it has emptied its cache."""
    held = [30]
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(20))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60 - held[-1], 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held[-1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: type("P", (), {"total_memory": 100}))
    monkeypatch.setattr(devices, "_limits", {})
    fractions = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: fractions.append(share))
    return fractions


def test_free_memory_of_a_card_is_within_the_budget(card):
    assert free_memory(GPU) == 40
    limit_memory(GPU, 35)
    assert card == [0.35]
    assert free_memory(GPU) == 15
    limit_memory(GPU, 1000)
    assert free_memory(GPU) == 40
    limit_memory(GPU, 10)
    assert free_memory(GPU) == 0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_errors_of_every_library_that_ran_out_of_memory_are_recognised(error):
    assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("shapes do not fit"))


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert local_device("auto") == "auto"
    for name, value in (("RANK", "6"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    assert (local_device("auto"), local_device("cuda"), local_device("cuda:0"), local_device("cpu")) == (
        "cuda:2", "cuda:2", "cuda:0", "cpu",
    )  # fmt: skip


WHEEL = ["sm_75", "sm_80", "sm_90a", "sm_120"]


@pytest.mark.parametrize(
    ("capability", "known", "has"),
    [
        ((7, 0), WHEEL, False), ((7, 5), WHEEL, True), ((8, 9), WHEEL, True), ((9, 0), WHEEL, True),
        ((10, 0), WHEEL, False), ((12, 1), WHEEL, True), ((12, 1), ["sm_90", "compute_90"], True),
        ((8, 0), ["sm_90", "compute_90"], False), ((9, 0), ["gfx90a"], True), ((6, 1), [], True),
    ],
)  # fmt: skip
def test_a_gpu_that_torch_has_no_code_for_is_refused(monkeypatch, capability, known, has):
    """Machine code runs on its own generation, from its minor number on; compute_* is compiled for later ones."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Old card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: known)
    assert devices.pick_device("auto").type == ("cuda" if has else "cpu")
    if not has:
        with pytest.raises(UsageError, match=r"has no code for Old card.*or use --device cpu"):
            devices.pick_device("cuda")
        return
    assert devices.pick_device("cuda") == torch.device("cuda", 0)


def test_the_throttle_waits_for_the_iteration_two_before(monkeypatch):
    done = []

    class Event:
        def __init__(self, blocking):
            assert blocking

        def record(self, stream):
            self.number = stream

        def synchronize(self):
            done.append(self.number)

    streams = iter(range(9))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: next(streams))
    throttle = devices.StepThrottle(GPU)
    for _ in range(4):
        throttle.step()
    assert done == [0, 1]
    devices.StepThrottle(torch.device("cpu")).step()
    assert next(streams) == 4


@contextmanager
def switched(switch, name, value):
    """A switch of torch's at another value within the block."""
    before = getattr(switch, name)
    setattr(switch, name, value)
    try:
        yield
    finally:
        setattr(switch, name, before)


def test_full_float32_forbids_tf32_on_gpus_alone_and_puts_it_back():
    convolutions, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    with switched(convolutions, "allow_tf32", True), switched(matmul, "allow_tf32", True):
        with devices.full_float32(GPU):
            assert (convolutions.allow_tf32, matmul.allow_tf32) == (False, False)
        assert (convolutions.allow_tf32, matmul.allow_tf32) == (True, True)
        with devices.full_float32(torch.device("cpu")):
            assert (convolutions.allow_tf32, matmul.allow_tf32) == (True, True)


def test_full_float32_works_in_programs_that_use_the_new_precision_switch():
    convolutions, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = convolutions.fp32_precision
    with switched(matmul, "fp32_precision", "tf32"):
        with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
            _ = matmul.allow_tf32
        with devices.full_float32(GPU):
            assert (convolutions.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
        assert (convolutions.fp32_precision, matmul.fp32_precision) == (before, "tf32")


FAULTS = """
import resource
import torch
from pggan.utils.devices import tune_for_steps

tune_for_steps(torch.device("cpu"))
for count in range(12):
    if count == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    temporaries = [torch.ones(4 << 20) for _ in range(4)]
    del temporaries
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_steps_on_a_cpu_do_not_fetch_their_memory_anew():
    def faults(**variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command = [sys.executable, "-c", FAULTS]
        return int(subprocess.run(command, env=environment | variables, capture_output=True, check=True).stdout)

    assert faults() < 40_000  # of 163,840 that ten steps touch
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > 100_000  # the user's choice holds
