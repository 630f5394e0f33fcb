"""The device to compute on, what it can do, and what memory it has left."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pggan.errors import UsageError

# typed as Any: the switches are made at import, unseen by type checkers
# How torch, CUDA and its libraries say that memory ran out, where they raise a plain RuntimeError.
_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
# Bytes that `limit_memory` leaves torch, by the number of the GPU.
_limits: dict[int | None, float] = {}
_TF32_SWITCHES: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)


def pick_device(name: str = "auto") -> torch.device:
    """`auto` (the first GPU, else the CPU), `cpu`, `cuda`, `cuda:N`; raises `UsageError` for one that is not there."""
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise UsageError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(f"device {name} asked for, but torch finds no CUDA GPU here; use --device cpu")
    number = int(index or 0)
    if number >= torch.cuda.device_count():
        raise UsageError(f"device {name} asked for, but there are {torch.cuda.device_count()} GPUs (from cuda:0)")
    return torch.device("cuda", number)


def pick_precision(name: str, device: torch.device) -> str:
    """`auto` resolved: bf16 on a GPU that has it, else tf32 on one that has that, else fp32. tf32 needs a GPU."""
    if name == "auto":
        if device.type != "cuda":
            return "fp32"
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return "bf16"
            return "tf32" if torch.cuda.get_device_capability() >= (8, 0) else "fp32"
    if name == "tf32" and device.type != "cuda":
        raise UsageError("--precision tf32 exists on CUDA GPUs only; use fp32 here")
    return name


def compute_dtype(precision: str) -> torch.dtype:
    """What the layers compute in; weights, scores and statistics stay in float32 at least."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def channels_last(device: torch.device, precision: str) -> bool:
    """Whether convolutions are to keep a pixel's channels together: half precision on GPUs computes on them so.

    On the CPU it makes no difference. Weights laid out so make the activations follow.
    """
    return device.type == "cuda" and precision in ("bf16", "fp16")


def free_memory(device: torch.device) -> int:
    """Bytes free on a device; on the CPU what the system can still hand out, capped by a container's limit."""
    if device.type == "cuda":
        # what torch holds in its cache is free to it, too
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
        most = _limits.get(device.index, free + torch.cuda.memory_allocated(device))
        return int(max(0, min(free, most - torch.cuda.memory_allocated(device))))
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return min(int(line.split()[1]) * 1024, _cgroup_room())
    except OSError:
        pass
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    except (ValueError, OSError, AttributeError):
        return 2 << 30


def limit_memory(device: torch.device, budget: float) -> None:
    """Lets torch take no more than so many bytes of a GPU; does nothing on the CPU."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        _limits[device.index] = budget
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget / total), device)


def _cgroup_room() -> int:
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit:
            most = int(limit.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as used:
            return max(256 << 20, most - int(used.read()))
    except (OSError, ValueError):
        return 1 << 62


def set_precision(precision: str) -> None:
    """Whether float32 matrix products and convolutions on a GPU may use TF32: only where it is asked for."""
    # the older of torch's two kinds of switches: its exporters refuse to run where the newer ones were used
    for switch in _TF32_SWITCHES:
        switch.allow_tf32 = precision == "tf32"


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Float32 in full on a GPU within the block: a seed is the same picture whatever the batch."""
    if device.type != "cuda":
        yield
        return
    before = [switch.allow_tf32 for switch in _TF32_SWITCHES]
    for switch in _TF32_SWITCHES:
        switch.allow_tf32 = False
    try:
        yield
    finally:
        for switch, allowed in zip(_TF32_SWITCHES, before):
            switch.allow_tf32 = allowed


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


def free_cached(device: torch.device) -> None:
    """Gives back what torch keeps of a GPU's memory for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
