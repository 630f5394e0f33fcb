"""Devices: choice of CPU or GPU, mixed precision, TF32, free and peak memory, out-of-memory errors, step throttling.

CPUs and CUDA GPUs have everything. Apple's and Intel's GPUs compute plainly: float32, eager steps, one process.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from pggan.utils.errors import UsageError

# Texts of the plain RuntimeErrors that torch, CUDA, cuDNN and cuBLAS raise when they run out of memory.
_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN, on CPUs
    "MPS backend out of memory",
)
# Kinds of GPUs by torch's name, and those that compute plainly, on which nothing may be in float64.
GPUS = {"cuda": "CUDA GPU", "mps": "Apple GPU (Metal)", "xpu": "Intel GPU"}
PLAIN = frozenset({"mps", "xpu"})
# Limits set by `limit_memory`, in bytes, by GPU number.
_limits: dict[int | None, float] = {}
# Options of glibc's mallopt, and the largest size it takes as the one from which blocks are mapped by themselves.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _LARGEST_THRESHOLD = -1, -3, 32 << 20
# Freed main memory that a process with many equal steps does not give back, bytes.
FREE_HEAP = 1 << 30
# Error of Linux's peak count in bytes: the kernel adds up the pages of each thread in batches.
_SLACK = 32 << 20
# Any: torch creates these attributes at import, so type checkers do not see them
_TF32_SWITCHES: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)


def pick_device(name: str = "auto") -> torch.device:
    """Returns the device called `auto` (the current CUDA GPU, else the CPU), `cpu`, `cuda`, `mps` or `xpu`.

    GPUs have numbers, too, such as `cuda:1`. `auto` passes over a GPU that this torch has no code for. Raises
    `UsageError` for an unknown name and for a GPU that is not there, or that torch has no code for.
    """
    if name == "auto":
        if not torch.cuda.is_available() or not has_kernels(torch.cuda.current_device()):
            return torch.device("cpu")
        return torch.device("cuda", torch.cuda.current_device())
    kind, _, index = name.partition(":")
    if kind not in ("cpu", *GPUS) or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise UsageError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:N, mps or xpu")
    if kind == "cpu":
        return torch.device("cpu")
    count = getattr(torch, kind).device_count()
    if not count:
        raise UsageError(f"device {name} asked for, but torch finds no {GPUS[kind]} here; use --device cpu")
    number = int(index or 0)
    if number >= count:
        raise UsageError(f"device {name} asked for, but there are {count} GPUs (from {kind}:0)")
    if kind == "cuda" and not has_kernels(number):
        raise UsageError(
            f"torch {torch.__version__} has no code for {torch.cuda.get_device_name(number)}; install a build of torch "
            "that has, such as one for an older CUDA (https://pytorch.org/get-started/previous-versions), or use "
            "--device cpu"
        )
    return torch.device(kind, number)


def has_kernels(number: int) -> bool:
    """Returns whether this build of torch has code for a CUDA GPU: wheels leave the oldest and newest cards out."""
    capability, known = torch.cuda.get_device_capability(number), torch.cuda.get_arch_list()
    for name in known:
        kind, _, digits = name.rstrip("af").partition("_")
        if kind not in ("sm", "compute"):
            return True  # an AMD card, which torch calls cuda, too
        code = int(digits[:-1]), int(digits[-1])
        # machine code is for one generation, code to be compiled for all that follow
        if code <= capability and (kind == "compute" or code[0] == capability[0]):
            return True
    return not known


def device_name(device: torch.device) -> str:
    """Returns the name of the GPU or processor."""
    if device.type in ("cuda", "xpu"):
        return str(getattr(torch, device.type).get_device_name(device))
    return platform.processor() or GPUS.get(device.type, "CPU")


def pick_precision(name: str, device: torch.device) -> str:
    """Resolves the precision `auto`: bf16 on a GPU that has it, fp16 on one with tensor cores for that, else fp32.

    Raises `UsageError` for one that the device does not have.
    """
    if name == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if _has_bf16(device) else "fp16" if _has_fast_fp16(device) else "fp32"
    if name == "tf32" and device.type != "cuda":
        raise UsageError("--precision tf32 exists on CUDA GPUs only; use fp32 here")
    if name != "fp32" and device.type in PLAIN:
        raise UsageError(f"--precision {name} is for CPUs and CUDA GPUs; on {device.type} use fp32")
    return name


def describe_precision(precision: str, device: torch.device) -> str | None:
    """Returns a warning where a CUDA GPU only imitates a precision, else None."""
    if device.type != "cuda" or precision not in ("bf16", "tf32") or _has_bf16(device):
        return None
    better = "fp16" if _has_fast_fp16(device) else "fp32"
    does = "is emulated, which is slow" if precision == "bf16" else "changes nothing"
    return f"WARNING: {precision} {does} on this GPU ({device_name(device)}); use --precision {better}"


def _has_bf16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def _has_fast_fp16(device: torch.device) -> bool:
    """Whether a GPU has tensor cores for fp16: Volta and Turing, but for the GTX 16 series."""
    return torch.cuda.get_device_capability(device) >= (7, 0) and "GTX 16" not in torch.cuda.get_device_name(device)


def widest_dtype(device: torch.device) -> torch.dtype:
    """Returns the dtype for numbers that need digits, such as alpha and images seen: float64 where a device has it."""
    return torch.float32 if device.type in PLAIN else torch.float64


def metrics_device(device: torch.device) -> torch.device:
    """Returns where metrics compute beside a model on `device`: their sums are in float64."""
    return torch.device("cpu") if device.type in PLAIN else device


def compute_dtype(precision: str) -> torch.dtype:
    """Returns the dtype in which layers compute under mixed precision.

    Weights, scores and statistics stay in float32 or better.
    """
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def channels_last(device: torch.device, precision: str) -> bool:
    """Whether networks should use the channels-last memory format, which convolutions in half precision prefer on GPUs.

    Activations take their memory format from the weights. On the CPU the format makes no difference.
    """
    return device.type == "cuda" and precision in ("bf16", "fp16")


def free_memory(device: torch.device) -> int:
    """Returns the free bytes of a device: of a GPU within `limit_memory`, of the system within a container's limit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what stays reserved then belongs to tensors and CUDA graphs
        free = torch.cuda.mem_get_info(device)[0]
        held = torch.cuda.memory_reserved(device)
        return int(max(0, min(free, _limits.get(device.index, free + held) - held)))
    if device.type in PLAIN:
        trim_cache(device)
        if device.type == "xpu":
            return int(torch.xpu.mem_get_info(device)[0])
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    available = _kernel_count("/proc/meminfo", "MemAvailable")
    if available is not None:
        return min(available, _cgroup_room())
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    except (ValueError, OSError, AttributeError):
        return 2 << 30


