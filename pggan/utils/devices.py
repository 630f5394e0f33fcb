"""The device to compute on, what it can do, and what memory it has left."""

from __future__ import annotations

import ctypes
import gc
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from pggan.utils.errors import UsageError

# How torch, CUDA and its libraries say that memory ran out, where they raise a plain RuntimeError.
_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN, on CPUs
)
# Bytes that `limit_memory` leaves torch, by the number of the GPU.
_limits: dict[int | None, float] = {}
# Linux counts memory in batches of pages a thread, and so its peak to within that.
_SLACK = 32 << 20
# typed as Any: the switches are made at import, unseen by type checkers
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
        torch.cuda.empty_cache()  # what is left then belongs to tensors and to CUDA graphs
        free = torch.cuda.mem_get_info(device)[0]
        held = torch.cuda.memory_reserved(device)
        return int(max(0, min(free, _limits.get(device.index, free + held) - held)))
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


def held_memory(device: torch.device) -> int | None:
    """Bytes held now: of a GPU what torch's tensors take, on Linux what this process does; None where nobody tells."""
    free_cached(device)
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _resident("VmRSS")


def can_measure(device: torch.device) -> bool:
    """Whether `peak_memory` has something to tell here."""
    return device.type == "cuda" or _forget_peak()


def peak_memory(device: torch.device, work: Callable[[], object]) -> int | None:
    """Most bytes held, as `held_memory` counts them, while `work` ran; None where that cannot be told."""
    _give_back(device)
    if device.type == "cuda":
        work()  # the first time cuDNN tries its ways, with whatever memory there is
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    if not _forget_peak():
        return None
    mapped = _resident("RssFile") or 0
    work()
    most = _resident("VmHWM")
    # pages of files that the system took back meanwhile, as it may at any time, made room in the count
    return None if most is None else most + max(0, mapped - (_resident("RssFile") or 0))


def _resident(line: str) -> int | None:
    """A line of Linux's account of this process, in bytes: VmRSS (now), VmHWM (most since `_forget_peak`)."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next((int(words.split()[1]) * 1024 for words in file if words.startswith(line + ":")), None)
    except (OSError, ValueError):
        return None


def _forget_peak() -> bool:
    """Starts Linux's peak anew from what is held now; False where that is not allowed, or does nothing."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    now, most = _resident("VmRSS"), _resident("VmHWM")
    return now is not None and most is not None and most - now < _SLACK


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


def measure_convolutions(device: torch.device) -> None:
    """Lets cuDNN try its ways for every new shape of convolution, and keep the fastest: shapes change with phases."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


class StepThrottle:
    """Keeps the host at most `ahead` iterations before a GPU: pictures wait in pinned memory, and signals are heard."""

    def __init__(self, device: torch.device, ahead: int = 2) -> None:
        self.device, self.ahead = device, ahead
        self._begun: deque[torch.cuda.Event] = deque()

    def step(self) -> None:
        """An iteration has been begun: waits, asleep, for the one `ahead` before it. Does nothing on the CPU."""
        if self.device.type != "cuda":
            return
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self.device))
        self._begun.append(event)
        if len(self._begun) > self.ahead:
            self._begun.popleft().synchronize()


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
    """Gives back memory that is kept for later: a GPU's by torch, main memory by the C library where it is glibc."""
    gc.collect()
    _give_back(device)


def _give_back(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
