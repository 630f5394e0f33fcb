"""Loss terms and gradients of the step against the reference release's own (tests/fixtures/official)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pggan.interop.official import our_name
from pggan.losses.base import Batch, DiscriminatorPass
from pggan.losses.regularizers.gradient_penalty import gradient_norms, mixed_images
from pggan.training.engine import loss_functions
from tests.helpers import official_networks

ONE = torch.tensor(1.0, dtype=torch.float64)


def context_and_inputs(case, lod, target=1.0):
    """In float64, as the fixtures' tolerances ask for gradients."""
    fixture = official_networks.load(case)
    g, d, _ = official_networks.networks(case, torch.float64)
    level, alpha = official_networks.stage(lod, g.config.max_level)

    def tensor(key):
        return torch.from_numpy(fixture[key]).double()

    images = tensor("images")
    reals = F.avg_pool2d(images, images.shape[-1] >> level)
    objectives = loss_functions.make_objectives("wgan-gp", False, {"gp_target": target})
    batch = Batch(reals, tensor("labels"), tensor("latents"), tensor("labels"), tensor("mixing_factors"), {})
    g_batch = batch._replace(latents=tensor("g_latents"), fake_labels=tensor("g_labels"))
    d_inputs, g_inputs = (
        loss_functions.StepInputs(player, level, of, alpha, ONE) for player, of in (("d", batch), ("g", g_batch))
    )
    return fixture, loss_functions.StepContext(g, d, objectives), d_inputs, g_inputs


def keys(fixture):
    return [float(f"{lod:.1f}") for lod in fixture["lods"]]


def check_gradients(fixture, loss_key, grad_key, found, resolution, discriminator):
    names = [str(n) for n in fixture[f"{loss_key}/grad_names"]]
    for variable, l2 in zip(names, fixture[f"{loss_key}/grad_l2"]):
        name, _ = our_name(variable, resolution, discriminator)
        norm = 0.0 if found[name] is None else float(found[name].norm())
        assert norm == pytest.approx(float(l2), rel=1e-4, abs=1e-6), variable
    full = {k.removeprefix(grad_key + "/"): fixture[k] for k in fixture.files if k.startswith(grad_key + "/")}
    for name, expected in official_networks.ours(full, resolution, discriminator).items():
        difference = (found[name] - expected).abs().max()
        assert difference <= 1e-4 * expected.abs().max() + 1e-12, name
    return len(full)


@pytest.mark.long
@pytest.mark.parametrize(
    "case,suffix,target", [("A", "", 1.0), ("A", "_target750", 750.0), ("C", "", 1.0), ("E", "", 1.0)]
)
def test_discriminator_loss_and_gradients(case, suffix, target):
    """The reference's discriminator takes full-size pictures whatever the lod, so that its penalty does, too."""
    compared = 0
    for lod in keys(official_networks.load(case)):
        fixture, context, inputs, _ = context_and_inputs(case, lod, target)
        batch, level, alpha = inputs.batch, inputs.level, inputs.alpha
        key = f"D_loss{suffix}/lod{lod}"
        params, g_params = (
            loss_functions.parameters_of(context.discriminator),
            loss_functions.detached_parameters_of(context.generator),
        )
        full = torch.from_numpy(fixture["images"]).double()
        factor = full.shape[-1] >> level

        def critic(x, params=params, context=context, level=level, alpha=alpha, factor=factor):
            return loss_functions.discriminate(context, params, F.avg_pool2d(x, factor), level, alpha)

        fakes = loss_functions.generate(context, g_params, inputs)
        fakes = F.interpolate(fakes, scale_factor=factor, mode="nearest")
        wide = batch._replace(reals=full)
        seen = DiscriminatorPass(critic, wide, fakes, critic(full), critic(fakes), ONE)
        norms = gradient_norms(critic, mixed_images(seen), ONE)
        for name, found in (
            ("real_scores", seen.real.score),
            ("fake_scores", seen.fake.score),
            ("mixed_scores", critic(mixed_images(seen)).score),
            ("mixed_norms", norms),
            ("gp_term", (norms - target) ** 2 * 10 / target**2),
            ("eps_term", 0.001 * seen.real.score**2),
        ):
            assert np.abs(found.detach().numpy() - fixture[f"{key}/{name}"]).max() < 1e-4, (key, name)
        loss = sum(objective.d_terms(seen).total() for objective in context.objectives)
        assert float(loss.detach()) == pytest.approx(float(fixture[f"{key}/mean"]), abs=1e-4)
        found = loss_functions.parameter_gradients(loss, params, ONE)
        resolution = context.generator.config.resolution
        compared += check_gradients(fixture, key, f"D_grad{suffix}/lod{lod}", found, resolution, True)
        if factor == 1:
            whole, terms = loss_functions.d_loss(context, params, g_params, inputs)
            assert float(whole.detach()) == pytest.approx(float(loss.detach()), rel=1e-12)
            assert float(terms.stats["gradient_norm"].detach()) == pytest.approx(
                float(norms.mean().detach()), rel=1e-12
            )
    assert compared > 0


@pytest.mark.long
@pytest.mark.parametrize("case", official_networks.CASES)
def test_generator_loss_and_gradients(case):
    compared = 0
    for lod in keys(official_networks.load(case)):
        fixture, context, _, inputs = context_and_inputs(case, lod)
        params = loss_functions.parameters_of(context.generator)
        loss, _ = loss_functions.g_loss(
            context, params, loss_functions.detached_parameters_of(context.discriminator), inputs
        )
        assert float(loss.detach()) == pytest.approx(float(fixture[f"G_loss/lod{lod}/mean"]), abs=1e-4)
        found = loss_functions.parameter_gradients(loss, params, ONE)
        compared += check_gradients(
            fixture, f"G_loss/lod{lod}", f"G_grad/lod{lod}", found, context.generator.config.resolution, False
        )
    assert compared > 0
