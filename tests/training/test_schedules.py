"""Numbers that change over the run: plain arithmetic as the second way, step modes, resume, and refusals."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from pggan.cli import run
from pggan.config.config_file import read_options, to_options, to_toml
from pggan.config.presets import configure
from pggan.config.train import PerResolution, TrainConfig, from_json, to_json
from pggan.training import start
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.gradients import build_gradient_fn, check, eager
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_modes import StepMode
from pggan.training.monitor.plan_table import plan, table
from pggan.training.run.directory import RunDirectory
from pggan.training.run.model_card import recipe
from pggan.training.train_run import collect_options, resume_run
from pggan.utils.errors import UsageError
from tests.helpers.step_modes import recorder
from tests.helpers.train_steps import Player, tiny

RATES = {"g_lr": PerResolution.parse("0.004..0.001"), "d_lr": PerResolution.parse("0.002..0.003")}
EVERYTHING = {
    **RATES,
    "lr_warmup": 0.02, "adam_beta2": PerResolution.parse("0.9..0.99"), "loss": "r1",
    "ema_half_life": PerResolution.parse("0.01..0.1"),
    "loss_options": (("r1_gamma", "4..1"), ("r2_gamma", "0..2"), ("augment", "ada"), ("augment_p", "0.1..0.5")),
}  # fmt: skip


def test_rates_are_linear_in_the_images_after_a_warm_up():
    schedule = tiny(**RATES, lr_warmup=0.02).schedule
    total = schedule.total
    for nimg in range(0, total + 1, 4):
        warm = min(1.0, (nimg + 4) / 20)
        state = schedule.at(nimg)
        assert state.g_lr == pytest.approx((0.004 - 0.003 * nimg / total) * warm, rel=1e-12)
        assert state.d_lr == pytest.approx((0.002 + 0.001 * nimg / total) * warm, rel=1e-12)
    assert schedule.at(total + 100).g_lr == pytest.approx(0.001)


def test_the_half_life_of_the_average_and_beta2():
    config = tiny(**{**EVERYTHING, "ema_ramp": 0.0, "penalty_every": 4})
    schedule, state = config.schedule, TrainState(config, torch.device("cpu"), "fp32")
    half = schedule.total // 2
    kimg = 0.01 + 0.09 * half / schedule.total
    assert schedule.average_decay(half, 4, 2) == pytest.approx(0.5 ** (0.004 / kimg))
    state.apply_schedule(schedule.at(half))
    beta2 = 0.9 + 0.09 * half / schedule.total
    assert state.g_optimizer.param_groups[0]["betas"] == (0.0, pytest.approx(beta2))
    assert state.d_optimizer.param_groups[0]["betas"] == (0.0, pytest.approx(beta2**0.8))


def in_float64(**options):
    state = Player(tiny(**options)).state
    state.generator.double(), state.discriminator.double(), state.objectives.double()
    state.context = replace(state.context, dtype=torch.float64)
    inputs = example_inputs(state, 3, 4)["d"].map(lambda t: t.double() if t.is_floating_point() else t)
    return state, inputs


def seen(inputs, nimg):
    return replace(inputs, batch=inputs.batch._replace(nimg=torch.tensor(float(nimg), dtype=torch.float64)))


def test_the_weight_of_the_penalty_follows_the_images_seen():
    state, inputs = in_float64(loss="r1", loss_options=(("r1_gamma", "4..1"),))
    total = state.schedule.total
    x = inputs.batch.reals.detach().requires_grad_()
    (slope,) = torch.autograd.grad(state.discriminator(x, 3, inputs.alpha).score.sum(), x)
    squares = float(slope.square().sum(dim=(1, 2, 3)).mean())
    for nimg, gamma in ((0, 4.0), (total / 3, 3.0), (total, 1.0), (2 * total, 1.0)):
        losses = eager(state.context, seen(inputs, nimg)).losses
        assert float(losses["r1"]) == pytest.approx(gamma / 2 * squares, rel=1e-12)


@pytest.mark.parametrize("mode", [StepMode.COMPILED, StepMode.CAPTURED_EAGER, StepMode.CAPTURED])
def test_captured_and_compiled_steps_follow_too(mode):
    state, inputs = in_float64(loss="r1", loss_options=EVERYTHING["loss_options"])
    at_end = seen(inputs, state.schedule.total)
    expected = {0: eager(state.context, inputs).by_name, 1: eager(state.context, at_end).by_name}
    absent = [name for name, value in expected[0].items() if value is None]
    function = build_gradient_fn(mode, state.context, inputs, absent, "aot_eager", recorder)
    for number, given in enumerate((inputs, at_end, inputs)):
        check(function(given).by_name, expected[number % 2], 1e-9)
    with pytest.raises(Exception, match="differ"):
        check(expected[1], expected[0], 1e-3)


def test_ada_s_p_follows_and_is_logged():
    player = Player(tiny(**EVERYTHING))
    total = player.schedule.total
    for _ in range(5):
        nimg = player.state.nimg
        assert player.play(1)["augment_p"] == pytest.approx(0.1 + 0.4 * nimg / total, rel=1e-6)


@pytest.mark.parametrize("given, tuned", [("0", True), ("0..0", False), ("0.2", False), ("0..0.5", False)])
def test_ada_s_p_is_tuned_only_where_it_is_left_at_0(given, tuned):
    player = Player(tiny(loss_options=(("augment", "ada"), ("augment_p", given))))
    assert ("overfitting" in player.play(1)) == tuned


def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    config = tiny(**EVERYTHING, penalty_every=2)
    whole, first = Player(config), Player(config)
    whole.play(9), first.play(5)
    first.state.save(tmp_path / "state.safetensors")
    second = Player(config)
    second.state.load(tmp_path / "state.safetensors")
    second.play(4)
    expected, resumed = whole.state.tensors(), second.state.tensors()
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_files_plan_and_recipe_have_them(tmp_path):
    config = configure("demo", EVERYTHING)
    assert from_json(TrainConfig, to_json(config)) == config
    toml = tmp_path / "recipe.toml"
    toml.write_text(to_toml(to_options(config)))
    assert read_options(toml)["ema_half_life"] == "0.01..0.1"
    assert read_options(toml)["r1_gamma"] == "4..1"
    assert "--g-lr 0.004..0.001" in recipe(config)
    assert "--ema-half-life 0.01..0.1" in recipe(config)
    planned = plan(config)
    assert planned["schedules"]["r2_gamma"] == {"start": 0.0, "end": 2.0}
    last = planned["phases"][-1]
    assert last["g_lr"] == pytest.approx(0.004 - 0.003 * last["start_kimg"] / planned["total_kimg"])
    assert "over the run: --g-lr 0.004..0.001" in table(config)
    assert "over the run" not in table(configure("demo", {}))


def test_command_line_files_and_library_take_them(tmp_path, capsys):
    values = {name: value for name, value in EVERYTHING.items() if name != "loss_options"}
    values |= dict(EVERYTHING["loss_options"])
    assert configure("demo", collect_options(values)) == configure("demo", EVERYTHING)
    texts = {name: str(value) for name, value in values.items() if name != "lr_warmup"}
    assert configure("demo", collect_options({**values, **texts})) == configure("demo", EVERYTHING)
    words = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    written = ["train", "--device", "cpu", "--write-config"]
    assert run([*written, "--preset", "demo", *words]) == 0
    (tmp_path / "recipe.toml").write_text(capsys.readouterr().out)
    assert run([*written, "--config", str(tmp_path / "recipe.toml"), "--json"]) == 0
    options = json.loads(capsys.readouterr().out)
    assert {name: text for name, text in texts.items() if options[name] != text} == {}
    assert collect_options({"augment_p": "0.25", "ema_half_life": "4"}) == {
        "ema_half_life": 4.0, "loss_options": (("augment_p", 0.25),),
    }  # fmt: skip


def test_what_was_recorded_before_still_loads():
    values = to_json(configure("demo", {"ema_half_life": 5.0}))
    for name in ("lr_warmup", "adam_beta2"):
        del values[name]
    assert from_json(TrainConfig, values).ema_half_life == 5.0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch": PerResolution.parse("16..8")}, "--batch 16..8: it does not change over the run"),
        ({"g_lr": PerResolution.parse("0.1..20")}, "--g-lr 20 is not from 0 to 10"),
        ({"ema_half_life": PerResolution.parse("0..20")}, "--ema-half-life 0 is not from 0.001"),
        ({"ema_half_life": PerResolution.parse("4:1,8:2")}, "one number for all resolutions, or START..END"),
        ({"adam_beta2": PerResolution.parse("0.9..1")}, "--adam-beta2 1 is not from 0 to below 1"),
    ],
)
def test_refusals(options, reason):
    with pytest.raises(UsageError, match=reason):
        tiny(**options)


@pytest.mark.parametrize("text", ["1..", "..1", "a..b", "1..nan", "4:1..2"])
def test_what_is_no_schedule(text):
    with pytest.raises(UsageError, match=r"is not START\.\.END"):
        PerResolution.parse(text)


def test_a_resumed_option_of_a_loss_keeps_the_resolutions_that_it_does_not_name(monkeypatch, tmp_path):
    """As --batch and the rates do."""
    config = TrainConfig(loss="r1", loss_options=(("r1_gamma", "4:0.5,8:1"), ("r2_gamma", "auto")))
    asked = {}
    monkeypatch.setattr(RunDirectory, "read_options", lambda self: (config, {}))
    monkeypatch.setattr(start, "resume", lambda *given: asked.update(given[4]))
    resume_run(tmp_path, None, {"loss_options": (("r1_gamma", "8:2,16:3"),)}, True, lambda schedule: nullcontext())
    assert dict(asked["loss_options"]) == {"r1_gamma": "4:0.5,8:2,16:3", "r2_gamma": "auto"}
