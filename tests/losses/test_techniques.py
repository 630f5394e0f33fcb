"""What techniques keep and do from step to step: BEGAN's k, clipped weights, past weights' mean, labels kept back,
growth, codes; that it is all in the checkpoint; what is refused."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

from pggan.config.losses import OBJECTIVES, REGULARIZERS
from pggan.config.presets import configure
from pggan.config.resume_policy import changed
from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig, from_json, to_json
from pggan.losses.began import BoundaryEquilibrium
from pggan.networks.latents import CodeSpace, seed_latents
from pggan.networks.layers import EqualizedWeight
from pggan.training.engine import loss_functions, rng
from pggan.training.engine.gradients import distance, eager
from pggan.training.engine.state import TrainState, make_optimizer
from pggan.training.engine.step import compute_gradients
from pggan.training.monitor.label_holdout import split_labels
from pggan.utils.errors import UsageError
from tests.helpers.loss_settings import SETTINGS, SWITCHES, switched_on
from tests.helpers.train_steps import CLASSES, Player, loaded, tiny


def test_k_of_began_is_its_formula():
    began = BoundaryEquilibrium(0.5, 0.1)
    for real, fake, expected in (
        (1.0, 0.3, 0.02),  # 0 + 0.1 (0.5 - 0.3)
        (1.0, 0.1, 0.06),
        (0.2, 0.9, 0.0),  # 0.06 - 0.08: not below 0
        (40.0, 0.0, 1.0),  # nor above 1
        (1.0, 1.0, 0.95),
    ):
        began.after_d_step({"error_real": torch.tensor(real), "error_fake": torch.tensor(fake)}, None)
        assert float(began.k) == pytest.approx(expected, abs=1e-6)


def test_k_follows_the_run():
    player = Player(tiny(loss="began", loss_options=(("began_lambda_k", 0.3), ("began_gamma", 1.0))))
    with torch.no_grad():
        for layer in player.state.generator.to_rgb.values():
            layer.weight *= 0.1  # faint pictures are soon told well, which k answers
    expected, seen = [0.0], []
    for _ in range(3):
        terms = player.play(1)
        seen.append(terms["k"])  # that of the step itself
        expected.append(min(1.0, max(0.0, expected[-1] + 0.3 * (terms["error_real"] - terms["error_fake"]))))
        assert float(player.state.objectives[0].k) == pytest.approx(expected[-1], abs=1e-6)
    assert seen == pytest.approx(expected[:-1], abs=1e-6)
    assert expected[-1] > 0.01


@pytest.mark.parametrize("norm", ["none", "weight"])
def test_weights_are_clipped_as_they_are_used(norm):
    player = Player(tiny(loss="wgan", n_critic=1, d_norm=norm, diversity="discrimination"))
    before = {n: p.detach().clone() for n, p in player.state.discriminator.named_parameters()}
    player.play(1)
    layers = [m for m in player.state.discriminator.modules() if isinstance(m, EqualizedWeight)]
    assert len(layers) > 5
    for layer in layers:
        assert float(layer.effective_weight().detach().abs().max()) <= 0.01 * (1 + 1e-5)
    for name, parameter in player.state.discriminator.named_parameters():
        if name.endswith("bias"):
            assert float(parameter.detach().abs().max()) <= 0.01 * (1 + 1e-6)
    stored = player.state.discriminator.head.conv.weight.detach()
    if norm == "none":
        limit = 0.01 / player.state.discriminator.head.conv.scale
        inside = before["head.conv.weight"].abs() < limit * 0.7
        # a first step of RMSprop is ten times the rate, which is that of weights as they are used
        moved = (stored[inside] - before["head.conv.weight"][inside]).abs()
        assert 0 < float(moved.max()) <= 5.1e-4 / player.state.discriminator.head.conv.scale
        assert float(stored.abs().max()) == pytest.approx(limit, rel=1e-5)
        assert limit > 0.03


@pytest.mark.long
def test_history_is_the_mean_of_past_weights():
    player = Player(tiny(loss="lsgan", loss_options=(("historical_averaging", 0.5),), start_res=8, max_res=8))
    history = player.state.objectives[-1]
    networks = {"d": player.state.discriminator, "g": player.state.generator}

    def now():
        return {(who, n): p.detach().double() for who, net in networks.items() for n, p in net.named_parameters()}

    past = [{k: v.clone() for k, v in now().items()}]
    for _ in range(4):
        means = {key: torch.stack([each[key] for each in past]).mean(0) for key in past[0]}
        expected = 0.5 * sum(((value - means[key]) ** 2).sum() for key, value in now().items() if key[0] == "d")
        seen = player.play(1)
        assert seen["history"] == pytest.approx(float(expected), rel=1e-4, abs=1e-9)
        past.append({k: v.clone() for k, v in now().items()})
    for (who, name), value in past[-1].items():
        mean = torch.stack([each[who, name] for each in past]).mean(0)
        kept = getattr(history, who).get_buffer(name.replace(".", "/")).double()
        assert (kept - mean).abs().max() <= 1e-5 * max(1.0, float(value.abs().max())), name
    assert float(history.d.count) == 5


STATEFUL = {
    **SETTINGS,
    "codes": {"categorical": (3, 2), "continuous": 2, "loss": "gan"},
    "virtual": {"g_norm": "virtual-batch", "diversity": "discrimination"},
    "data": {"growth": "data"},
}


@pytest.mark.long
@pytest.mark.parametrize("fields", STATEFUL.values(), ids=STATEFUL.keys())
def test_a_resumed_state_goes_on_exactly(fields, tmp_path):
    config = tiny(**fields, max_res=8)
    whole = Player(config)
    whole.play(2)
    whole.state.save(tmp_path / "state.safetensors")
    expected = whole.play(3)
    again = Player(config)
    again.state.load(tmp_path / "state.safetensors")
    assert again.play(3) == expected
    a, b = whole.state.tensors(), again.state.tensors()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS.keys())
def test_reals_and_fakes_in_one_batch_give_the_same_gradients(fields, monkeypatch):
    """GPUs join them at every level, CPUs at the lowest; by the number of D's passes."""
    found, passes = [], []
    config = tiny(**{"max_res": 16, "start_res": 16, "batch": PerResolution(8), **fields})
    judge = loss_functions.discriminate
    monkeypatch.setattr(loss_functions, "discriminate", lambda *v: passes.append(len(v[2])) or judge(*v))
    for joined in (2, 10):
        player = Player(config)
        batch = player.builder.d_batch(loaded(config, 16, 0, 8), 0, torch.ones(()))
        context = dataclasses.replace(player.state.context, joined=joined)
        passes.append(0)
        found.append(eager(context, player.inputs("d", batch, 4)).by_name)
    assert distance(*found) < 1e-5
    assert passes[1:3] == [8, 8]
    assert passes.count(16) == (0 if "diversity" in fields else 1)  # groups of another form stay apart


