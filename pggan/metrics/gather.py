"""Sharing images between processes, and gathering their states in the main process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from pggan.metrics.base import State
from pggan.utils.distributed import World
from pggan.utils.errors import TrainingError
from pggan.utils.formatting import one_line


def share(count: int, world: World) -> list[int]:
    """Returns this process's numbers below `count`. Pairs 2i, 2i + 1 stay together."""
    return [number for number in range(count) if (number // 2) % world.size == world.rank]


def gather_states(state: State, world: World) -> list[State]:
    """Returns the states of all processes by rank in the main process, an empty list in the others.

    All states have the same keys, or none at all. Raises `TrainingError` where another process has died.
    """
    if world.size == 1:
        return [state]
    try:
        # keys, dtypes and shapes as objects; the tensors, which may take gigabytes, as bytes one after another
        entries: list[list[tuple[str, torch.dtype, torch.Size]]] = [[] for _ in range(world.size)]
        dist.all_gather_object(entries, [(key, values.dtype, values.shape) for key, values in state.items()])
        if not world.is_main_process:
            for values in filter(Tensor.numel, state.values()):
                dist.send(values.reshape(-1).view(torch.uint8), 0)
            return []
        states = [state]
        for rank in range(1, world.size):
            states.append({key: torch.empty(shape, dtype=dtype) for key, dtype, shape in entries[rank]})
            for values in filter(Tensor.numel, states[rank].values()):
                dist.recv(values.view(-1).view(torch.uint8), rank)
        return states
    except RuntimeError as error:
        raise TrainingError(f"another process is gone ({one_line(error)})") from None


def broadcast_flags(flags: Sequence[bool], world: World) -> list[bool]:
    """Returns the main process's flags in every process."""
    if world.size == 1:
        return list(flags)
    message = [list(flags)]
    dist.broadcast_object_list(message, 0)
    return message[0]
