"""Several processes as one run: torch's own engine, with nothing to do in a run of one.

Started by torchrun (`torchrun --nproc-per-node 8 -m pggan train ...`), by any scheduler that sets its variables, or by
`pggan train --gpus 8`. NCCL between GPUs, gloo between CPUs, and gloo for the few numbers that the hosts agree on.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pggan.utils.errors import TrainingError, UsageError
from pggan.utils.formatting import one_line

# A process waits so long for the others: rank 0 writes checkpoints and sample grids meanwhile. One that died is
# noticed much sooner, by its closed connection.
TIMEOUT = datetime.timedelta(minutes=30)
# Gradients travel in buckets of about this many bytes: large enough for the link, small enough that one is copied while
# another travels. Between two gloo processes 23M values took 1.5 s so, 2.4 s in buckets of 64 MB, 3.4 s in one.
BUCKET_BYTES = 16 << 20


T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process's place among `size` of them; `local` is its number on its own machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


SINGLE_PROCESS = World()


def asked_for() -> World:
    """The place that the launcher's environment gives this process. Raises `UsageError` where it makes no sense."""
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


def on_this_machine() -> int:
    """How many processes of the run share this machine, as far as its launcher says: else all of them."""
    try:
        return max(1, int(os.environ["LOCAL_WORLD_SIZE"]))
    except (KeyError, ValueError):
        return asked_for().size


def own_device(name: str) -> str:
    """A device's name; this process's own GPU where a launcher started several and none of them is named."""
    world = asked_for()
    if world.size == 1 or name not in ("auto", "cuda"):
        return name
    return f"cuda:{world.local % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


@contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """The process group for the block, where a launcher asks for one. `device`: what this process computes on.

    Raises `TrainingError` where the others cannot be reached.
    """
    world = asked_for()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world.size == 1:
        yield world
        return
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
    """Every tensor becomes its mean over the processes, in place; buckets of them travel while others are copied."""
    if world.size == 1:
        return
    travelling = []
    for bucket in buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        travelling.append((bucket, flat, _reduced(flat)))
    for bucket, flat, arrived in travelling:
        arrived()
        flat /= world.size
        at = 0
        for tensor in bucket:
            tensor.copy_(flat[at : at + tensor.numel()].reshape(tensor.shape))
            at += tensor.numel()


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of tensors of one type, each of about BUCKET_BYTES."""
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
    """The largest of every process's number, on the host."""
    if world.size == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.int64)
    _reduced(tensor, dist.ReduceOp.MAX)()
    return int(tensor)


def barrier(world: World) -> None:
    """Until every process is here."""
    all_reduce_max(0, world)


def _reduced(tensor: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Callable[[], object]:
    """Begins a reduction in place; the result waits for it (on a GPU: makes the stream wait)."""
    work = _told(lambda: dist.all_reduce(tensor, operation, async_op=True))
    return lambda: _told(lambda: work.wait())


def _told(action: Callable[[], T]) -> T:
    try:
        return action()
    except RuntimeError as error:
        raise TrainingError(
            f"another process of the run is gone ({one_line(error)}); go on with --resume, with as many processes or "
            "others"
        ) from None
