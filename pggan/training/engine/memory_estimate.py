"""Estimate of what training takes of memory, and the plan of micro-batches that fits (torch-free).

The estimate: weights, moments, gradients and average in float32, the weights as a step scaled them, and for every image
that is computed at once the values that D's layers put out, times a factor.

The factors for CPUs were measured with torch's profile of its allocations, at 32x32 to 256x256: tools/benchmark.py
memory --tensors. Those for GPUs are what torch's CUDA allocator set aside without a card, on the tests' stand-in for
CUDA's libraries, at 64x64 to 1024x1024 in the default networks (tests/fakegpu).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pggan.config.network import DiscriminatorConfig
from pggan.config.strict_json import is_kind
from pggan.config.train import TrainConfig, level_of
from pggan.networks.flops import discriminator_layers, generator_layers, parameters
from pggan.utils.errors import UsageError
from pggan.utils.formatting import size

if TYPE_CHECKING:
    import torch

# Bytes of a parameter: the weight, two moments and a gradient; G's average beside.
PLAYER_BYTES, AVERAGE_BYTES = 16, 4
# Values kept of an image in D's step over D's outputs, by bytes a value: all, or with activation checkpointing.
KEPT = {4: 10.0, 2: 13.0}
AGAIN = {4: 5.5, 2: 8.0}
# The same on GPUs, where nothing is copied to other layouts and types for want of kernels; pieces included.
GPU_KEPT = {4: 8.0, 2: 8.6}
GPU_AGAIN = {4: 4.6, 2: 4.8}
# Bytes of a parameter of D beside, in a step: its weight as the passes scaled it, once a pass, or once.
PASSES = {False: 16, True: 8}
# On the CPU the C library keeps pieces of what is freed meanwhile: the factor by which more is resident.
RESIDENT = {False: 1.2, True: 1.4}
# What the device's context and libraries take beside, and the share of a limit that plans use: memory is cut to pieces.
LIBRARIES = {"cuda": 700 << 20, "cpu": 680 << 20}
# Allowance on GPUs for the workspaces of cuDNN and cuBLAS, assumed: tools/benchmark.py memory shows what a card takes.
WORKSPACES = 512 << 20
# Memory of captured steps while they are prepared, at most, as a multiple of what they take then (tests/fakegpu).
PREPARING = 2.4
# Tensors of the process that compiles beside a GPU's run, at 1024x1024; its context comes on top.
COMPILING = 768 << 20
USABLE = 0.9
GPU_USABLE = 0.95  # pieces are in the factors
# On GPUs, where the run itself finds what fits, an estimate refuses only what is beyond the budget by this factor.
DOUBT = 1.25


class MicroBatchPlan(NamedTuple):
    """How a resolution is computed."""

    micro_batch: int  # images at once
    recompute: bool  # with activation checkpointing
    bytes: float  # that the process takes in all


def fixed_bytes(config: TrainConfig, device: str) -> float:
    """Returns what stays whatever the batch: all levels' weights with their moments, and libraries."""
    g, d = config.networks()
    of_g, of_d = (parameters(each, each.max_level) for each in (g, d))
    beside = LIBRARIES["cpu"] if device == "cpu" else LIBRARIES["cuda"] + WORKSPACES
    return PLAYER_BYTES * (of_g + of_d) + AVERAGE_BYTES * of_g * (3 if config.power_averages else 1) + beside


def image_bytes(config: TrainConfig, resolution: int, value_bytes: int, recompute: bool, device: str) -> float:
    """Returns what one image adds at a resolution: D's step holds most.

    Args:
        config: The run's configuration.
        resolution: Side of the images.
        value_bytes: Bytes of a value in the layers: 2 or 4.
        recompute: With activation checkpointing.
        device: "cpu", or a GPU such as "cuda" or "cuda:0".
    """
    g, d = config.networks()
    level = level_of(resolution)
    both = discriminator_layers(d, level), generator_layers(g, level)
    values = max(sum(layer.activations for layer in layers) for layers in both)
    if device == "cpu":
        factor = (AGAIN if recompute else KEPT)[value_bytes] * RESIDENT[recompute]
    else:
        factor = (GPU_AGAIN if recompute else GPU_KEPT)[value_bytes]
    return value_bytes * values * factor


def pass_bytes(config: TrainConfig, resolution: int, recompute: bool) -> float:
    """Returns what a step holds whatever the batch: the weights as its passes scaled them."""
    return PASSES[recompute] * parameters(config.networks()[1], level_of(resolution))


