"""Convolutions that can be differentiated twice: their derivatives against torch's, and which kernels they ask for."""

import importlib.util
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode

from pggan.config.losses import OBJECTIVES
from pggan.config.train import PerResolution
from pggan.losses.regularizers import gradient_penalty
from pggan.networks import convolution as convolution_module
from pggan.networks import layers
from pggan.networks.activation_checkpointing import CheckpointSwitch, checkpointable_blocks, enable_checkpointing
from pggan.networks.convolution import Convolution, Geometry, convolution, second_derivatives
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.cuda_graphs import CudaGraphs
from pggan.training.engine.gradients import build_gradient_fn, distance, eager
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_modes import StepMode
from tests.helpers.step_modes import SMALL

aten = torch.ops.aten
WEIGHT_ARGUMENT = {aten.convolution.default: 1, aten.convolution_backward.default: 2}
GEOMETRIES = {
    "1x1": (Geometry(), (5, 4, 1, 1)),
    "3x3": (Geometry(padding=1), (5, 4, 3, 3)),
    "4x4 to 1x1": (Geometry(), (5, 4, 4, 4)),
    "strided": (Geometry(2, 1), (5, 4, 4, 4)),
    "transposed": (Geometry(2, 1, transposed=True), (4, 5, 4, 4)),
}


def torchs(x, weight, bias, geometry):
    """The same convolution by torch's public functions, whose derivatives are torch's own."""
    function = F.conv_transpose2d if geometry.transposed else F.conv2d
    return function(x, weight, bias, stride=geometry.stride, padding=geometry.padding)


@pytest.mark.parametrize("geometry,shape", GEOMETRIES.values(), ids=GEOMETRIES)
def test_derivatives_of_three_orders_are_torchs(geometry, shape):
    def derivatives(function):
        torch.manual_seed(0)
        x, weight, bias = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 4, 8, 8), shape, (5,)))
        inputs, found = (x, weight, bias), []
        value = function(*inputs, geometry).square().sum()
        for _ in range(3):
            gradients = torch.autograd.grad(value, inputs, create_graph=True)
            found += gradients
            value = sum((g.square() * torch.linspace(0.1, 2, g.numel()).reshape(g.shape)).sum() for g in gradients)
        return found

    expected = derivatives(torchs)
    with second_derivatives.set(False):
        plain = derivatives(convolution)
    for own in (plain, derivatives(Convolution.apply)):
        for a, b in zip(own, expected, strict=True):
            assert (a - b).abs().max() <= 1e-12 * b.abs().max()


def test_only_gradients_by_pictures_are_computed_while_second_derivatives_are_needed():
    x, weight, bias = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3), torch.zeros(3)
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    with second_derivatives.set(True):
        y = convolution(x, weight, bias, Geometry(padding=1)).square().sum()
        gradients = torch.autograd.grad(y, (x, weight, bias), create_graph=True, allow_unused=True)
    assert gradients[0].shape == x.shape
    assert gradients[1:] == (None, None)
    assert not second_derivatives.needed


class LargeKernels(TorchDispatchMode):
    """Counts convolutions, and those with kernels above 4x4."""

    def __init__(self):
        super().__init__()
        self.all, self.large = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        weight = WEIGHT_ARGUMENT.get(function)
        if weight is not None:
            self.all += 1
            self.large += args[weight].shape[-1] > 4
        return function(*args, **(kwargs or {}))


PENALISED = [loss for loss in OBJECTIVES.names() if "penalty" in OBJECTIVES[loss].needs]


FORMS = {
    "fused": {},
    "unfused": {"fused_scale": False},
    "bilinear": {"resample": "bilinear"},
}


def inputs_of_d(loss, form, level, batch=8):
    """A context in float64 and D's inputs at a level of a run up to 32x32."""
    config = replace(SMALL, loss=loss, max_res=32, batch=PerResolution(batch), **FORMS[form])
    torch.manual_seed(0)
    state = TrainState(config, torch.device("cpu"), "fp32")
    state.generator.double()
    state.discriminator.double()
    inputs = example_inputs(state, level, batch)["d"]
    return replace(state.context, dtype=None), inputs.map(lambda t: t.double() if t.is_floating_point() else t)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", PENALISED)
def test_gradients_of_d_are_those_of_torchs_convolutions(loss, form, monkeypatch):
    for level in range(2, 6):
        context, inputs = inputs_of_d(loss, form, level)
        own = eager(context, inputs)
        with monkeypatch.context() as patch, LargeKernels() as kernels:
            patch.setattr(layers, "convolution", torchs)
            expected = eager(context, inputs)
        assert kernels.large > 0 or level == 2  # the reference has them
        assert distance(own.by_name, expected.by_name) < 1e-12
        assert own.losses.keys() == expected.losses.keys()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", PENALISED)
def test_no_kernel_is_as_large_as_the_picture(loss, form):
    """Eager and traced for the compiler, at every level; with activation checkpointing, too."""
    for level in range(2, 6):
        context, inputs = inputs_of_d(loss, form, level)
        with LargeKernels() as kernels:
            gradients = eager(context, inputs)
        assert (kernels.large, kernels.all > 5) == (0, True)

        switch = CheckpointSwitch()
        enable_checkpointing(checkpointable_blocks(context.discriminator), switch)
        switch.on = True
        with LargeKernels() as kernels:
            again = eager(context, inputs)
        assert (kernels.large, kernels.all > 5) == (0, True)
        assert distance(again.by_name, gradients.by_name) < 1e-12


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", PENALISED)
def test_the_compiled_step_has_no_large_kernel_and_the_same_gradients(loss, form):
    graphs = []

    def counted(graph, inputs):
        nodes = [
            n for n in graph.graph.nodes if n.target in (aten.convolution.default, aten.convolution_backward.default)
        ]
        weights = [n.args[1 if n.target is aten.convolution.default else 2].meta["val"] for n in nodes]
        graphs.append((len(nodes), max(weight.shape[-1] for weight in weights)))
        return make_boxed_func(graph.forward)

    context, inputs = inputs_of_d(loss, form, 4)
    expected = eager(context, inputs).by_name
    absent = [name for name, gradient in expected.items() if gradient is None]
    backend = aot_autograd(fw_compiler=counted)
    function = build_gradient_fn(StepMode.COMPILED, context, inputs, absent, backend, CudaGraphs())
    assert distance(function(inputs).by_name, expected) < 1e-12
    ((count, largest),) = graphs
    assert count > 10
    assert largest <= 4


@pytest.mark.long
@pytest.mark.parametrize("registered", [True, False])
def test_the_compiler_has_to_be_told_of_the_functions(registered, monkeypatch):
    """Without it the compiler refuses the step, or computes wrong second derivatives in silence."""
    spec = importlib.util.spec_from_file_location("another_convolution", convolution_module.__file__)
    another = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = another
    spec.loader.exec_module(another)
    if registered:
        another.register_with_compiler()
    monkeypatch.setattr(layers, "convolution", another.convolution)
    monkeypatch.setattr(gradient_penalty, "second_derivatives", another.second_derivatives)
    context, inputs = inputs_of_d("wgan-gp", "fused", 3)
    expected = eager(context, inputs).by_name
    absent = [name for name, gradient in expected.items() if gradient is None]
    function = build_gradient_fn(StepMode.COMPILED, context, inputs, absent, "aot_eager", CudaGraphs())
    if registered:
        assert distance(function(inputs).by_name, expected) < 1e-12
        return
    try:
        apart = distance(function(inputs).by_name, expected)
    except Exception:  # noqa: BLE001 (which one it is, is the compiler's)
        return
    assert apart > 0.1