@pytest.mark.parametrize("loss", OBJECTIVES.names())
def test_micro_batches_give_the_same_gradients(loss):
    """And the same values, which objectives keep."""
    found = []
    for parts in (None, PerResolution(4)):
        options = (("instance_noise", 0.1),) if loss == "gan" else ()
        config = tiny(
            loss=loss, loss_options=options, batch=PerResolution(8), micro_batch=parts, start_res=8, max_res=8
        )
        player, one = Player(config), torch.ones(())
        batch = player.builder.d_batch(loaded(config, 8, 0, 8), 0, one)
        assert player.executor.num_micro_batches(3, 8) == (1 if parts is None else 2)
        found.append(compute_gradients(player.executor, player.inputs("d", batch, 3)))
    (whole, losses, stats), (parts, more, others) = found
    for name, gradient in whole.items():
        assert gradient is None or torch.allclose(gradient, parts[name], atol=1e-6), name
    for a, b in ((losses, more), (stats, others)):
        assert {k: float(v) for k, v in a.items()} == pytest.approx({k: float(v) for k, v in b.items()}, abs=1e-5)


def test_every_loss_has_its_own_optimizers():
    wgan = TrainState(tiny(loss="wgan"), torch.device("cpu"), "fp32")
    for optimizer in (wgan.g_optimizer, wgan.d_optimizer):
        assert isinstance(optimizer, torch.optim.RMSprop)
        assert optimizer.defaults["lr"] == 5e-5
        assert optimizer.defaults["momentum"] == 0
    wgan.apply_schedule(Schedule(tiny(loss="wgan")).at(0))
    for module, optimizer in ((wgan.generator, wgan.g_optimizer), (wgan.discriminator, wgan.d_optimizer)):
        rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
        assert set(rates) == {id(parameter) for parameter in module.parameters()}
        assert len(optimizer.param_groups) == len(set(rates.values()))  # a launch for each on a GPU
        for layer in module.modules():
            if isinstance(layer, EqualizedWeight):  # the rate is that of weights as they are used
                assert rates[id(layer.weight)] * layer.scale == pytest.approx(5e-5)
                assert getattr(layer, "bias", None) is None or rates[id(layer.bias)] == 5e-5
    assert Schedule(tiny(loss="wgan")).n_critic == 5
    info = Schedule(tiny(loss="gan", categorical=(10,), continuous=2)).at(0)
    assert (info.g_lr, info.d_lr) == (1e-3, 2e-4)
    adam = TrainState(tiny(adam_betas=(0.5, 0.999)), torch.device("cpu"), "fp32").g_optimizer
    assert adam.defaults["betas"] == (0.5, 0.999)
    for spec in OBJECTIVES:
        for defaults in (spec.g_optimizer, spec.d_optimizer):
            make_optimizer(torch.nn.Linear(1, 1), defaults, None)


