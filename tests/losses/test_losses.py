"""Each loss and its gradient against a second, direct computation, and finite differences, in float64."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch

from pggan.config.losses import OBJECTIVES, REGULARIZERS
from pggan.losses.base import Batch
from pggan.training.engine import loss_functions, rng
from pggan.training.engine.state import TrainState
from pggan.utils.errors import UsageError
from tests.helpers.loss_settings import SWITCHES, labels_of, switched_on
from tests.helpers.train_steps import CLASSES, tiny

ONE, ALPHA, LEVEL, COUNT = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64), 3, 4
CPU = torch.device("cpu")


def setup_and_batch(loss="wgan-gp", options=(), **fields):
    """A pair of networks at 8x8, mid-fade, with the state that a few steps leave, and a batch; all in float64."""
    config = tiny(loss=loss, loss_options=tuple(options), start_res=8, max_res=8, **fields)
    state = TrainState(config, CPU, "fp32")
    for module in (state.generator, state.discriminator, state.objectives):
        module.double()
    state.context = dataclasses.replace(state.context, dtype=None)  # layers compute in their input's type
    with torch.no_grad():  # away from the start, where much is 0
        for number, parameter in enumerate([*state.generator.parameters(), *state.discriminator.parameters()]):
            drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
            parameter += 0.1 * drawn
        if loss == "began":
            state.objectives[0].k.fill_(0.4)

    def tensor(name, kind, *shape):
        draw = {"normal": rng.normal, "uniform": rng.uniform}[kind]
        return draw(0, 0, rng.purpose(name), (COUNT, *shape), CPU).double()

    labels = torch.eye(CLASSES, dtype=torch.float64)[[0, 2, 1, 0]] if config.label_size else torch.zeros(COUNT, 0)
    g = state.generator.config
    wanted = [o.noise(COUNT, 8, 1) for o in state.context.objectives]
    codes = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 1]] if g.categorical else torch.zeros(COUNT, 0)
    latents = [tensor("z", "normal", 4), codes.double(), tensor("c", "uniform", g.continuous) * 2 - 1]
    labels = labels.double()
    batch = Batch(
        tensor("x", "normal", 1, 8, 8) * 0.5, labels, torch.cat(latents, dim=1), labels[:, : g.label_size],
        tensor("u", "uniform"), {k: tensor(k, *v[:1], *v[1]) for each in wanted for k, v in each.items()},
        torch.tensor(5.0, dtype=torch.float64),
    )  # fmt: skip
    return state, batch


def losses(state, batch):
    """Both players' losses as functions of their parameters, and those parameters."""
    context = state.context
    g, d = loss_functions.parameters_of(context.generator), loss_functions.parameters_of(context.discriminator)
    frozen_g, frozen_d = (
        loss_functions.detached_parameters_of(context.generator),
        loss_functions.detached_parameters_of(context.discriminator),
    )
    inputs = {player: loss_functions.StepInputs(player, LEVEL, batch, ALPHA, ONE) for player in "dg"}
    yield "d", d, lambda p: loss_functions.d_loss(context, p, frozen_g, inputs["d"])
    yield "g", g, lambda p: loss_functions.g_loss(context, p, frozen_d, inputs["g"])


def check_gradients(state, batch):
    """Along a random direction: `(L(t + e v) - L(t - e v)) / 2e` is `grad L . v`."""
    for player, parameters, loss_of in losses(state, batch):
        total, terms = loss_of(parameters)
        assert float(total.detach()) == pytest.approx(sum(float(v.detach()) for v in terms.losses.values()), rel=1e-12)
        found = loss_functions.parameter_gradients(total, parameters, ONE)
        assert any(g is not None and float(g.norm()) > 0 for g in found.values()), player
        random = torch.Generator().manual_seed(0)
        v = {n: torch.randn(p.shape, generator=random, dtype=torch.float64) for n, p in parameters.items()}
        size = 1e-6

        def moved(by, parameters=parameters, v=v, loss_of=loss_of):
            return float(loss_of({n: (p + by * v[n]).detach() for n, p in parameters.items()})[0])

        slope = (moved(size) - moved(-size)) / (2 * size)
        expected = sum(float((g * v[n]).sum()) for n, g in found.items() if g is not None)
        assert slope == pytest.approx(expected, rel=2e-5, abs=1e-6), player