def limit_memory(device: torch.device, budget: float) -> None:
    """Caps the memory that torch may take of a GPU at `budget` bytes; does nothing on the CPU."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        budget = max(0.0, budget)  # what the context takes may be all of it
        _limits[device.index] = budget
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget / total), device)


def held_memory(device: torch.device) -> int | None:
    """Returns the bytes that torch sets aside now on a GPU, or that this process holds on Linux; None where unknown."""
    trim_cache(device)
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else _resident("VmRSS")


def can_measure(device: torch.device) -> bool:
    """Whether `peak_memory` can measure on this device and system."""
    return device.type == "cuda" or _forget_peak()


def peak_memory(device: torch.device, work: Callable[[], object]) -> int | None:
    """Returns the peak of `held_memory` while `work` runs, in bytes; None where it cannot be measured."""
    trim_cache(device)
    if device.type == "cuda":
        work()  # cuDNN's benchmark of the first call may take all free memory: not measured
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_reserved(device)  # its pieces fit less well together than tensors alone
    if not _forget_peak():
        return None
    mapped = _resident("RssFile") or 0
    work()
    peak = _resident("VmHWM")
    # file pages that the kernel dropped meanwhile are missing from the peak: added back
    return None if peak is None else peak + max(0, mapped - (_resident("RssFile") or 0))


def _resident(name: str) -> int | None:
    """Returns memory of this process, in bytes: VmRSS (held now), VmHWM (peak since `_forget_peak`), RssFile."""
    return _kernel_count("/proc/self/status", name)


def _kernel_count(path: str, name: str) -> int | None:
    """Returns a line of one of Linux's files, which are in KiB, in bytes; None where there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":")), None)
    except (OSError, ValueError):
        return None


