"""Augmentation in training: gradients, the tuning of p, parts and processes, resuming, refusals."""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import pytest
import safetensors.torch
import torch

from pggan.cli import run as command
from pggan.config.losses import OBJECTIVES
from pggan.config.train import PerResolution, TrainConfig
from pggan.data.loading.loader import BatchRequest, LoadedBatch
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.losses.augment.ada import NORMALS, UNIFORMS
from pggan.losses.regularizers.augmentation import INTERVAL, Augmentation
from pggan.training.engine import gradients, loss_functions, step
from pggan.training.engine.batch_builder import BatchBuilder
from pggan.training.engine.loss_functions import StepInputs
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.start import advice, begin, resume
from pggan.utils.distributed import World
from pggan.utils.errors import UsageError
from tests.helpers.train_steps import tiny

CPU, ONE, LEVEL = torch.device("cpu"), torch.ones((), dtype=torch.float64), 3
ADA = (("augment", "ada"), ("ada_kimg", 1.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "store"
    prepare("drawn:40", path, PrepareOptions(max_res=8))
    return path


def small(**changes):
    usual = {
        "max_res": 8, "latent_size": 8, "fmap_base": 64, "fmap_max": 8, "batch": PerResolution(8), "device": "cpu",
        "stable_kimg": PerResolution(0.06), "fade_kimg": PerResolution(0.06), "tick_kimg": PerResolution(0.024),
        "snapshot_ticks": 100, "checkpoint_ticks": 1, "keep_checkpoints": 100, "workers": 0, "stddev_group": 2,
        "ema_half_life": 10.0,
    }  # fmt: skip
    return TrainConfig(**{**usual, **changes})


def pictures(count, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (count, channels, 8, 8), np.uint8)


def fed(config, world=World(), count=8, held_out=True, p=None):  # noqa: B008 - frozen
    """A state and the batch of D's first step in a process, of pictures made up."""
    state = TrainState(config, CPU, "fp32", world)
    for module in (state.generator, state.discriminator):
        module.double()
    state.context = dataclasses.replace(state.context, dtype=None)
    if p is not None:
        augmentation(state).p.fill_(p)
    own = slice(world.rank, None, world.size)
    more = pictures(count, 1, config.channels)[own] if held_out else None
    reals = pictures(count, 0, config.channels)[own]
    loaded = LoadedBatch(reals, np.zeros((len(reals), 1), np.int32), BatchRequest(0, count, 8), more)
    batch = BatchBuilder(state, 0, None).d_batch(loaded, 0, torch.tensor(0.7))
    return state, in_float64(batch)


def in_float64(batch):
    wide = {k: v.double() for k, v in batch._asdict().items() if isinstance(v, torch.Tensor)}
    return batch._replace(**wide, noise={k: v.double() for k, v in batch.noise.items()})


def augmentation(state):
    return next(each for each in state.objectives if isinstance(each, Augmentation))


def d_gradients(state, batch, parts=1):
    """Gradients, losses and stats of D: means over parts."""
    alpha = torch.tensor(0.7).double()
    inputs = StepInputs("d", LEVEL, batch, alpha, ONE)
    found = [gradients.eager(state.context, inputs.part(i, parts)) for i in range(parts)]
    return tuple(mean_of([each[at] for each in found]) for at in range(3))


def mean_of(values):
    """By name, of several."""
    return {k: None if v is None else sum(each[k] for each in values) / len(values) for k, v in values[0].items()}


@pytest.mark.long
@pytest.mark.parametrize("kind,channels", [("ada", 3), ("ada", 1), ("diffaugment", 3)])
def test_gradients_of_d_through_augmentation_and_penalty_are_finite_differences(kind, channels):
    """Second derivatives through D at augmented and mixed images, against finite differences."""
    state, batch = fed(small(loss_options=(("augment", kind),), channels=channels), p=0.9 if kind == "ada" else None)
    found, losses, _ = d_gradients(state, batch)
    assert float(losses["gradient_penalty"]) > 0
    parameters = dict(state.discriminator.named_parameters())
    compared = 0
    for name in ("head.dense1.weight", "head.conv.weight", "from_rgb.8x8.weight", "from_rgb.4x4.weight"):
        direction = torch.randn(parameters[name].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        values = []
        for sign in (1e-6, -2e-6):  # smaller than the way to a kink of leaky ReLU
            with torch.no_grad():
                parameters[name] += sign * direction
            values.append(sum(float(v) for v in d_gradients(state, batch)[1].values()))
        with torch.no_grad():
            parameters[name] += 1e-6 * direction
        slope = (values[0] - values[1]) / 2e-6
        assert float((found[name] * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-6)
        compared += 1
    assert compared == 4


@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
def test_g_learns_through_the_augmentation(kind):
    config = small(loss_options=(("augment", kind),))
    state, batch = fed(config, p=0.8 if kind == "ada" else None)
    plain, _ = fed(small())
    found = []
    for each, given in ((state, batch), (plain, batch)):
        parameters = loss_functions.parameters_of(each.generator)
        frozen, alpha = loss_functions.detached_parameters_of(each.discriminator), torch.tensor(0.7).double()
        inputs = StepInputs("g", LEVEL, given, alpha, ONE)
        loss, _ = loss_functions.g_loss(each.context, parameters, frozen, inputs)
        found.append(loss_functions.parameter_gradients(loss, parameters, ONE))
    name = "blocks.4x4.conv.weight"
    assert found[0][name].abs().sum() > 0
    assert not torch.allclose(found[0][name], found[1][name])


def test_reals_fakes_and_players_have_noise_of_their_own():
    state, batch = fed(small(loss_options=ADA))
    feed = BatchBuilder(state, 0, None)
    g = feed.g_batch(batch, 0)
    assert batch.noise["augment_real"].shape == (8, len(UNIFORMS))
    assert batch.noise["augment_fake_normal"].shape == (8, len(NORMALS))
    kinds = [batch.noise["augment_real"], batch.noise["augment_fake"], g.noise["augment_fake"].double()]
    assert len({float(k[0, 0]) for k in kinds}) == 3


@pytest.mark.parametrize("options", [ADA, (("augment", "diffaugment"),), ()])
def test_parts_and_processes_give_the_same_gradients(options):
    config = small(loss_options=options, held_out=0.25)
    p = 0.7 if options == ADA else None
    whole, losses, stats = d_gradients(*fed(config, p=p))
    assert {"score_held_out", "score_gap"} <= stats.keys()
    assert float(stats["score_gap"]) == pytest.approx(float(stats["score_real"] - stats["score_held_out"]))
    ways = {"parts": [d_gradients(*fed(config, p=p), parts=2)]}
    ways["processes"] = [d_gradients(*fed(config, World(rank, 2), p=p)) for rank in (0, 1)]
    for found in ways.values():
        for name, g in whole.items():
            if g is not None:
                mean = torch.stack([each[0][name] for each in found]).mean(0)
                assert torch.allclose(mean, g, rtol=1e-9, atol=1e-12), name
        for values, number in ((losses, 1), (stats, 2)):
            for name, value in values.items():
                mean = sum(float(each[number][name]) for each in found) / len(found)
                assert mean == pytest.approx(float(value), rel=1e-6), name


@pytest.mark.parametrize("loss", OBJECTIVES.names())
@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
def test_every_loss_trains_with_augmentation(loss, kind):
    """In bfloat16, mid-fade; the scores that tune p are there."""
    state = TrainState(small(loss=loss, loss_options=(("augment", kind),)), CPU, "bf16")
    more = pictures(8, 1)
    loaded = LoadedBatch(pictures(8), np.zeros((8, 1), np.int32), BatchRequest(0, 8, 8), more)
    feed, alpha, executor = BatchBuilder(state, 0, None), torch.tensor(0.4), StepExecutor(state)
    batch = feed.d_batch(loaded, 0, alpha)
    for kind_of in ("d", "g"):
        if kind_of == "d":
            terms = step.player_step(state, executor, "d", batch, LEVEL, alpha)
            assert torch.isfinite(terms["score_held_out"])
        else:
            terms = step.player_step(state, executor, "g", feed.g_batch(batch, 8), LEVEL, alpha)
        assert all(torch.isfinite(value).all() for value in terms.values())
    if kind == "ada":
        assert float(augmentation(state).sums[0]) == 8


# --- the tuning of p


def after_d_step(module, real, fake, held=None, signs=0.0, images=64):
    terms = {"score_real": real, "score_fake": fake, "real_signs": signs, "images": images}
    if held is not None:
        terms["score_held_out"] = held
    module.after_d_step({k: torch.tensor(float(v)) for k, v in terms.items()}, None)
    return float(module.p), float(module.overfitting)


def test_p_follows_the_overfitting_by_its_formula():
    """ada_kimg 1: each look, of 256 images, moves p by 0.256."""
    module = Augmentation("ada", 0.0, 0.5, 1.0)
    for _ in range(3):
        assert after_d_step(module, 3, -1, held=0) == (0, 0)
    p, r = after_d_step(module, 3, -1, held=0)
    assert (p, r) == (pytest.approx(0.256), pytest.approx(0.75))
    for scores in ((5, 1, 4), (3, -1, 2), (3, -1, 2), (3, -1, 2)):  # r is that of the means: (3.5 - 2.5) / (3.5 + 0.5)
        p, r = after_d_step(module, *scores)
    assert (p, r) == (0, pytest.approx(0.25))  # not below 0
    for _ in range(4):
        after_d_step(module, 1, 0, held=0, images=512)
    p, _ = after_d_step(module, 1, 0, held=0, images=512)
    assert p == 1.0  # 5 x 0.512, not above 1
    p, r = after_d_step(module, -1, 0, held=-2, images=INTERVAL)  # reals below fakes: no overfitting
    assert (p, r) == (pytest.approx(0.744), 0)


def test_p_without_held_out_pictures_follows_signs():
    module = Augmentation("ada", 0.0, 0.6, 1.0)
    p, r = after_d_step(module, 4, 2, signs=0.9, images=INTERVAL)
    assert (p, r) == (pytest.approx(0.256), pytest.approx(0.9))
    assert float(module.middle) == 3
    p, _ = after_d_step(module, 4, 2, signs=0.5, images=INTERVAL)
    assert p == 0
    state, batch = fed(small(loss_options=ADA), held_out=False)
    augmentation(state).middle.fill_(-1e9)
    assert float(d_gradients(state, batch)[2]["real_signs"]) == 1


def test_a_fixed_p_stays():
    module = Augmentation("ada", 0.3, 0.6, 1.0)
    assert after_d_step(module, 4, 0, held=-4, images=10_000)[0] == pytest.approx(0.3)
    with pytest.raises(UsageError, match="leave it out"):
        tiny(loss_options=(("augment", "diffaugment"), ("augment_p", 0.3)))


# --- whole runs


class Stop(QuietDisplay):
    def __init__(self, nimg):
        self.nimg = nimg

    def show(self, scheduled):
        if self.nimg and scheduled.nimg >= self.nimg:
            self.nimg = 0
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.long
@pytest.mark.parametrize("held_out", [0.0, 0.25])
def test_a_run_resumes_to_the_same_p(held_out, data, tmp_path, monkeypatch):
    monkeypatch.setattr("pggan.losses.regularizers.augmentation.INTERVAL", 32)  # stopped between two looks
    options = (("augment", "ada"), ("ada_kimg", 0.2), ("ada_target", 0.0))
    config = small(data=str(data), held_out=held_out, loss_options=options, total_kimg=0.16)
    begin(config, tmp_path / "whole", QuietDisplay())
    begin(config, tmp_path / "cut", Stop(106))
    resume(RunDirectory(tmp_path / "cut"), QuietDisplay())
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    a, b = (safetensors.torch.load_file(str(each.states()[-1])) for each in (whole, cut))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    lines = read_log(whole.log)
    assert {"augment_p", "overfitting"} <= lines[-1].keys()
    assert ("score_held_out" in lines[-1]) == bool(held_out)
    assert [line["augment_p"] for line in read_log(cut.log)][-1] == lines[-1]["augment_p"]
    assert [k for k in a if k.endswith(".p")]
    if not held_out:  # reals score above the middle soon; of ten pictures held out the mean says little
        assert {line["augment_p"] for line in lines} != {0.0}


@pytest.mark.parametrize("before", [0.0, 0.5, "0.4..0.6"])
def test_a_fixed_p_that_is_changed_on_resume_replaces_that_of_the_checkpoint(tmp_path, before):
    """Checkpoints hold p, for it may be adaptive."""
    old = TrainState(small(loss_options=(("augment", "ada"), ("augment_p", before))), CPU, "fp32")
    old.save(tmp_path / "state.safetensors")
    new = TrainState(small(loss_options=(("augment", "ada"), ("augment_p", 0.125))), CPU, "fp32")
    new.load(tmp_path / "state.safetensors")
    augmentation = next(each for each in new.context.objectives if isinstance(each, Augmentation))
    assert augmentation.strength(torch.tensor(100.0)) == 0.125


@pytest.mark.long
def test_the_gap_is_logged_without_augmentation(data, tmp_path):
    begin(small(data=str(data), held_out=0.25, total_kimg=0.05), tmp_path / "run", QuietDisplay())
    line = read_log(RunDirectory(tmp_path / "run").log)[-1]
    assert line["score_gap"] == pytest.approx(line["score_real"] - line["score_held_out"], abs=1e-5)
    assert "augment_p" not in line


@pytest.mark.parametrize(
    "options,message",
    [
        (["--augment-p", "0.2"], "--augment-p goes with --augment"),
        (["--augment", "diffaugment", "--augment-p", "0.2"], "leave it out"),
        (["--augment", "everything"], "everything"),
        (["--held-out", "0.05"], "--held-out 0.05 of 40 pictures holds out 2; give 0.2 or more"),
        (["--held-out", "1"], "--held-out 1 is not from 0 to 0.99"),
    ],
)
def test_augmentation_options_that_do_not_fit_are_refused(options, message, data, tmp_path, capsys):
    arguments = ["train", str(data), "--out", str(tmp_path / "run"), "--batch", "8", "--max-res", "8"]
    assert command([*arguments, "--fmap-base", "64", "--device", "cpu", *options]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "options.json").exists()


@pytest.mark.long
def test_techniques_of_a_run_cannot_be_changed(data, tmp_path):
    begin(small(data=str(data), loss_options=ADA, total_kimg=0.03), tmp_path / "run", QuietDisplay())
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(UsageError, match="--augment"):
        resume(run, QuietDisplay(), changes={"loss_options": (("augment", "diffaugment"),)}, override=True)


def test_small_data_get_the_advice_to_augment():
    assert "--augment ada --held-out" in advice(small(), 19_999)[0]
    assert not advice(small(eval_every=0), 20_000)
    assert not advice(small(loss_options=(("augment", "none"),), eval_every=0), 100)
    (line,) = advice(small(loss_options=ADA, eval_every=0), 100)
    assert "without --held-out" in line
    assert not advice(small(loss_options=ADA, eval_every=0, held_out=0.25), 100)
    assert not advice(small(loss_options=(("augment", "ada"), ("augment_p", 0.2)), eval_every=0), 100)