@pytest.mark.parametrize("loss", OBJECTIVES.names())
def test_gradients_of_losses_are_finite_differences(loss):
    check_gradients(*setup_and_batch(loss))


@pytest.mark.parametrize("spec", SWITCHES, ids=lambda spec: spec.name)
def test_gradients_of_techniques_are_finite_differences(spec):
    loss = "gan" if "probability" in spec.needs else "lsgan"
    check_gradients(*setup_and_batch(loss, [switched_on(spec)], **labels_of(spec)))


@pytest.mark.parametrize("fields", [{"labels": "kind", "label_size": CLASSES}, {"categorical": (3,), "continuous": 2}])
def test_gradients_with_labels_and_codes_are_finite_differences(fields):
    check_gradients(*setup_and_batch("hinge", **fields))


def log_sigmoid(score):
    return (1 / (1 + (-score).exp())).log()


def log_one_minus(score):
    return (1 - 1 / (1 + (-score).exp())).log()


# d's and g's terms from the scores of reals (x) and fakes (f), written as objectives are in papers
FORMULAS = {
    "wgan": (lambda x, f: f.mean() - x.mean(), lambda f: -f.mean()),
    "gan": (lambda x, f: -log_sigmoid(x).mean() - log_one_minus(f).mean(), lambda f: -log_sigmoid(f).mean()),
    "gan-saturating": (
        lambda x, f: -log_sigmoid(x).mean() - log_one_minus(f).mean(),
        lambda f: log_one_minus(f).mean(),
    ),
    "lsgan": (lambda x, f: ((x - 1) ** 2).mean() / 2 + (f**2).mean() / 2, lambda f: ((f - 1) ** 2).mean() / 2),
    "hinge": (
        lambda x, f: sum(max(0.0, 1 - v) for v in x.tolist()) / 4 + sum(max(0.0, 1 + v) for v in f.tolist()) / 4,
        lambda f: -f.mean(),
    ),
}


@pytest.mark.parametrize("loss", FORMULAS)
def test_losses_are_their_published_formulas(loss):
    state, batch = setup_and_batch(loss)
    fakes = state.generator(batch.latents, LEVEL, ALPHA, batch.fake_labels)
    real, fake = (state.discriminator(images, LEVEL, ALPHA).score for images in (batch.reals, fakes))
    (_, d, d_loss), (_, g, g_loss) = losses(state, batch)
    of_d, of_g = FORMULAS[loss]
    assert float(d_loss(d)[0].detach()) == pytest.approx(
        float(of_d(real, fake).detach() if loss != "hinge" else of_d(real, fake)), rel=1e-12
    )
    assert float(g_loss(g)[0].detach()) == pytest.approx(float(of_g(fake).detach()), rel=1e-12)
    if loss != "hinge":  # its gradient is held by finite differences
        expected = torch.autograd.grad(of_d(real, fake), list(state.discriminator.parameters()), retain_graph=True,
                                       allow_unused=True)  # fmt: skip
        for (name, found), wanted in zip(loss_functions.parameter_gradients(d_loss(d)[0], d, ONE).items(), expected):
            assert (found is None) == (wanted is None), name
            assert found is None or torch.allclose(found, wanted, rtol=1e-9, atol=1e-12), name
        expected = torch.autograd.grad(of_g(fake), list(state.generator.parameters()), allow_unused=True)
        for (name, found), wanted in zip(loss_functions.parameter_gradients(g_loss(g)[0], g, ONE).items(), expected):
            assert found is None or torch.allclose(found, wanted, rtol=1e-9, atol=1e-12), name


