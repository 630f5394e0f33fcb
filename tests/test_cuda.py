"""What GPUs do otherwise: the same tests run on the CPU, with what stands in for CUDA graphs, and where there is a GPU
on that."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution
from pggan.data.loading.loader import BatchRequest, LoadedBatch
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.generation.model import load
from pggan.training.engine.batch_builder import BatchBuilder, example_inputs
from pggan.training.engine.gradients import distance, eager
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import train_step
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode
from pggan.training.run.directory import RunDirectory
from pggan.training.start import begin, resume
from pggan.utils.devices import set_precision
from tests.helpers.runs import Notes
from tests.helpers.step_modes import LEVELS, SMALL, agree, recorder, trained

aten = torch.ops.aten
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
pytestmark = pytest.mark.parametrize("device", DEVICES)


def trained_in(device, mode, **options):
    """On the CPU: traced for nobody, and captured by a stand-in."""
    stand_in = {} if device == "cuda" else {"backend": None, "capturer": recorder}
    return trained(SMALL, dict.fromkeys(LEVELS, mode), device=device, **stand_in, **options)


@pytest.mark.long
@pytest.mark.parametrize("mode", [StepMode.CAPTURED_EAGER, StepMode.COMPILED, StepMode.CAPTURED])
def test_modes_agree(device, mode):
    """20 iterations in float64 through a fade: losses and 99.9 % of the weights within 1e-9 on the CPU, 1e-6 on GPUs,
    whose libraries sum in orders of their own."""
    set_precision("fp32")
    within = 1e-6 if device == "cuda" else 1e-9
    found = trained_in(device, mode)
    agree(trained(SMALL, device=device), found, within)
    assert found[2].modes == dict.fromkeys(LEVELS, mode)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_half_precision_differs_by_little(device, precision):
    """Losses of 20 iterations against float32 eager ones, relative to their size: 1.0 in bf16, 0.1 in float32."""
    set_precision("fp32")
    plain = trained(SMALL, double=False, device=device)
    other = trained_in(device, StepMode.CAPTURED_EAGER, precision=precision, double=False)
    assert np.abs(plain[0] - other[0]).max() < (1.0 if precision == "bf16" else 0.1)


class StoreWatch(TorchDispatchMode):
    """Raises where a tensor's value is asked for, as `bool(x)` and `x.item()` do."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function not in (aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default), function
        return function(*args, **(kwargs or {}))


@contextmanager
def no_waiting(device):
    """Whatever makes the host wait for a GPU raises within the block; on the CPU, what would on a GPU."""
    if device == "cpu":
        with StoreWatch():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(
    "loss,options",
    [("wgan-gp", {}), ("began", {}), ("wgan-gp", {"augment": "ada", "historical_averaging": 0.01})],
)
def test_the_loop_does_not_wait(device, precision, loss, options):
    """An iteration with its data is begun without looking at any result of it."""
    config = dataclasses.replace(
        SMALL, loss=loss, loss_options=tuple(options.items()), held_out=0.1 if options else 0.0
    )
    state = TrainState(config, torch.device(device), precision, fused=True)
    scheduled = Schedule(config).at(0)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 4, 4), np.uint8)
    loaded = LoadedBatch(images, np.zeros((8, 0), np.int32), BatchRequest(0, 8, 4), images if options else None)
    inputs = state, StepExecutor(state), BatchBuilder(state, 0, None), iter([loaded] * 4), scheduled
    train_step(*inputs)
    with no_waiting(device):
        for _ in range(3):
            train_step(*inputs)
    assert state.nimg == 32
    with pytest.raises((AssertionError, RuntimeError)), no_waiting(device):
        bool(torch.ones((), device=device))


@pytest.mark.parametrize("fused", [True, False])
def test_gradients_do_not_depend_on_the_memory_layout(device, fused):
    """Torch's gradient of padded average pooling was wrong on GPUs for channels_last (pytorch issue 188344)."""
    set_precision("fp32")
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        state = TrainState(dataclasses.replace(SMALL, fused_scale=fused), torch.device(device), "fp32")
        for network in (state.generator, state.discriminator):
            network.double().to(memory_format=layout)
        context = dataclasses.replace(state.context, dtype=None)
        for inputs in example_inputs(state, 3, 8).values():
            wide = inputs.map(lambda t: t.double() if t.is_floating_point() else t)
            found.append(eager(context, wide).by_name)
    assert distance(found[0], found[2]) < 1e-12
    assert distance(found[1], found[3]) < 1e-12


@pytest.mark.long
def test_a_run(device, tmp_path):
    """From pictures to pictures, in the mode and precision that it chooses; taken up again; measured."""
    store = tmp_path / "data"
    prepare("drawn:24", store, PrepareOptions(max_res=16, codec="16:png"))
    config = dataclasses.replace(
        SMALL, data=str(store), max_res=16, device=device, eval_samples=16, total_kimg=0.3, tick_kimg=PerResolution(0.1)
    )
    notes, run = Notes(), RunDirectory(tmp_path / "run")
    begin(dataclasses.replace(config, total_kimg=0.2), run.path, notes)
    _, resolved = run.read_options()
    assert resolved["device"].startswith(device)
    resume(run, notes, changes={"total_kimg": 0.3}, override=True)
    assert not any("could not" in line for line in notes.said)
    here, there = load(run.path, device), load(run.path, "cpu")
    made, expected = here.generate(range(5)), there.generate(range(5))
    assert made.shape == (5, 16, 16, 3)
    assert np.abs(made.astype(int) - expected.astype(int)).max() <= 1
