"""Lazy regularisation (--penalty-every): torch's own derivatives as the second way, step modes, and refusals."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
import torch

from pggan.config.losses import LAZY, REGULARIZERS
from pggan.config.train import PerResolution
from pggan.training.engine import step
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.gradients import build_gradient_fn, check, eager
from pggan.training.engine.loss_functions import StepInputs
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode
from pggan.training.monitor.stats import MetricAverager
from pggan.utils.errors import UsageError
from tests.helpers.train_steps import Player, tiny

BOTH = {"loss": "r1", "loss_options": (("r1_gamma", 2.0), ("r2_gamma", 0.5))}


def prepared(level=3, **options):
    """State and inputs in float64: D's loss ("d") and its penalties."""
    state = Player(tiny(**{**BOTH, **options})).state
    state.generator.double(), state.discriminator.double()
    state.context = replace(state.context, dtype=torch.float64)
    inputs = {
        name: each.map(lambda t: t.double() if t.is_floating_point() else t)
        for name, each in example_inputs(state, level, 4).items()
    }
    return state, inputs


def differences(gradients, expected):
    return max(float((gradients[name] - value).abs().max()) for name, value in expected.items() if value is not None)


def plain_penalty(d, images, gamma, level, alpha):
    """gamma / 2 * E ||grad D||^2 without anything of the product's but the network."""
    x = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(d(x, level, alpha).score.sum(), x, create_graph=True)
    return gamma / 2 * slope.square().sum(dim=(1, 2, 3)).mean()


def test_the_step_of_the_penalties_has_their_gradient_times_the_steps():
    state, inputs = prepared(penalty_every=4)
    gradients, losses, stats = eager(state.context, inputs["penalties"])
    batch, d, g = inputs["d"].batch, state.discriminator, state.generator
    alpha = inputs["d"].alpha
    fakes = g(batch.latents, 3, alpha, batch.fake_labels).detach()
    parts = [plain_penalty(d, batch.reals, 2.0, 3, alpha), plain_penalty(d, fakes, 0.5, 3, alpha)]
    names = dict(d.named_parameters())
    expected = dict(zip(names, torch.autograd.grad(4 * sum(parts), list(names.values()), allow_unused=True)))
    assert differences(gradients, expected) < 1e-12
    penalties = [float(part.detach()) for part in parts]
    assert [float(losses[name]) for name in ("r1", "r2")] == pytest.approx(penalties, abs=1e-12)
    assert set(stats) == {"gradient_norm", "gradient_norm_fake"}


def test_both_steps_together_are_the_loss_with_its_penalties():
    state, inputs = prepared(penalty_every=4)
    whole, same = prepared()
    main = eager(state.context, inputs["d"])
    assert not {"r1", "r2"} & set(main.losses)
    penalties = eager(state.context, inputs["penalties"]).by_name
    expected = eager(whole.context, same["d"]).by_name
    for name, value in expected.items():
        if value is not None:
            parts = [by_name[name] for by_name in (main.by_name, penalties) if by_name[name] is not None]
            scaled = parts[0] + (parts[1] / 4 if len(parts) > 1 else 0)
            assert torch.allclose(scaled, value, atol=1e-12), name


@pytest.mark.parametrize("mode", [StepMode.COMPILED, StepMode.CAPTURED_EAGER, StepMode.CAPTURED])
def test_step_modes_agree(mode):
    state, inputs = prepared(penalty_every=4)
    inputs = inputs["penalties"]
    expected = eager(state.context, inputs).by_name
    absent = [name for name, value in expected.items() if value is None]

    def captured(function):
        results = function()

        def replay():
            again = function()
            for old, new in zip(results, again):
                for name, value in old.items():
                    if value is not None:
                        value.copy_(new[name])

        return results, replay

    function = build_gradient_fn(mode, state.context, inputs, absent, "aot_eager", captured)
    check(function(inputs).by_name, expected, 1e-9)


def test_micro_batches_add_up():
    state, inputs = prepared(penalty_every=4, stddev_group=2)
    executor = StepExecutor(state)
    whole = step.accumulate_gradients(executor, inputs["penalties"], 1).by_name
    parts = step.accumulate_gradients(executor, inputs["penalties"], 2).by_name
    assert differences(parts, whole) < 1e-12