def test_r1_is_the_squared_gradient_at_reals():
    state, batch = setup_and_batch("r1", [("r1_gamma", 3.0)])
    images = batch.reals.clone().requires_grad_()
    gradient = torch.autograd.grad(state.discriminator(images, LEVEL, ALPHA).score.sum(), images)[0]
    (_, d, d_loss), _ = losses(state, batch)
    expected = 1.5 * (gradient**2).flatten(1).sum(dim=1).mean()
    assert float(d_loss(d)[1].losses["r1"].detach()) == pytest.approx(float(expected), rel=1e-12)


def squared_gradient(state, images):
    images = images.clone().requires_grad_()
    gradient = torch.autograd.grad(state.discriminator(images, LEVEL, ALPHA).score.sum(), images)[0]
    return (gradient**2).flatten(1).sum(dim=1).mean()


@pytest.mark.parametrize("loss", ["hinge", "wgan-gp", "rpgan"])
def test_r2_is_the_squared_gradient_at_fakes_with_every_loss(loss):
    state, batch = setup_and_batch(loss, [("r2_gamma", "4:7,8:3")])
    fakes = state.generator(batch.latents, LEVEL, ALPHA, batch.fake_labels).detach()
    (_, d, d_loss), _ = losses(state, batch)
    terms = d_loss(d)[1]
    assert float(terms.losses["r2"].detach()) == pytest.approx(1.5 * float(squared_gradient(state, fakes)), rel=1e-12)
    assert ("r1" in terms.losses) == (loss == "rpgan")
    off = setup_and_batch(loss, [("r2_gamma", "4:7,8:0")])
    (_, d, d_loss), _ = losses(*off)
    assert "r2" not in d_loss(d)[1].losses


def test_rpgan_pairs_reals_and_fakes_and_penalises_both():
    state, batch = setup_and_batch("rpgan")
    fakes = state.generator(batch.latents, LEVEL, ALPHA, batch.fake_labels).detach()
    real, fake = (state.discriminator(images, LEVEL, ALPHA).score.detach() for images in (batch.reals, fakes))
    (_, d, d_loss), (_, g, g_loss) = losses(state, batch)
    terms = {name: float(value.detach()) for name, value in d_loss(d)[1].losses.items()}
    gamma = 0.0002 * 8 * 8 / state.config.batch.at(8)
    assert terms == pytest.approx(
        {
            "pairs": float((1 + (fake - real).exp()).log().mean()),
            "r1": gamma / 2 * float(squared_gradient(state, batch.reals)),
            "r2": gamma / 2 * float(squared_gradient(state, fakes)),
        },
        rel=1e-9,
    )
    g_terms = {name: float(value.detach()) for name, value in g_loss(g)[1].losses.items()}
    assert g_terms == pytest.approx({"g_pairs": float((1 + (real - fake).exp()).log().mean())}, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "rpgan", "loss_options": (("r1_gamma", "4:-1"),)}, "--r1-gamma -1 is not from 0 to 1000000"),
        ({"loss": "rpgan", "loss_options": (("r1_gamma", "5:1"),)}, "resolution 5 is not a power of two"),
        ({"loss": "r1", "loss_options": (("r1_gamma", "much"),)}, "'much' is not a number"),
        ({"loss": "hinge", "loss_options": (("r1_gamma", 1.0),)}, "it is for --loss r1, rpgan"),
    ],
)
def test_penalties_that_make_no_sense_are_refused(options, message):
    config = tiny(**options)
    with pytest.raises(UsageError, match=re.escape(message)):
        TrainState(config, CPU, "fp32")


