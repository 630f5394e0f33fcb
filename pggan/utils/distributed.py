"""Distributed training with torch.distributed: process group, rank, all-reduce, barrier; no-ops in a single process.

Gradients are averaged by all-reduce after each step, instead of by DistributedDataParallel (DDP), which does not hook
into gradients that are computed as functions (`training/engine/gradients.py`).

Processes are started by torchrun (`torchrun --nproc-per-node 8 -m pggan train ...`), by a scheduler that sets the same
variables, or by `pggan train --gpus 8`. NCCL connects GPUs; gloo connects CPUs and carries the numbers of the hosts.
"""

from __future__ import annotations

import datetime
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pggan.utils.devices import PLAIN
from pggan.utils.errors import TrainingError, UsageError
from pggan.utils.formatting import one_line

# Timeout of collective operations: the others wait while rank 0 writes checkpoints and sample grids. The death of a
# process is noticed much sooner, by its closed connection.
TIMEOUT = datetime.timedelta(minutes=30)
# Bytes of a gradient bucket: large enough to use the link, small enough that one is copied while another travels.
# 23M values between two gloo processes: 1.5 s, against 2.4 s in buckets of 64 MB and 3.4 s in one.
BUCKET_BYTES = 16 << 20


T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's `rank` among the `size` (world size) processes of the run; `local` is its rank on its machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and messages for the run (rank 0)."""
        return self.rank == 0


SINGLE_PROCESS = World()


def world_from_environment() -> World:
    """Reads this process's rank and the world size from the launcher's environment variables.

    Raises `UsageError` where they make no sense.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return SINGLE_PROCESS
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError:
        raise UsageError("RANK, WORLD_SIZE and LOCAL_RANK have to be whole numbers; start with torchrun") from None
    if not 0 <= rank < size or local < 0:
        raise UsageError(f"RANK {rank} is not below WORLD_SIZE {size}; start with torchrun")
    return World(rank, size, local)


def local_world_size() -> int:
    """Returns how many processes of the run share this machine; all of them, where the launcher does not say."""
    try:
        return max(1, int(os.environ["LOCAL_WORLD_SIZE"]))
    except (KeyError, ValueError):
        return world_from_environment().size


def local_device(name: str) -> str:
    """Returns a device's name: of several processes, each gets a GPU of its own for `auto` and `cuda`."""
    world = world_from_environment()
    if world.size == 1 or name not in ("auto", "cuda"):
        return name
    return f"cuda:{world.local % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


@contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """Opens the process group for the block, if a launcher started several processes; yields this process's place.

    `device` is the one that this process computes on. Raises `UsageError` for one
    that several processes cannot use, `TrainingError` where the others cannot be reached.
    """
    world = world_from_environment()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world.size == 1:
        yield world
        return
    if device.type in PLAIN:
        raise UsageError(f"several processes need CUDA GPUs, or --device cpu; on {device.type} start one")
    # optimizers import the compiler: once a group is open, that ends some process with an abort when it exits
    importlib.import_module("torch._dynamo")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=TIMEOUT, rank=world.rank, world_size=world.size)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"rank {world.rank} of {world.size} cannot join the others ({one_line(error)})") from None
    try:
        yield world
    finally:
        dist.destroy_process_group()


def all_reduce_mean(tensors: Sequence[Tensor], world: World) -> None:
    """Replaces tensors by their means over all processes, in place (all-reduce in buckets, overlapped with copies)."""
    if world.size == 1:
        return
    pending = []
    for bucket in buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        pending.append((bucket, flat, _start_all_reduce(flat)))
    for bucket, flat, wait in pending:
        wait()
        flat /= world.size
        for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket])):
            tensor.copy_(mean.reshape(tensor.shape))


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Splits tensors, in order, into buckets of one dtype and about BUCKET_BYTES each."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        large = size + tensor.numel() * tensor.element_size() > BUCKET_BYTES
        if bucket and (large or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
    if bucket:
        yield bucket


def all_reduce_max(value: int, world: World) -> int:
    """Returns the largest of all processes' values; it is exchanged between the hosts, without waiting for a GPU."""
    if world.size == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.int64)
    _start_all_reduce(tensor, dist.ReduceOp.MAX)()
    return int(tensor)


def barrier(world: World) -> None:
    """Waits until every process has arrived."""
    all_reduce_max(0, world)


def _start_all_reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Callable[[], object]:
    """Starts an all-reduce in place. Returns a function that waits for it (on a GPU: makes the stream wait)."""
    work = _or_training_error(lambda: dist.all_reduce(tensor, operation, async_op=True))
    return lambda: _or_training_error(lambda: work.wait())


def _or_training_error(action: Callable[[], T]) -> T:
    """Runs a collective operation; raises `TrainingError` where another process is gone."""
    try:
        return action()
    except RuntimeError as error:
        raise TrainingError(
            f"another process of the run is gone ({one_line(error)}); go on with --resume, with as many processes or "
            "others"
        ) from None
