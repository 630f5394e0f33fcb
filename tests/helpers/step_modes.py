"""A small run's steps in every mode: what stands in for CUDA graphs, trained states and how far they may differ."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig
from pggan.data.loading.loader import LoadedBatch
from pggan.losses.base import Batch
from pggan.training.engine import step
from pggan.training.engine.batch_builder import BatchBuilder
from pggan.training.engine.loss_functions import StepInputs
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor

SMALL = TrainConfig(
    max_res=8,
    latent_size=8,
    fmap_base=32,
    fmap_max=8,
    batch=PerResolution(8),
    stable_kimg=PerResolution.of({4: 0.056, 8: 0.04}),
    fade_kimg=PerResolution(0.064),
    device="cpu",
)


LEVELS = (2, 3)


def recorder(function):
    """Stands in for a CUDA graph: results at one place, computed anew from what lies where the inputs lay."""
    found, losses, stats = function()
    for value in (*found.values(), *losses.values(), *stats.values()):
        if value is not None:
            value.fill_(float("nan"))  # nobody may read a recording before it is replayed

    def replay():
        for old, new in zip((found, losses, stats), function()):
            for name, value in new.items():
                if value is not None:
                    old[name].copy_(value)

    return (found, losses, stats), replay


def trained(config, modes=None, precision="fp32", double=True, iterations=20, device="cpu", **options):
    """Losses, weights and the executor after iterations that cross from 4x4 through a fade into stable 8x8."""
    torch.manual_seed(0)
    state = TrainState(config, torch.device(device), precision)
    if double:
        for module in (state.generator, state.discriminator, state.average):
            module.double()
        state.context = dataclasses.replace(state.context, dtype=None)
    executor = StepExecutor(state, modes, **options)
    schedule, builder, losses = Schedule(config), BatchBuilder(state, 0, None), []
    exact = torch.float64 if double else torch.float32
    of_d, of_g = BatchBuilder.d_batch, BatchBuilder.g_batch

    def widened(batch):
        return batch.map(lambda t: t.to(exact) if t.is_floating_point() else t)

    for _ in range(iterations):
        scheduled = schedule.at(state.nimg)
        shape = (scheduled.batch, 3, scheduled.resolution, scheduled.resolution)
        images = np.random.default_rng(state.nimg).integers(0, 256, shape, np.uint8)
        batches = iter([LoadedBatch(images, np.zeros((scheduled.batch, 0), np.int32), None)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BatchBuilder, "d_batch", lambda *inputs: widened(of_d(*inputs)))
            patch.setattr(BatchBuilder, "g_batch", lambda *inputs: widened(of_g(*inputs)))
            terms = step.train_step(state, executor, builder, batches, scheduled)
        losses.append((float(terms["d_loss"]), float(terms["g_loss"])))
    assert schedule.at(state.nimg).alpha == 1
    assert schedule.at(state.nimg).level == 3
    return np.array(losses), {name: tensor.cpu() for name, tensor in state.tensors().items()}, executor


def agree(a, b, within):
    assert np.abs(a[0] - b[0]).max() < within
    assert a[1].keys() == b[1].keys()
    weights = [name for name in a[1] if name.startswith(("generator.", "discriminator.", "average."))]
    near = torch.cat([((a[1][n] - b[1][n]).abs() <= within).flatten() for n in weights])
    assert near.float().mean() >= 0.999


def a_batch(state, level, count=8):
    side = 2**level
    made = torch.Generator().manual_seed(0)
    labels = torch.zeros(count, 0)
    reals = torch.rand(count, 3, side, side, generator=made) * 2 - 1
    latents = torch.randn(count, state.config.latent_size, generator=made)
    return Batch(reals, labels, latents, labels, torch.rand(count, generator=made), {})


def executed(modes, level=3, count=8, **options):
    """An executor, what it notes, and the inputs of D at a level."""
    said, state = [], TrainState(SMALL, torch.device("cpu"), "fp32")
    executor = StepExecutor(state, modes, said.append, **{"backend": None, "capturer": recorder, **options})
    inputs = StepInputs("d", level, a_batch(state, level, count), torch.tensor(0.5), torch.tensor(1.0))
    return executor, said, inputs
