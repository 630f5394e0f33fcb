"""Several processes share pictures; their statistics come together in the first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from pggan.metrics.base import State
from pggan.utils.distributed import World
from pggan.utils.errors import TrainingError
from pggan.utils.formatting import one_line

TYPES = (torch.float64, torch.float32, torch.float16, torch.int64, torch.uint8)
MOST_DIMENSIONS = 6


def share(count: int, world: World) -> list[int]:
    """This process's numbers below `count`; pairs 2i, 2i + 1 stay together."""
    return [number for number in range(count) if (number // 2) % world.size == world.rank]


def gathered(state: State, world: World) -> list[State]:
    """In the first process everyone's states by rank, elsewhere nothing. All have the same keys, or none at all.

    Raises `TrainingError` where another process is gone.
    """
    if world.size == 1:
        return [state]
    try:
        names: list[list[str]] = [[] for _ in range(world.size)]
        dist.all_gather_object(names, sorted(state))
        if not world.is_main_process:
            for key in sorted(state):
                _send(state[key])
            return []
        return [state, *({key: _receive(rank) for key in names[rank]} for rank in range(1, world.size))]
    except RuntimeError as error:
        raise TrainingError(f"another process is gone ({one_line(error)})") from None


def _send(values: Tensor) -> None:
    values = values.contiguous()
    shape = [TYPES.index(values.dtype), values.ndim, *values.shape]
    dist.send(torch.tensor([*shape, *[0] * (MOST_DIMENSIONS + 2 - len(shape))]), 0)
    if values.numel():
        dist.send(values.reshape(-1).view(torch.uint8), 0)


def _receive(rank: int) -> Tensor:
    header = torch.zeros(MOST_DIMENSIONS + 2, dtype=torch.int64)
    dist.recv(header, rank)
    kind, dimensions, *sizes = header.tolist()
    values = torch.empty(sizes[:dimensions], dtype=TYPES[kind])
    if values.numel():
        dist.recv(values.reshape(-1).view(torch.uint8), rank)
    return values


def agreed(flags: Sequence[bool], world: World) -> list[bool]:
    """The first process's answers, everywhere."""
    if world.size == 1:
        return list(flags)
    told = [list(flags)]
    dist.broadcast_object_list(told, 0)
    return told[0]
