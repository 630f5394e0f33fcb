"""Trial of the smallest micro-batch on a CPU, where the kernel kills a process that takes too much memory.

On GPUs the first iteration of a resolution is the trial, of the largest micro-batch: memory that runs out there raises,
and `StepExecutor.reduce_memory` halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pggan.config.schedule import ScheduleState
from pggan.networks.flops import parameters
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.gradients import eager
from pggan.training.engine.memory_estimate import (
    USABLE,
    image_bytes,
    memory_limit,
    micro_batch_sizes,
    pass_bytes,
    too_little,
    value_bytes_of,
)
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.utils import distributed
from pggan.utils.devices import can_measure, held_memory, out_of_memory, peak_memory, trim_cache

# Bytes of a parameter that a resolution adds to the weights: two moments and a gradient.
MOMENTS_AND_GRADIENT = 12


def fit_micro_batch(executor: StepExecutor, scheduled: ScheduleState, data: int = 0) -> None:
    """Makes a resolution's micro-batches as small as needed by the memory that is free when it begins, on a CPU.

    The estimate decides, corrected where a trial of the smallest micro-batch takes more. All processes of the run agree
    on the smallest. On a GPU nothing is done.

    Args:
        executor: Computes the steps, and learns how many micro-batches there are.
        scheduled: The schedule at the resolution's first iteration.
        data: Images in the data, which the loader may cache in memory.

    Raises:
        UsageError: One group of the minibatch statistic does not fit.
    """
    state, level, side = executor.state, scheduled.level, scheduled.resolution
    if state.device.type != "cpu":
        return
    own = max(1, scheduled.batch // state.world.size)
    held = float(held_memory(state.device) or 0)
    limit = memory_limit(state.config, state.device) * USABLE - _cache_bytes(state, side, data)
    error = 1.0  # of the estimate

    def need(images: int) -> float:
        again = level in executor.checkpointed
        each = image_bytes(state.config, side, value_bytes_of(state.precision), again, "cpu")
        return error * (images * each + pass_bytes(state.config, side, again))

    def reduce() -> None:
        weights = sum(parameters(network.config, level) for network in (state.generator, state.discriminator))
        beside = held + MOMENTS_AND_GRADIENT * weights
        while beside + need(images := own // executor.num_micro_batches(level, own)) > limit:
            if not executor.reduce_memory(level, own, "too little memory is free"):
                raise too_little(limit / USABLE, side, images, (beside + need(images)) / USABLE, state.precision)

    reduce()
    smallest = micro_batch_sizes(state.config, state.world.size)[side][0]
    if own // executor.num_micro_batches(level, own) > smallest and can_measure(state.device):
        error = max(1.0, measure_micro_batch(executor, level, smallest) / need(smallest))
        reduce()
    executor.accumulate(level, distributed.all_reduce_max(executor.num_micro_batches(level, own), state.world))


def _cache_bytes(state: TrainState, side: int, data: int) -> float:
    """Returns what the loader will cache of the data in main memory."""
    whole = data * state.config.channels * side**2
    return whole if state.config.cache != "none" and whole <= state.config.cache_mb << 20 else 0


def measure_micro_batch(executor: StepExecutor, level: int, images: int) -> float:
    """Returns the bytes that eager gradients of D, then of G, take above what is held; 0 where memory runs out.

    Nothing of the training state changes.
    """
    device = executor.state.device

    def compute() -> None:
        compute_micro_batch(executor, level, images)

    try:
        compute()  # what libraries load once is not the images'
        held = held_memory(device) or 0
        return max(0.0, (peak_memory(device, compute) or 0) - held)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return 0.0


def compute_micro_batch(executor: StepExecutor, level: int, images: int) -> None:
    """Computes eager gradients of D, then of G, on images of noise."""
    state = executor.state
    with _untouched(state), executor.checkpointing(level in executor.checkpointed):
        for inputs in example_inputs(state, level, images).values():
            eager(executor.context(level), inputs)


@contextmanager
def _untouched(state: TrainState) -> Iterator[None]:
    """Restores all buffers and the process's random state after the block, and gives memory back."""
    modules = (state.generator, state.discriminator, state.objectives)
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
            trim_cache(state.device)
