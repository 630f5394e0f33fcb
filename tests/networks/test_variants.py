"""Every architecture with every choice: shapes, sizes against the cost model, files, heads, refusals."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch.func import functional_call

from pggan.config.network import ARCHS, D_NORMS, DIVERSITIES, G_NORMS
from pggan.config.train import DiscriminatorConfig, GeneratorConfig, from_json, to_json
from pggan.networks import flops
from pggan.networks.factory import build, make_discriminator, make_generator
from pggan.networks.model_file import ModelFile, load_model, save_model
from pggan.networks.resampling import downscale, upscale
from pggan.utils.errors import UsageError

SMALL = {"resolution": 16, "fmap_base": 64, "fmap_max": 8}
ONE = torch.tensor(1.0)


def discriminator_configs():
    for arch, norm, diversity, decodes in itertools.product(ARCHS, D_NORMS, DIVERSITIES, (False, True)):
        if (arch == "fc" and norm == "instance") or (decodes and diversity == "discrimination"):
            continue
        yield DiscriminatorConfig(
            **SMALL, arch=arch, norm=norm, diversity=diversity, decodes=decodes, label_size=2 if norm == "layer" else 0,
            categorical=(3,) if diversity == "none" else (), continuous=1, discrimination_kernels=5, hidden_size=7,
        )  # fmt: skip


def named(config) -> str:
    """A short name for a test's list."""
    return "-".join([config.arch, config.norm, getattr(config, "diversity", ""), "d" * getattr(config, "decodes", 0)])


def in_use(module: torch.nn.Module, level: int) -> int:
    """Parameters in use at a level, one ToRGB and FromRGB counted, by the names of the modules."""
    idle = {f"{2**at}x{2**at}" for at in range(level + 1, 11)}
    rgb = {f"{2**at}x{2**at}" for at in range(2, level)}
    total = 0
    for name, parameter in module.named_parameters():
        parts = set(name.split("."))
        unused = parts & idle or (parts & {"to_rgb", "from_rgb"} and parts & rgb)
        total += 0 if unused else parameter.numel()
    return total


@pytest.mark.parametrize("config", list(discriminator_configs()), ids=named)
def test_every_discriminator_has_its_counted_size_all_gradients_and_its_heads(config):
    d = make_discriminator(config)
    for level in range(config.min_level, config.max_level + 1):
        assert flops.parameters(config, level) == in_use(d, level)
        out = d(torch.randn(4, 3, 2**level, 2**level), level, torch.tensor(0.3))
        assert out.score.shape == (4,)
        assert out.features.ndim == 2
        assert (out.class_logits is not None) == (config.label_size > 0)
        assert out.codes.shape == (4, config.code_outputs) == (4, sum(config.categorical) + 2)
        assert (out.reconstruction is not None) == config.decodes
    # every parameter is reached by a second-order gradient of what the heads say, but those of other levels
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    out = d(images, 4, torch.tensor(0.5))
    (slope,) = torch.autograd.grad(out.score.sum(), images, create_graph=True)
    loss = out.score.square().sum() + out.codes.square().sum() + slope.square().sum()
    loss = loss if out.class_logits is None else loss + out.class_logits.square().sum()
    result = torch.autograd.grad(loss, list(d.parameters()), allow_unused=True)
    missing = [name for (name, _), g in zip(d.named_parameters(), result) if g is None]
    assert all(g.isfinite().all() for g in result if g is not None)
    assert all("rgb.4x4" in name for name in missing), missing
    # in reduced precision it says about the same
    with torch.no_grad():
        rough, out = d(images, 4, torch.tensor(0.5), torch.bfloat16), d(images, 4, torch.tensor(0.5))
    assert rough.score.dtype == rough.codes.dtype == rough.features.dtype == torch.float32
    assert (rough.score - out.score).abs().max() < 0.1 * max(1.0, float(out.score.abs().max()))