def test_a_presets_rates_are_those_of_its_loss():
    plain, other = configure("demo", {}), configure("demo", {"loss": "wgan"})
    assert plain.g_lr.at(4) == 0.002
    assert Schedule(other).at(0).g_lr == 5e-5
    assert Schedule(configure("demo", {"loss": "wgan", "g_lr": PerResolution(0.1)})).at(0).g_lr == 0.1
    assert Schedule(configure("demo", {"loss_options": (("drift_weight", 0.1),)})).at(0).g_lr == 0.002
    assert Schedule(configure("demo", {"categorical": (10,)})).at(0).d_lr == 2e-4


def test_random_streams_of_names_differ_and_stay_the_same():
    """A name's stream is the same for ever, so that old runs go on; and no other one's."""
    assert rng.purpose("d:instance_real") == 14793842456065318469
    names = ["d:a", "g:a", "d:b", "d:codes"]
    assert len({rng.purpose(name) for name in names}) == 4
    assert min(rng.purpose(name) for name in names) > rng.G_LABELS


def test_both_steps_have_noise_of_their_own():
    player = Player(tiny(loss_options=(("instance_noise", 1.0),), start_res=8, max_res=8))
    d = player.builder.d_batch(loaded(player.config, 8), 4, torch.tensor(1.0))
    g = player.builder.g_batch(d, 4)
    assert set(d.noise) == {"instance_real", "instance_fake"}
    tensors = [batch.noise[name] for batch in (d, g) for name in sorted(d.noise)]
    assert not any(torch.equal(a, b) for i, a in enumerate(tensors) for b in tensors[:i])
    assert (float(d.nimg), float(g.nimg)) == (4, 4)


