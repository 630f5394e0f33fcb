"""Weights prepared once for the passes of D's step: the same gradients in every architecture, with less work."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pggan.networks.activation_checkpointing import CheckpointSwitch, checkpointable_blocks, enable_checkpointing
from pggan.training.engine import loss_functions
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.gradients import distance, eager
from pggan.training.engine.state import TrainState
from tests.helpers.train_steps import CLASSES, tiny

CONFIGS = {
    "official": {},
    "unfused": {"fused_scale": False},
    "weight norm": {"d_norm": "weight"},
    "layer norm": {"d_norm": "layer"},
    "discrimination": {"diversity": "discrimination"},
    "labels and codes": {"label_size": CLASSES, "categorical": (3,), "continuous": 1},
    "began": {"loss": "began"},
    "dcgan": {"arch_d": "dcgan"},
    "fc": {"arch_d": "fc"},
}


def case(options, level=3):
    """A context in float64, and D's inputs at a level."""
    torch.manual_seed(0)
    state = TrainState(tiny(**{"start_res": 8, "max_res": 8, **options}), torch.device("cpu"), "fp32")
    state.generator.double()
    state.discriminator.double()
    inputs = example_inputs(state, level, 8)["d"]
    return replace(state.context, dtype=None), inputs.map(lambda t: t.double() if t.is_floating_point() else t)


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
def test_the_gradients_are_those_of_passes_that_compute_their_own(options, monkeypatch):
    context, inputs = case(options)
    own = eager(context, inputs)
    switch = CheckpointSwitch()
    enable_checkpointing(checkpointable_blocks(context.discriminator), switch)
    switch.on = True
    checkpointed = eager(context, inputs)
    switch.on = False
    monkeypatch.setattr(loss_functions, "prepared_weights", lambda *arguments: {})
    expected = eager(context, inputs)
    assert distance(own.by_name, expected.by_name) < 1e-12
    assert distance(checkpointed.by_name, expected.by_name) < 1e-12


@pytest.mark.parametrize("level", [2, 3, 4, 5])
def test_the_layers_of_a_level_are_those_that_get_gradients(level):
    context, inputs = case({"start_res": 4, "max_res": 32}, level)
    gradients = eager(context, inputs).by_name
    used = {name for name, gradient in gradients.items() if gradient is not None}
    layers = context.discriminator.layers_at(level)
    assert used <= {f"{name}.{kind}" for name in layers for kind in ("weight", "bias")}
    skipped = {name for name in layers if f"{name}.weight" not in used}
    assert skipped == ({"from_rgb.4x4"} if level == 3 and not context.discriminator.config.fades_at_8 else set())


class Spreads(TorchDispatchMode):
    """Counts how often 3x3 weights are spread to 4x4."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.mm.default and args[1].shape == (9, 16)
        return function(*args, **(kwargs or {}))


def test_a_weight_is_spread_once_a_step():
    context, inputs = case({"start_res": 4, "max_res": 32}, 5)
    with Spreads() as spreads:
        eager(context, inputs)
    of_g = of_d = 3  # layers that scale, up to 32x32
    assert spreads.count == of_g + of_d