@pytest.mark.parametrize("arch,norm", list(itertools.product(ARCHS, G_NORMS)))
@pytest.mark.parametrize("output,channels", [("linear", 3), ("tanh", 1)])
def test_every_generator_has_its_counted_size_and_makes_images(arch, norm, output, channels):
    config = GeneratorConfig(
        **SMALL, channels=channels, arch=arch, norm=norm, output=output, latent_size=6, categorical=(2, 3),
        continuous=2, label_size=2, reference_size=3,
    )  # fmt: skip
    g = make_generator(config)
    latents, labels = torch.randn(4, 13), torch.eye(2)[[0, 1, 1, 0]]
    for level in range(config.min_level, config.max_level + 1):
        assert flops.parameters(config, level) == in_use(g, level)
        pictures = g(latents, level, torch.tensor(0.5), labels)
        assert pictures.shape == (4, channels, 2**level, 2**level)
        assert output == "linear" or pictures.abs().max() <= 1
    result = torch.autograd.grad(pictures.square().sum(), list(g.parameters()), allow_unused=True)
    assert all(g.isfinite().all() for g in result if g is not None)
    rough = g(latents, 4, torch.tensor(0.5), labels, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert (rough - pictures).abs().mean() < 0.1
    moved = functional_call(g, {k: v + 0.1 for k, v in g.named_parameters()}, (latents, 4, ONE, labels))
    assert not torch.allclose(moved, pictures)


def test_multiply_accumulates_of_baselines_as_torch_counts_them():
    from torch.utils.flop_counter import FlopCounterMode

    for arch in ("fc", "dcgan"):
        size = {**SMALL, "arch": arch, "channels": 1}
        g_config = GeneratorConfig(**size, latent_size=6)
        d_config = DiscriminatorConfig(**size, decodes=True, continuous=1)
        g, d = build(g_config, d_config, 0)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            g(torch.randn(1, 6), 4, ONE)
        assert counter.get_total_flops() == 2 * sum(x.macs for x in flops.layers(g_config, 4))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            d(torch.randn(1, 1, 16, 16), 4, ONE)
        assert counter.get_total_flops() == 2 * sum(x.macs for x in flops.layers(d_config, 4))


@pytest.mark.parametrize("side,channels", list(itertools.product([8, 16, 32, 64], [1, 3])))
@pytest.mark.parametrize("g_arch,d_arch", [("fc", "fc"), ("dcgan", "fc"), ("fc", "dcgan"), ("dcgan", "dcgan")])
def test_baselines_of_every_size_fit_together_and_refuse_other_levels(side, channels, g_arch, d_arch):
    size = {"resolution": side, "channels": channels, "fmap_max": 8}
    g, d = build(GeneratorConfig(**size, arch=g_arch, latent_size=5), DiscriminatorConfig(**size, arch=d_arch), 0)
    level = side.bit_length() - 1
    with torch.no_grad():
        pictures = g(torch.randn(4, 5), level, None)
        assert pictures.shape == (4, channels, side, side)
        assert d(pictures, level, ONE).score.shape == (4,)
    weights = [p for p in (*g.parameters(), *d.parameters()) if p.ndim > 1]
    # three fully connected layers, four with convolutions
    assert len(weights) == {"fc": 3, "dcgan": 4}[g_arch] + {"fc": 3, "dcgan": 4}[d_arch]
    assert 0.2 < pictures.std() < 3  # variance is kept from layer to layer
    with pytest.raises(ValueError, match=f"the only one of this {g_arch} network"):
        g(torch.randn(4, 5), level - 1, None)


def test_codes_pass_unnormalised_and_noise_does_not():
    config = GeneratorConfig(**SMALL, latent_size=6, categorical=(3,), continuous=1)
    g, plain = make_generator(config).double(), make_generator(GeneratorConfig(**SMALL, latent_size=6)).double()
    z, codes = torch.randn(2, 6, dtype=torch.float64), torch.tensor([[0, 1, 0, -0.5], [1, 0, 0, 0.25]]).double()
    seen = g.normalized_inputs(torch.cat([z, codes], dim=1), None)
    assert torch.equal(seen[:, 6:], codes)
    assert torch.equal(seen[:, :6], plain.normalized_inputs(z, None))
    with pytest.raises(ValueError, match=r"latents of shape \(N, 10\) are needed, got \(2, 6\)"):
        g(z, 4, ONE)


def test_an_auto_encoder_scores_by_its_error():
    config = DiscriminatorConfig(**SMALL, decodes=True, diversity="none")
    d = make_discriminator(config).double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    out = d(images, 4, torch.tensor(0.25))
    assert out.features.shape == (3, config.hidden_size)
    assert torch.allclose(out.score, -(images - out.reconstruction).abs().mean(dim=(1, 2, 3)), atol=1e-12)
    assert torch.equal(out.reconstruction, d.decoder(out.features, 4, torch.tensor(0.25)))
    # at alpha 0 encoder and decoder are those of the level below
    faded, below = d(images, 4, torch.tensor(0.0)), d(downscale(images), 3, ONE)
    assert torch.allclose(faded.features, below.features, atol=1e-12)
    assert torch.allclose(faded.reconstruction, upscale(below.reconstruction), atol=1e-12)


@pytest.mark.parametrize("arch", ARCHS)
def test_saved_networks_load_with_the_same_outputs(arch, tmp_path):
    size = {**SMALL, "arch": arch, "categorical": (2, 3), "continuous": 1}
    g, d = build(
        GeneratorConfig(**size, norm="virtual-batch", latent_size=6),
        DiscriminatorConfig(**size, norm="weight", diversity="discrimination", discrimination_kernels=3),
        0,
    )
    save_model(tmp_path / "a.safetensors", ModelFile(g, d, 4, 1.0))
    result = load_model(tmp_path / "a.safetensors")
    assert result.generator.config == g.config
    assert result.discriminator.config == d.config
    z, images = torch.randn(2, 12), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(result.generator(z, 4, ONE), g(z, 4, ONE))
        assert torch.equal(result.discriminator(images, 4, ONE).score, d(images, 4, ONE).score)
    assert from_json(DiscriminatorConfig, to_json(d.config)) == d.config


def test_configurations_of_older_files_keep_their_meaning():
    old = {"resolution": 16, "fmap_base": 64, "fmap_max": 8, "widths": [], "norm": "pixel", "latent_size": 6}
    config = from_json(GeneratorConfig, old)
    assert (config.arch, config.code_size, config.inputs) == ("pggan", 0, 6)
    d = from_json(DiscriminatorConfig, {"resolution": 16, "stddev_group": 4, "stddev_form": "official"})
    assert (d.norm, d.diversity, d.minibatch_group, d.decodes, d.code_outputs) == ("none", "stddev", 4, False, 0)


@pytest.mark.parametrize(
    "kind,values,message",
    [
        (GeneratorConfig, {"arch": "stylegan"}, "architecture stylegan is none of pggan, fc, dcgan"),
        (GeneratorConfig, {"arch": "fc", "resolution": 128}, "fc makes pictures of 8x8 to 64x64, not 128x128"),
        (GeneratorConfig, {"arch": "dcgan", "resolution": 4}, "dcgan makes pictures of 8x8 to 64x64, not 4x4"),
        (GeneratorConfig, {"norm": "batch"}, "normalisation batch is none of pixel, virtual-batch, none"),
        (GeneratorConfig, {"categorical": (1,)}, "a categorical code of 1 values is not from 2"),
        (GeneratorConfig, {"continuous": -1}, "continuous -1 is not from 0 to 1000"),
        (GeneratorConfig, {"reference_size": 1}, "reference batch of 1"),
        (DiscriminatorConfig, {"norm": "batch"}, "normalisation batch is none of none, layer, instance, weight"),
        (DiscriminatorConfig, {"diversity": "some"}, "diversity some is none of stddev, discrimination, none"),
        (DiscriminatorConfig, {"arch": "fc", "resolution": 16, "norm": "instance"}, "layer, weight or none"),
        (DiscriminatorConfig, {"arch": "dcgan", "resolution": 8, "norm": "instance"}, "16x16 or more"),
        (DiscriminatorConfig, {"decodes": True, "diversity": "discrimination"}, "give the diversity stddev or none"),
        (DiscriminatorConfig, {"discrimination_group": 1}, "discrimination group 1 is not from 2"),
        (DiscriminatorConfig, {"hidden_size": 0}, "hidden size 0 is not from 1"),
    ],
)
def test_invalid_networks_are_refused(kind, values, message):
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        kind(**values)
    assert "\n" not in str(refused.value)