def test_growth_of_the_data_keeps_the_networks_at_the_last_level():
    """The networks stay at the last level; the reals have the detail that the phases give."""
    config = tiny(growth="data", stable_kimg=PerResolution(0.1), fade_kimg=PerResolution(0.1))
    grown, plain = Schedule(config), Schedule(dataclasses.replace(config, growth="progressive"))
    assert grown.total == plain.total
    for nimg in (0, 50, 100, 101, 150, 200, 350, 500, 600):
        a, b = grown.at(nimg), plain.at(nimg)
        assert (a.level, a.alpha) == (4, 1.0)
        assert (a.detail, a.detail_alpha, a.phase) == (b.level, b.alpha, b.phase)
        assert b.detail is None
    trained = grown.at(150)
    assert (trained.detail, trained.detail_alpha) == (3, 0.5)
    whole = Schedule(dataclasses.replace(config, growth="none"))
    assert [(p.level, p.start, p.end) for p in whole.phases] == [(4, 0, plain.total)]


def test_reals_are_blurred_to_a_level_of_detail():
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for detail, alpha in ((2, 1.0), (3, 0.25), (4, 0.5), (4, 1.0)):
        found = loss_functions.blurred(images, detail, alpha)
        side = 2**detail

        def means(side):
            boxes = images.reshape(2, 3, side, 16 // side, side, 16 // side).mean(dim=(3, 5))
            return boxes.repeat_interleave(16 // side, 2).repeat_interleave(16 // side, 3)

        expected = alpha * means(side) + (1 - alpha) * means(side // 2)
        assert torch.allclose(found, expected, atol=1e-12), (detail, alpha)


def test_held_back_labels_are_the_same_share_of_every_class():
    classes = np.random.default_rng(0).integers(-1, 4, 500)
    shown, held = split_labels(classes, 0.1, 7)
    assert not shown[held].any()
    assert set(np.flatnonzero(shown)) | set(held) == set(np.flatnonzero(classes >= 0))
    for kind in range(4):
        assert shown[classes == kind].sum() == max(1, round(0.1 * (classes == kind).sum()))
    again, _ = split_labels(classes, 0.1, 7)
    more, _ = split_labels(classes, 0.3, 7)
    other, _ = split_labels(classes, 0.1, 8)
    assert np.array_equal(shown, again)
    assert more[shown].all()
    assert not np.array_equal(shown, other)
    assert split_labels(np.array([0, 1, 1, 1]), 0.01, 0)[0].sum() == 2  # one of each at least


@pytest.mark.long
def test_codes_of_a_seed_are_its_own_and_can_be_set():
    space = CodeSpace((4, 3), 2)
    assert (space.size, space.count) == (9, 4)
    rows = space.of_seeds(range(2000))
    assert np.array_equal(rows[7:8], space.of_seeds([7]))  # whatever the others
    for part in (rows[:, :4], rows[:, 4:7]):
        assert (part.sum(axis=1) == 1).all()
        assert abs(part.mean(axis=0) - 1 / part.shape[1]).max() < 0.05
    assert rows[:, 7:].min() < -0.95
    assert rows[:, 7:].max() > 0.95
    assert abs(rows[:, 7:].mean()) < 0.05
    set_ = space.of_seeds([7], {0: 3, 3: -0.5})
    assert space.describe(set_[0]) == [3, space.describe(rows[7])[1], space.describe(rows[7])[2], -0.5]
    for number, value in (
        (4, 0),
        (-1, 0),
        (0, 4),
        (0, 1.5),
        (0, -1),
        (0, math.nan),
        (0, math.inf),
        (2, 3.5),
        (2, math.nan),
    ):
        with pytest.raises(UsageError, match=f"code {number}|codes 0 to 3"):
            space.of_seeds([0], {number: value})
    # a latent's noise is that of a seed of any model
    assert np.array_equal(seed_latents([7], 5)[0], np.random.RandomState(7).randn(5).astype(np.float32))


def test_codes_reach_the_generator_and_the_q_head():
    player = Player(tiny(categorical=(3,), continuous=2, loss="gan"))
    batch = player.builder.d_batch(loaded(player.config, 4), 0, torch.tensor(1.0))
    assert batch.latents.shape == (4, 4 + 3 + 2)
    assert (batch.latents[:, 4:7].sum(dim=1) == 1).all()
    weights = loss_functions.parameters_of(player.state.generator)
    fakes = loss_functions.generate(player.state.context, weights, player.inputs("g", batch, 2))
    other = batch._replace(latents=torch.cat([batch.latents[:, :7], -batch.latents[:, 7:]], dim=1))
    assert not torch.equal(fakes, loss_functions.generate(player.state.context, weights, player.inputs("g", other, 2)))
    g = player.builder.g_batch(batch, 0)
    assert not torch.equal(g.latents, batch.latents)


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"loss": "lsgan", "loss_options": (("gp_weight", 1.0),)}, "--gp-weight means nothing to --loss lsgan"),
        (
            {"loss": "wgan", "loss_options": (("label_smoothing", 0.9),)},
            "--label-smoothing means nothing to --loss wgan",
        ),
        ({"loss": "gan", "loss_options": (("clip", 0.1),)}, "--clip means nothing to --loss gan"),
        ({"loss_options": (("instance_noise_kimg", 5.0),)}, "--instance-noise-kimg goes with --instance-noise"),
        ({"loss_options": (("instance_noise", -1.0),)}, "--instance-noise -1 is not from 0 to 10"),
        ({"loss_options": (("feature_matching", 1.0), ("feature_matching_mode", "x"))}, "none of replace, add"),
        ({"loss_options": (("code_weight", 1.0),)}, "--code-weight goes with --categorical or --continuous"),
        ({"discrimination_group": 8}, "--discrimination-group goes with --diversity discrimination, not stddev"),
        ({"loss_options": (("augment", "diffaugment"), ("ada_target", 0.3))}, "--ada-target goes with --augment ada"),
        ({"loss_options": (("augment", "diffaugment"), ("augment_p", 0.3))}, "--augment-p goes with --augment ada"),
        ({"loss_options": (("augment", "ada"), ("augment_p", 0.3), ("ada_kimg", 5))}, "which --augment-p fixes"),
        ({"loss": "lsgan", "loss_options": (("label_smoothing", 0.9),)}, "it is for --loss gan, "),
        ({"d_norm": "batch"}, "gradient penalty of --loss wgan-gp: batch normalisation makes"),
        ({"d_norm": "batch", "loss": "r1"}, "give --d-norm layer"),
        ({"d_norm": "batch", "loss": "gan"}, "--diversity"),
        ({"loss": "gan", "loss_options": (("semi_supervised", True),)}, "--semi-supervised learns from labels"),
        ({"loss": "began", "diversity": "discrimination"}, "auto-encoder"),
        ({"loss_options": (("feature_matching", 1.0),), "micro_batch": PerResolution(2)}, "--micro-batch"),
        ({"arch_g": "fc"}, "--arch-g fc has one resolution and does not grow; give --growth none"),
        ({"growth": "up"}, "--growth up is none of"),
        ({"loss": "nothing"}, "unknown loss 'nothing'"),
        ({"adam_betas": (0.5, 1.0)}, "--adam-betas 1"),
        ({"categorical": (1,)}, "a categorical code of 1 values"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        TrainState(tiny(**fields), torch.device("cpu"), "fp32")
    assert "\n" not in str(error.value)


def test_semi_supervised_needs_a_loss_with_probabilities():
    fitting = [loss.name for loss in OBJECTIVES if loss.probability]
    assert "gan" in fitting
    assert "wgan-gp" not in fitting
    for loss in OBJECTIVES:
        options = {"loss": loss.name, "loss_options": (("semi_supervised", True),), "labels": "kind", "label_size": 3}
        if loss.probability:
            assert tiny(**options).networks()[0].label_size == 0
            assert tiny(**options).networks()[1].label_size == 3
        else:
            with pytest.raises(UsageError, match=f"give one of: {', '.join(fitting)}"):
                tiny(**options)


@pytest.mark.parametrize("spec", SWITCHES, ids=lambda spec: spec.name)
def test_a_technique_is_there_or_not_for_a_whole_run(spec):
    switch = spec.switch_option
    config = tiny()
    assert spec.name not in config.regularizers()
    with pytest.raises(UsageError, match=f"{switch.flag}: a run that has begun keeps its techniques"):
        changed(config, {"loss_options": (switched_on(spec),)}, True)
    for name in ("loss", "growth", "d_norm", "categorical"):
        value = {"loss": "gan", "growth": "none", "d_norm": "layer", "categorical": (3,)}[name]
        with pytest.raises(UsageError, match="keeps its networks and loss"):
            changed(config, {name: value}, True)
    # given its default, it is as if it were not given
    off = dataclasses.replace(config, loss_options=((spec.switch, switch.default),))
    assert off.regularizers() == config.regularizers()


@pytest.mark.parametrize(
    "options,name",
    [
        ({"loss": "rpgan"}, "r2_gamma"),
        (
            {"loss": "gan", "labels": "kind", "label_size": 3, "loss_options": (("semi_supervised", True),)},
            "feature_matching",
        ),
    ],
)
def test_a_technique_that_others_imply_is_changed_and_not_switched_off(options, name):
    config = tiny(**options)
    given = dict(config.loss_options)
    new, changes = changed(config, {"loss_options": tuple({**given, name: 5.0}.items())}, True)
    assert dict(new.loss_options)[name] == 5.0
    assert changes.keys() == {"loss_options"}
    with pytest.raises(UsageError, match="keeps its techniques"):
        changed(config, {"loss_options": tuple({**given, name: 0.0}.items())}, True)


def test_options_live_in_the_runs_record():
    config = tiny(
        loss="gan", categorical=(3, 2), continuous=1, adam_betas=(0.5, 0.9),
        loss_options=(("instance_noise", 0.1), ("feature_matching", 2.0), ("feature_matching_mode", "add")),
    )  # fmt: skip
    assert from_json(TrainConfig, to_json(config)) == config
    assert [REGULARIZERS[name].name for name in config.regularizers()] == [
        "instance-noise", "feature-matching", "information",
    ]  # fmt: skip


def test_noise_comes_after_augmentation():
    """D sees pictures of which every value is noisy, also where they were cut out."""
    options = (("instance_noise", 0.5), ("augment", "diffaugment"))
    player = Player(tiny(loss="gan", loss_options=options, start_res=16))
    batch = player.builder.d_batch(loaded(player.config, 16), 0, torch.tensor(1.0))
    seen = loss_functions.augmented(player.state.context, torch.zeros_like(batch.reals), batch, real=True)
    assert float((seen == 0).float().mean()) < 0.01
    assert float(seen.std()) == pytest.approx(0.5, abs=0.05)


def test_semi_supervised_brings_feature_matching():
    semi = {"labels": "kind", "label_size": CLASSES, "loss": "gan", "start_res": 8, "max_res": 8}
    player = Player(tiny(**semi, loss_options=(("semi_supervised", True),)))
    assert "feature-matching" in player.config.regularizers()
    assert "feature_matching" in player.play(1)
    alone = (("semi_supervised", True), ("feature_matching", 0.0))
    assert "feature-matching" not in tiny(**semi, loss_options=alone).regularizers()
    with pytest.raises(UsageError, match="--micro-batch with --feature-matching"):
        tiny(**semi, loss_options=(("semi_supervised", True),), micro_batch=PerResolution(4))


def test_a_discrimination_group_can_be_the_whole_minibatch():
    """A group as large as the minibatch is the sum as published."""
    config = tiny(diversity="discrimination", discrimination_group=64, batch=PerResolution(24), start_res=8, max_res=8)
    assert config.networks()[1].minibatch_group == 64
    with pytest.raises(UsageError, match="or another --discrimination-group"):
        tiny(diversity="discrimination", batch=PerResolution(24))
