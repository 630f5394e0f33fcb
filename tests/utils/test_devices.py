"""What a device has room for, and how a lack of it is recognised."""

from __future__ import annotations

import pytest
import torch

from pggan.utils import devices
from pggan.utils.devices import free_memory, limit_memory, out_of_memory
from pggan.utils.distributed import own_device

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
    told = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: told.append(share))
    return told


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
def test_memory_that_ran_out(error):
    assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("shapes do not fit"))


def test_each_process_has_a_card_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert own_device("auto") == "auto"
    for name, value in (("RANK", "6"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    assert (own_device("auto"), own_device("cuda"), own_device("cuda:0"), own_device("cpu")) == (
        "cuda:2", "cuda:2", "cuda:0", "cpu",
    )  # fmt: skip


def test_the_host_is_kept_near_a_gpu(monkeypatch):
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
    leash = devices.StepThrottle(GPU)
    for _ in range(4):
        leash.step()
    assert done == [0, 1]
    devices.StepThrottle(torch.device("cpu")).step()
    assert next(streams) == 4