def most_bytes(config: TrainConfig, resolution: int, precision: str, images: int) -> float:
    """Returns what training may take of a GPU at a resolution, `images` at once, while its steps are prepared.

    The process that compiles is in it.
    """
    each = image_bytes(config, resolution, value_bytes_of(precision), False, "cuda")
    beside = fixed_bytes(config, "cuda") + COMPILING + LIBRARIES["cuda"]
    return beside + PREPARING * (images * each + pass_bytes(config, resolution, False))


def value_bytes_of(precision: str) -> int:
    """Returns the bytes of a value that layers compute in, in mixed precision 2."""
    return 2 if precision in ("bf16", "fp16") else 4


def plan_memory(
    config: TrainConfig,
    limit: float,
    device: str,
    precision: str,
    processes: int = 1,
    recorded: Mapping[int, MicroBatchPlan] | None = None,
) -> dict[int, MicroBatchPlan]:
    """Plans the largest micro-batches that fit by estimate, with activation checkpointing only where a group needs it.

    Args:
        config: The run's configuration.
        limit: Bytes that this process may take in all.
        device: "cpu", or a GPU such as "cuda" or "cuda:0".
        precision: fp32, tf32, bf16 or fp16.
        processes: Processes of the run, which share each batch.
        recorded: An earlier plan, which holds wherever it still fits.

    Returns:
        The plan by level.

    Raises:
        UsageError: One group of the minibatch statistic does not fit.
    """
    plan = {}
    for resolution, sizes in micro_batch_sizes(config, processes).items():
        level = level_of(resolution)
        before = recorded.get(level) if recorded else None
        fits = before is not None and before.bytes <= limit
        plan[level] = before if before and fits else _largest(config, limit, device, precision, resolution, sizes)
    return plan


def _largest(
    config: TrainConfig, limit: float, device: str, precision: str, resolution: int, sizes: list[int]
) -> MicroBatchPlan:
    value_bytes, fixed = value_bytes_of(precision), fixed_bytes(config, device)
    usable = limit * (USABLE if device == "cpu" else GPU_USABLE)
    for recompute in (False, True):
        each = image_bytes(config, resolution, value_bytes, recompute, device)
        beside = fixed + pass_bytes(config, resolution, recompute)
        fitting = [count for count in sizes if beside + count * each <= usable]
        if fitting:
            return MicroBatchPlan(max(fitting), recompute, beside + max(fitting) * each)
    least = beside + min(sizes) * each
    if least > usable * (1.0 if device == "cpu" else DOUBT):
        raise too_little(limit, resolution, min(sizes), least * limit / usable, precision)
    return MicroBatchPlan(min(sizes), True, least)


def too_little(limit: float, resolution: int, images: int, need: float, precision: str) -> UsageError:
    """Returns the error for memory that has no room for one group."""
    half = "--precision bf16 or fp16, or " if value_bytes_of(precision) > 2 else ""
    return UsageError(
        f"{size(limit)} of memory are too little for {resolution}x{resolution}: {images} images at once take about "
        f"{size(need)}; give a --budget of that, {half}a smaller --fmap-base or --max-res"
    )