def test_began_is_the_error_of_the_auto_encoder():
    state, batch = setup_and_batch("began")
    fakes = state.generator(batch.latents, LEVEL, ALPHA, batch.fake_labels).detach()
    error = [
        float((v - state.discriminator(v, LEVEL, ALPHA).reconstruction).abs().mean().detach())
        for v in (batch.reals, fakes)
    ]
    (_, d, d_loss), (_, g, g_loss) = losses(state, batch)
    total, terms = d_loss(d)
    assert float(total.detach()) == pytest.approx(error[0] - 0.4 * error[1], rel=1e-12)
    assert float(g_loss(g)[0].detach()) == pytest.approx(error[1], rel=1e-12)
    measure = error[0] + abs(0.5 * error[0] - error[1])
    assert float(terms.stats["convergence"].detach()) == pytest.approx(measure, rel=1e-12)


def test_cross_entropy_is_linear_at_extreme_scores():
    """Scores at which a sigmoid is 0 or 1 to the last bit: the loss is linear there, and its gradient not 0."""
    from pggan.losses.base import GeneratorPass
    from pggan.losses.gan import NonSaturating

    score = torch.tensor([-800.0, -1000.0], requires_grad=True)
    images = torch.zeros(2, 1, 4, 4)
    out = loss_functions.DiscriminatorOutput(score, score)
    loss = NonSaturating(1.0).g_terms(GeneratorPass(lambda x: out, Batch(*[images] * 5, {}), images, out)).total()
    assert float(loss.detach()) == 900
    assert torch.autograd.grad(loss, score)[0].tolist() == [-0.5, -0.5]


@pytest.mark.parametrize("loss", ["gan", "gan-saturating", "r1"])
def test_label_smoothing_changes_the_target_of_reals_alone(loss):
    """-(t log s + (1 - t) log(1 - s)) of reals; fakes and g are as without."""
    plain, batch = setup_and_batch(loss)
    smooth, _ = setup_and_batch(loss, [("label_smoothing", 0.9)])
    score = plain.discriminator(batch.reals, LEVEL, ALPHA).score
    found = []
    for state in (plain, smooth):
        (_, d, d_loss), _ = losses(state, batch)
        found.append({name: float(value.detach()) for name, value in d_loss(d)[1].losses.items()})
    expected = -(0.9 * log_sigmoid(score) + 0.1 * log_one_minus(score)).mean()
    assert found[1]["real"] == pytest.approx(float(expected.detach()), rel=1e-12)
    assert found[0]["real"] != pytest.approx(found[1]["real"], rel=1e-3)
    assert {k: v for k, v in found[0].items() if k != "real"} == {k: v for k, v in found[1].items() if k != "real"}


def test_semi_supervised_is_a_softmax_of_one_class_more():
    """The K + 1-th logit is 0: generated."""
    options = [("semi_supervised", True), ("class_weight", 2.0), ("feature_matching", 0.0)]
    state, batch = setup_and_batch("gan", options, labels="kind", label_size=CLASSES)
    batch = batch._replace(labels=torch.cat([batch.labels[:3], torch.zeros(1, CLASSES).double()]))
    state.context.objectives[1].labelled = 0.75
    fakes = state.generator(batch.latents, LEVEL, ALPHA, None).detach()

    def probabilities(images):
        logits = state.discriminator(images, LEVEL, ALPHA).class_logits
        return torch.cat([logits, torch.zeros(COUNT, 1).double()], dim=1).softmax(dim=1)

    real, fake = probabilities(batch.reals), probabilities(fakes)
    classes = real[:3, :CLASSES] / real[:3, :CLASSES].sum(dim=1, keepdim=True)
    supervised = -classes[torch.arange(3), batch.labels[:3].argmax(dim=1)].log().mean()
    expected = -(1 - real[:, -1]).log().mean() - fake[:, -1].log().mean() + 2 * supervised
    (_, d, d_loss), _ = losses(state, batch)
    total, terms = d_loss(d)
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    right = (classes.argmax(dim=1) == batch.labels[:3].argmax(dim=1)).double().mean()
    assert float(terms.stats["labelled_accuracy"]) == pytest.approx(float(right), rel=1e-12)
    assert REGULARIZERS["semi-supervised"].replaces == ("classification",)
    assert "class_real" not in terms.losses


