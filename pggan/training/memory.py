"""What training takes of memory, estimated, and the micro-batches that keep within a budget (torch-free).

The estimate: weights, moments, gradients and average in float32, and for every image that is computed at once so many
values as D's layers put out times a factor, measured on the CPU with torch's allocation profile at 32x32 to 64x64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pggan.config import TrainConfig, level_of
from pggan.errors import UsageError
from pggan.networks.cost import discriminator_layers, generator_layers, parameters
from pggan.words import size

if TYPE_CHECKING:
    import torch

# Bytes a parameter has: the weight, two moments and a gradient; G's average beside.
PLAYER_BYTES, AVERAGE_BYTES = 16, 4
# Values kept an image in D's step over D's outputs, by bytes a value: everything, or blocks computed again.
KEPT = {4: 12.0, 2: 15.0}
AGAIN = {4: 6.5, 2: 9.0}
# What the device's libraries take beside, and the share of a budget that is planned with: memory is cut into pieces.
LIBRARIES = {"cuda": 700 << 20, "cpu": 300 << 20}
USABLE = 0.9


class Share(NamedTuple):
    """How a resolution is computed: images at once, blocks computed again or not, and the bytes that takes."""

    micro_batch: int
    recompute: bool
    bytes: float


def fixed_bytes(config: TrainConfig, device: str) -> float:
    """What stays whatever the batch: all levels' weights with their moments."""
    g, d = config.networks()
    of_g, of_d = (parameters(each, each.max_level) for each in (g, d))
    return PLAYER_BYTES * (of_g + of_d) + AVERAGE_BYTES * of_g + LIBRARIES[device.partition(":")[0]]


def image_bytes(config: TrainConfig, resolution: int, value_bytes: int, recompute: bool) -> float:
    """What one image adds at a resolution: D's step holds most."""
    g, d = config.networks()
    level = level_of(resolution)
    both = discriminator_layers(d, level), generator_layers(g, level)
    values = max(sum(layer.activations for layer in layers) for layers in both)
    return value_bytes * values * (AGAIN if recompute else KEPT)[value_bytes]


def planned(
    config: TrainConfig, budget: float, device: str, precision: str, sizes_at: dict[int, list[int]]
) -> dict[int, Share]:
    """A `Share` of every resolution within `budget` bytes: as many images at once as fit, at least one group of the
    minibatch statistic; blocks are computed again where that alone lets a group fit.

    `sizes_at`: by resolution, the sizes of micro-batches that keep groups whole. Raises `UsageError` where none fits.
    """
    value_bytes = 2 if precision in ("bf16", "fp16") else 4
    room = budget * USABLE - fixed_bytes(config, device)
    shares = {}
    for resolution, sizes in sizes_at.items():
        for recompute in (False, True):
            each = image_bytes(config, resolution, value_bytes, recompute)
            fitting = [count for count in sizes if count * each <= room]
            if fitting:
                break
        if not fitting:
            need = (min(sizes) * each + fixed_bytes(config, device)) / USABLE
            raise UsageError(
                f"{size(budget)} of memory are too little for {resolution}x{resolution}: {min(sizes)} images at once "
                f"take about {size(need)}; give a --budget of that, --precision bf16 or fp16, or a smaller --fmap-base "
                "or --max-res"
            )
        shares[resolution] = Share(max(fitting), recompute, max(fitting) * each + fixed_bytes(config, device))
    return shares


def resolve_memory(config: TrainConfig, device: torch.device, precision: str) -> dict[str, dict[str, Any]]:
    """`planned` for this process, as it is recorded: with `--batch auto` of the memory that is free, within --budget.

    Empty where neither is asked for. Raises `UsageError` where it does not suffice.
    """
    if config.budget is None and not config.auto_batch:
        return {}
    from pggan.devices import free_memory
    from pggan.distributed import asked_for
    from pggan.training.state import divisors

    limits = [config.budget] if config.budget is not None else []
    if config.auto_batch:
        limits.append(float(free_memory(device)))
    processes = asked_for().size
    sizes_at = {}
    for resolution in config.resolutions():
        own = max(1, int(config.batch.at(resolution)) // processes)
        sizes_at[resolution] = [own // parts for parts in divisors(config, own, processes)]
    shares = planned(config, min(limits), device.type, precision, sizes_at)
    return {str(side): share._asdict() for side, share in shares.items()}


def describe(shares: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """`images at once: 4x4 16, 8x8 16; about 1.2 GiB` in a line, none without a plan."""
    if not shares:
        return []
    each = [f"{r}x{r} {s['micro_batch']}{' (activations again)' if s['recompute'] else ''}" for r, s in shares.items()]
    most = max(share["bytes"] for share in shares.values())
    return [f"images computed at once: {', '.join(each)}; about {size(most)} of memory by estimate"]