def micro_batch_sizes(config: TrainConfig, processes: int) -> dict[int, list[int]]:
    """Returns by resolution how many images a process may compute at once, ascending.

    The groups of the minibatch statistic stay whole, and sizes are within --micro-batch.
    """
    d = config.networks()[1]
    allowed = {}
    for resolution in config.resolutions():
        own = max(1, int(config.batch.at(resolution)) // processes)
        sizes = sorted(own // parts for parts in micro_batch_counts(config, d, own, processes))
        most = own if config.micro_batch is None else int(config.micro_batch.at(resolution))
        allowed[resolution] = [count for count in sizes if count <= most] or sizes[:1]
    return allowed


def micro_batch_counts(config: TrainConfig, d: DiscriminatorConfig, count: int, processes: int = 1) -> list[int]:
    """Returns the numbers of equal micro-batches that keep the groups of the minibatch statistic whole, ascending.

    Args:
        config: The run's configuration.
        d: D's, whose statistic has the groups.
        count: Images of this process in an iteration.
        processes: Processes of the run.
    """
    if "whole" in config.needs():
        return [1]
    most = groups(d, count * processes) // processes
    return [parts for parts in range(1, most + 1) if most % parts == 0] or [1]


def groups(d: DiscriminatorConfig, batch: int) -> int:
    """Returns into how many equal parts a minibatch may be cut: its groups of the minibatch statistic.

    The statistic in pytorch_GAN_zoo's form groups neighbours, which parts would tear: there it is one.
    """
    if d.minibatch_group == 1:
        return batch
    torn = d.diversity == "stddev" and d.stddev_form != "official"
    return 1 if torn else batch // min(d.minibatch_group, batch)


def check_batch_divides(config: TrainConfig, processes: int) -> None:
    """Raises `UsageError` where processes cannot share a batch without splitting a group of the minibatch statistic."""
    for resolution in config.resolutions() if processes > 1 else ():
        batch = int(config.batch.at(resolution))
        count = groups(config.discriminator, batch)
        if count % processes:
            raise UsageError(
                f"{processes} processes cannot share a batch of {batch} at {resolution}x{resolution}: it has {count} "
                f"groups of the minibatch statistic; give a --batch whose groups are a multiple of {processes}"
            )


def memory_limit(config: TrainConfig, device: torch.device) -> float:
    """Returns the bytes that this process may take in all: at most --budget, and its part of what is free."""
    from pggan.utils.devices import free_memory, held_memory
    from pggan.utils.distributed import local_world_size

    sharing = 1 if device.type == "cuda" else local_world_size()
    free = free_memory(device) / sharing + (held_memory(device) or 0)
    return float(free if config.budget is None else min(config.budget, free))


def resolve_memory(
    config: TrainConfig,
    device: torch.device,
    precision: str,
    recorded: Mapping[int, MicroBatchPlan] | None = None,
) -> dict[int, MicroBatchPlan]:
    """Plans a run's memory on this machine.

    On CPUs the plan is by estimate, because there the kernel kills processes instead of refusing memory; it is empty
    where every batch fits whole and nothing was asked for. On GPUs the run finds what fits, and a recorded plan holds.

    Raises:
        UsageError: One group of the minibatch statistic does not fit.
    """
    from pggan.utils.distributed import world_from_environment

    if device.type != "cpu":
        return dict(recorded or {})
    processes = world_from_environment().size
    plan = plan_memory(config, memory_limit(config, device), device.type, precision, processes, recorded)
    whole = {level_of(side): sizes[-1] for side, sizes in micro_batch_sizes(config, processes).items()}
    if config.budget is None and not config.auto_batch and not recorded:
        plan = {level: s for level, s in plan.items() if s.recompute or s.micro_batch < whole[level]}
    return plan


def estimate_memory(config: TrainConfig, processes: int) -> dict[int, MicroBatchPlan]:
    """Returns the plan within --budget by estimate, for --dry-run; empty without a budget."""
    if config.budget is None:
        return {}
    from pggan.utils.devices import pick_device, pick_precision

    device = pick_device(config.device)
    return plan_memory(config, config.budget, device.type, pick_precision(config.precision, device), processes)


def plan_to_json(plan: Mapping[int, MicroBatchPlan]) -> dict[str, Any]:
    """Returns the plan by resolution, as options.json holds it."""
    return {str(2**level): share._asdict() for level, share in plan.items()}


def plan_from_json(values: Mapping[str, Mapping[str, Any]]) -> dict[int, MicroBatchPlan]:
    """Reads a recorded plan; older ones say of each resolution, too, whether and what was measured.

    Raises `ValueError` where a share is damaged.
    """
    plan = {}
    for side, share in values.items():
        count, again, most = [share.get(name, math.nan) for name in MicroBatchPlan._fields]
        if not (is_kind(count, int) and is_kind(again, bool) and is_kind(most, float) and count >= 1 and most >= 0):
            raise ValueError(f"the memory plan of {side} is damaged")
        plan[level_of(int(side))] = MicroBatchPlan(int(count), bool(again), float(most))
    return plan


def describe(plan: Mapping[int, MicroBatchPlan], budget: float | None = None) -> list[str]:
    """Returns `images computed at once: 4x4 16, 8x8 8; up to 1.2 GiB of memory, by estimate`, or nothing.

    A second line says where that is more than the budget, which a GPU's run tries all the same.
    """
    if not plan:
        return []
    shares = [
        f"{2**level}x{2**level} {share.micro_batch}{' (activations again)' if share.recompute else ''}"
        for level, share in plan.items()
    ]
    most = max(share.bytes for share in plan.values())
    lines = [f"images computed at once: {', '.join(shares)}; up to {size(most)} of memory, by estimate"]
    if budget is not None and most > budget:
        sides = ", ".join(f"{2**level}x{2**level}" for level, share in plan.items() if share.bytes > budget)
        lines.append(
            f"WARNING: that is more than --budget {size(budget)} at {sides}: the run may end there, out of memory; the "
            "smallest micro-batch and activation checkpointing are in it already"
        )
    return lines