def test_feature_matching_is_its_formula():
    for mode in ("replace", "add"):
        options = [("feature_matching", 3.0), ("feature_matching_mode", mode)]
        state, batch = setup_and_batch("lsgan", options)
        fakes = state.generator(batch.latents, LEVEL, ALPHA, None)
        real, fake = state.discriminator(batch.reals, LEVEL, ALPHA), state.discriminator(fakes, LEVEL, ALPHA)
        expected = 3 * ((real.features.mean(0) - fake.features.mean(0)) ** 2).sum()
        own = ((fake.score - 1) ** 2).mean() / 2
        _, (_, g, g_loss) = losses(state, batch)
        total, terms = g_loss(g)
        wanted = expected + own if mode == "add" else expected
        assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-12)
        assert float({**terms.losses, **terms.stats}["g_fake"].detach()) == pytest.approx(
            float(own.detach()), rel=1e-12
        )


def test_instance_noise_is_seen_and_learnt_through():
    state, batch = setup_and_batch("wgan", [("instance_noise", 0.5), ("instance_noise_kimg", 0.01)])
    sigma = 0.5 * (1 - 5 / 10)  # five of ten images seen
    fakes = state.generator(batch.latents, LEVEL, ALPHA, None) + sigma * batch.noise["instance_fake"]
    reals = batch.reals + sigma * batch.noise["instance_real"]
    score = [state.discriminator(v, LEVEL, ALPHA).score.mean() for v in (reals, fakes)]
    (_, d, d_loss), (_, g, g_loss) = losses(state, batch)
    total, terms = d_loss(d)
    assert float(total.detach()) == pytest.approx(float((score[1] - score[0]).detach()), rel=1e-12)
    assert float(terms.stats["instance_noise"]) == pytest.approx(sigma)
    expected = torch.autograd.grad(-score[1], list(state.generator.parameters()), allow_unused=True)
    for (name, found), wanted in zip(loss_functions.parameter_gradients(g_loss(g)[0], g, ONE).items(), expected):
        assert found is None or torch.allclose(found, wanted, rtol=1e-9, atol=1e-12), name
    noise_of = state.context.objectives[1]
    for nimg, expected in ((0, 0.5), (2.5, 0.375), (10, 0.0), (1e9, 0.0)):
        assert float(noise_of.sigma(torch.tensor(nimg, dtype=torch.float64))) == pytest.approx(expected)


def test_mutual_information_is_its_formula():
    """One categorical code of two values, one continuous code."""
    from pggan.losses.regularizers.infogan import Information

    information = Information(1.0)
    information.categorical, information.continuous = (2,), 1
    assert information.entropy == pytest.approx(2 * math.log(2))  # ln 2 of the coin, ln 2 of U(-1, 1)
    latents = torch.tensor([[9.0, 0, 1, 0.5], [9, 1, 0, -1]], dtype=torch.float64)
    # logits ln 3 and 0: probabilities 3/4, 1/4; means 0.5 and 0; variances 1/4 and e
    codes = torch.tensor([[math.log(3), 0, 0.5, math.log(0.25)], [math.log(3), 0, 0, 1.0]], dtype=torch.float64)
    out = loss_functions.DiscriminatorOutput(torch.zeros(2).double(), torch.zeros(2, 1), None, codes)
    first = math.log(1 / 4) - 0.5 * math.log(2 * math.pi * 0.25)
    second = math.log(3 / 4) - 0.5 * (math.log(2 * math.pi) + 1 + 1 / math.e)
    assert information.log_likelihood(out, latents).tolist() == pytest.approx([first, second], rel=1e-12)