def test_when_it_is_taken_and_what_the_log_says(monkeypatch):
    player, taken = Player(tiny(**BOTH, penalty_every=3)), []
    executor_call = StepExecutor.__call__

    def watched(self, inputs: StepInputs):
        if inputs.player == "d":
            taken.append(inputs.penalties_only)
        return executor_call(self, inputs)

    monkeypatch.setattr(StepExecutor, "__call__", watched)
    averager, rows = MetricAverager(player.state), []
    for _ in range(7):
        averager.add(terms := player.iterate())
        rows.append({name: float(value) for name, value in terms.items()})
    assert taken == [False, True, False, False, False, True, False, False, False, True]
    assert [("lazy/r1" in row) for row in rows] == [True, False, False, True, False, False, True]
    # means over the steps that have them: however many of these fall into a tick
    line, lazy = averager.read(), [row for row in rows if "lazy/r1" in row]
    assert line["r1"] == pytest.approx(fmean(row["lazy/r1"] for row in lazy), rel=1e-5)
    assert line["d_loss"] == pytest.approx(sum(line[name] for name in ("real", "fake", "r1", "r2")), rel=1e-5)
    assert not [name for name in line if name.startswith("lazy")]
    averager.add(player.iterate())
    assert "r1" not in averager.read()  # no such step in this tick


def test_a_resolution_without_penalty_has_no_step_for_it():
    options = {"loss": "r1", "loss_options": (("r1_gamma", "4:0,8:1"),), "penalty_every": 2}
    player = Player(tiny(**options))
    assert set(example_inputs(player.state, 2, 4)) == {"d", "g"}
    assert set(example_inputs(player.state, 3, 4)) == {"d", "g", "penalties"}
    group = player.state.d_optimizer.param_groups[0]
    player.state.apply_schedule(player.schedule.at(0))
    assert (group["lr"], group["betas"]) == (pytest.approx(0.001), (0.0, 0.99))  # K updates are K
    rows = [player.play(1) for _ in range(8)]
    assert (group["lr"], group["betas"]) == (pytest.approx(0.001 * 2 / 3), (0.0, pytest.approx(0.99 ** (2 / 3))))
    began = next(number for number, row in enumerate(rows) if "lazy/r1" in row)
    assert player.schedule.at(4 * began).level == 3
    assert player.schedule.at(4 * (began - 2)).level == 2


def test_adam_s_decay_rates_and_rate_stand_for_one_more_update():
    config = tiny(**BOTH, penalty_every=4, adam_betas=(0.5, 0.99), d_lr=PerResolution(0.002))
    state = Player(config).state
    state.apply_schedule(state.schedule.at(0))
    g, d = state.g_optimizer.param_groups[0], state.d_optimizer.param_groups[0]
    assert (g["lr"], g["betas"]) == (pytest.approx(0.001), (0.5, 0.99))
    assert (d["lr"], d["betas"]) == (pytest.approx(0.0016), pytest.approx((0.5**0.8, 0.99**0.8)))
    assert state.learning_rates(state.schedule.at(0)) == pytest.approx((0.001, 0.0016))  # as the log has them


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "--penalty-every 4 with --loss wgan-gp: its penalty bounds the critic's slope"),
        ({"loss_options": (("r2_gamma", 1.0),)}, "with --loss wgan-gp"),
        ({"loss": "lsgan"}, "is about R1 and R2, of which this run has none"),
        ({"loss": "r1", "loss_options": (("r1_gamma", "4:0,8:0"),)}, "is about R1 and R2, of which this run has none"),
        ({"loss": "wgan", "loss_options": (("r2_gamma", 1.0),)}, "--loss wgan: its weights are clipped"),
        (
            {"loss": "wgan", "loss_options": (("r2_gamma", 1.0),), "adam_betas": (0.0, 0.99)},
            "--loss wgan: its weights are clipped",
        ),
    ],
)
def test_refusals(options, reason):
    with pytest.raises(UsageError, match=reason):
        tiny(**options, penalty_every=4)


def test_the_table_and_the_objectives_agree():
    lazy = {spec.name for spec in REGULARIZERS if getattr(REGULARIZERS.load(spec.name), "lazy", False)}
    assert lazy == set(LAZY)