def _forget_peak() -> bool:
    """Resets Linux's peak of this process to what it holds now. Returns whether that worked."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    held, peak = _resident("VmRSS"), _resident("VmHWM")
    return held is not None and peak is not None and peak - held < _SLACK


def _cgroup_room() -> int:
    """Returns the bytes left below the container's limit, at least 256 MiB; a very large number without a limit."""
    try:
        limit, held = (
            int(Path("/sys/fs/cgroup", name).read_text("ascii")) for name in ("memory.max", "memory.current")
        )
        return max(256 << 20, limit - held)
    except (OSError, ValueError):
        return 1 << 62


def set_precision(precision: str) -> None:
    """Allows TF32 in float32 matrix products and convolutions on GPUs for precision `tf32`, forbids it for others."""
    # torch's legacy switches: its exporters refuse to run after the new ones (fp32_precision) were used
    for switch in _TF32_SWITCHES:
        switch.allow_tf32 = precision == "tf32"


def tune_for_steps(device: torch.device) -> None:
    """Prepares a process for many steps of the same shapes.

    On a GPU cuDNN times its algorithms for each shape of convolution and uses the fastest one. On a CPU the C library
    (glibc) keeps up to `FREE_HEAP` of freed memory: else it gives that back after each step, and a tenth of the next
    one goes into getting it again. MALLOC_* variables that the user set are left alone.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    elif device.type == "cpu" and not any(name.startswith("MALLOC_") for name in os.environ):
        with suppress(OSError, AttributeError, TypeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
            libc.mallopt(_M_TRIM_THRESHOLD, FREE_HEAP)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Forbids TF32 on a GPU within the block, so that a seed gives the same image at any batch size."""
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = switches = _TF32_SWITCHES
    name = "allow_tf32"
    full: Any = False
    try:
        before = [getattr(switch, name) for switch in switches]
    except RuntimeError:  # the program uses torch's new switches, after which the legacy ones cannot be read
        switches, name, full = (cudnn.conv, matmul), "fp32_precision", "ieee"
        before = [getattr(switch, name) for switch in switches]
    for switch in switches:
        setattr(switch, name, full)
    try:
        yield
    finally:
        for switch, value in zip(switches, before):
            setattr(switch, name, value)


class StepThrottle:
    """Limits how many iterations the CPU queues ahead of the GPU.

    So pinned buffers stay bounded and Ctrl-C reacts at once.
    """

    def __init__(self, device: torch.device, max_queued: int = 2) -> None:
        self.device, self.max_queued = device, max_queued
        self._queued: deque[torch.cuda.Event] = deque()

    def step(self) -> None:
        """Marks the end of an iteration's launches; sleeps while the GPU is over `max_queued` iterations behind.

        Does nothing on the CPU.
        """
        if self.device.type != "cuda":
            return
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self.device))
        self._queued.append(event)
        if len(self._queued) > self.max_queued:
            self._queued.popleft().synchronize()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _NO_MEMORY)


def free_cached(device: torch.device) -> None:
    """Returns cached memory to the system: a GPU's from torch's allocator, main memory from the C library (glibc)."""
    gc.collect()
    trim_cache(device)


def trim_cache(device: torch.device) -> None:
    """Returns cached memory as `free_cached`, without a garbage collection before, which takes longer."""
    if device.type in GPUS:
        getattr(torch, device.type).empty_cache()
        return
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
