"""Gradient penalties by forward mode: the same numbers as by the double backward pass; which of them a run takes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pggan.training.engine import gradients, step_executor
from pggan.training.engine.compile_worker import example
from pggan.training.engine.gradients import distance, eager, gradient_function
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from tests.training.test_step_modes import SMALL, clock, recorder

HALF = torch.tensor(0.3)
ONE = torch.tensor(1.0)


def prepared(precision="fp64", **changes):
    """A state and D's inputs at 8x8, half faded in; pictures of noise."""
    config = dataclasses.replace(SMALL, **changes)
    torch.manual_seed(0)
    state = TrainState(config, torch.device("cpu"), "fp32" if precision == "fp64" else precision)
    part = example(state, 3, 8)["d"]
    part = part._replace(reals=torch.rand_like(part.reals) * 2 - 1)
    if precision == "fp64":
        state.generator.double(), state.discriminator.double()
        state.setup = dataclasses.replace(state.setup, dtype=None)
        part = part.map(lambda t: t.double() if t.is_floating_point() else t)
    return state, part, dataclasses.replace(state.setup, forward=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss_options": (("gp_target", 750.0),)},
        {"loss": "r1", "loss_options": (("r1_gamma", 10.0),)},
        {"loss_options": (("instance_noise", 0.1), ("augment", "diffaugment"))},
        {"label_size": 3, "labels": "kind"},
    ],
)
def test_the_same_gradients(changes):
    state, part, forward = prepared(**changes)
    usual = eager(state.setup, "d", part, 3, HALF, ONE)
    other = eager(forward, "d", part, 3, HALF, ONE)
    assert distance(other.found, usual.found) < 1e-10
    for name, value in {**usual.losses, **usual.stats}.items():
        assert torch.allclose(value, {**other.losses, **other.stats}[name], rtol=1e-10)


@pytest.mark.parametrize("precision,scale", [("bf16", 1.0), ("fp16", 256.0)])
def test_half_precision(precision, scale):
    """No further from float32 than the double backward pass is, within a factor of two."""
    state, part, forward = prepared(precision)
    exact = dataclasses.replace(state.setup, dtype=torch.float32)
    expected = eager(exact, "d", part, 3, HALF, ONE).found
    usual, other = (eager(way, "d", part, 3, HALF, torch.tensor(scale)).found for way in (state.setup, forward))
    assert distance(other, expected) < 2 * distance(usual, expected) < 0.2


def test_in_one_graph():
    """The compiler takes it whole, within the gradient by the weights."""
    state, part, forward = prepared()
    expected = eager(state.setup, "d", part, 3, HALF, ONE).found
    weights = {name: p.detach() for name, p in state.discriminator.named_parameters() if expected[name] is not None}
    function = torch.compile(gradient_function(forward, "d", 3), fullgraph=True, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        found = function(weights, gradients.step.detached_parameters_of(state.generator), part, HALF, ONE)[0]
    torch._dynamo.reset()
    assert distance({**dict.fromkeys(expected), **found}, expected) < 1e-10


def chosen(seconds, mode):
    """What is said, and which way D's loss goes in the second step."""
    said = []
    state, part, _ = prepared()
    steps = StepExecutor({3: mode}, said.append, None, recorder, measure=clock(seconds), compare=True)
    used = []
    original = gradients.step.d_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            gradients.step, "d_loss", lambda setup, *rest: used.append(setup.forward) or original(setup, *rest)
        )
        found = steps(state.setup, "d", part, 3, HALF, ONE).found
        del used[:]
        steps(state.setup, "d", part, 3, HALF, ONE)
    assert distance(found, eager(state.setup, "d", part, 3, HALF, ONE).found) < 1e-9
    return said, used


def test_the_faster_way_is_taken():
    said, used = chosen([3.0, 2.0], "compiled")
    times = "3e+03 ms by the double backward pass, 2e+03 ms so"
    assert said[0] == f"the gradient penalty at 8x8 is differentiated by forward mode ({times})"
    assert used == [True]
    said, used = chosen([2.0, 3.0], "compiled")
    assert len(said) == 0
    assert used == [False]
    said, used = chosen([3.0, 2.0, 5.0, 4.0], "eager|captured-eager")
    assert "captured-eager" in said[1]
    assert used == [True]
    assert chosen([], "eager") == ([], [False])  # the plain reference stays what it is


def test_at_high_resolutions_one_group_tells(monkeypatch):
    monkeypatch.setattr(step_executor, "LARGE", 3)
    state, part, _ = prepared()
    seen = []

    def measure(function, device):
        found = function()
        seen.append(found)
        return 1.0

    original = gradients.step.d_loss

    def d_loss(setup, d, g, batch, *rest):
        seen.append(len(batch.latents))
        return original(setup, d, g, batch, *rest)

    monkeypatch.setattr(gradients.step, "d_loss", d_loss)
    StepExecutor({3: "compiled"}, lambda line: None, None, recorder, measure=measure, compare=True)(
        state.setup, "d", part, 3, HALF, ONE
    )
    assert [count for count in seen if isinstance(count, int)][:4] == [4, 4, 4, 4]


def test_what_has_no_forward_mode_goes_the_usual_way(monkeypatch):
    def none(*arguments):
        raise NotImplementedError("no forward mode")

    monkeypatch.setattr(torch.func, "jvp", none)
    said, used = chosen([3.0], "compiled")
    assert said == ["gradient penalties by forward mode: no forward mode; going on by the double backward pass"]
    assert used == [False]


def test_the_tolerance_of_half_precision_follows_its_rounding():
    state, part, _ = prepared("bf16")
    allowed = gradients.tolerance(state.setup, "d", part, 3, HALF, ONE)
    assert 0.05 <= allowed < 0.3
    lost = eager(state.setup, "d", part, 3, HALF, ONE).found
    without = dataclasses.replace(state.setup, objectives=state.setup.objectives[:1])
    with pytest.raises(gradients.GradientMismatch, match="differ from eager ones"):
        gradients.check(eager(without, "d", part, 3, HALF, ONE).found, lost, allowed)
