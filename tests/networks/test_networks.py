"""Networks against their published sizes, their own cost model, and second ways of computing the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks import flops
from pggan.networks.factory import build
from pggan.networks.layers import (
    ConvDownscale2d,
    UpscaleConv2d,
    minibatch_stddev,
    pixel_norm,
)
from pggan.networks.resampling import downscale, fade, upscale

# Karras et al. 2018 at fmap_base 8192 and 2048, in millions: level -> (G, D)
PUBLISHED = {
    (8192, 10): (23.072, 23.077),
    (2048, 2): (6.556, 6.562),
    (2048, 3): (11.276, 11.281),
    (2048, 4): (13.045, 13.051),
    (2048, 5): (13.487, 13.493),
    (2048, 6): (13.598, 13.603),
    (2048, 7): (13.625, 13.631),
}
SMALL = {"resolution": 32, "fmap_base": 64, "fmap_max": 16}


def active_parameters(module: torch.nn.Module, level: int) -> int:
    """Parameters in use at a level, one RGB layer counted: the module's own count beside cost.parameters."""
    names = [f"{2**at}x{2**at}" for at in range(2, level + 1)]
    total = 0
    for name, parameter in module.named_parameters():
        part, _, rest = name.partition(".")
        block = rest.partition(".")[0]
        rgb = part in ("to_rgb", "from_rgb")
        if part == "head" or (block == names[-1] if rgb else block in names):
            total += parameter.numel()
    return total


@pytest.mark.parametrize("base,level", PUBLISHED)
def test_parameter_counts_are_the_published_ones(base, level):
    g, d = GeneratorConfig(fmap_base=base), DiscriminatorConfig(fmap_base=base)
    result = tuple(round(flops.parameters(c, level) / 1e6, 3) for c in (g, d))
    assert result == PUBLISHED[base, level]
    assert abs(result[0] / result[1] - 1) < 0.001


@pytest.mark.parametrize("labels,fused,group", [(0, True, 4), (3, False, 1), (5, True, 16)])
def test_cost_model_counts_the_modules(labels, fused, group):
    common = {**SMALL, "label_size": labels, "fused_scale": fused}
    g_config = GeneratorConfig(**common, latent_size=20)
    d_config = DiscriminatorConfig(**common, stddev_group=group)
    g, d = build(g_config, d_config, 0)
    for level in range(2, 6):
        assert flops.parameters(g_config, level) == active_parameters(g, level)
        assert flops.parameters(d_config, level) == active_parameters(d, level)


def test_multiply_accumulates_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    g_config, d_config = GeneratorConfig(**SMALL, latent_size=20), DiscriminatorConfig(**SMALL)
    g, d = build(g_config, d_config, 0)
    alpha = torch.tensor(1.0)
    for level in (2, 4, 5):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            g(torch.randn(1, 20), level, alpha)
        more = 0 if level == 2 else 2 * 3 * g_config.fmaps(level - 2) * 4 ** (level - 1)
        # kernels spread for fused scaling, once for a batch of any size
        more += 2 * 9 * 16 * sum(g_config.fmaps(at - 2) * g_config.fmaps(at - 1) for at in range(3, level + 1))
        assert counter.get_total_flops() == 2 * sum(x.macs for x in flops.layers(g_config, level)) + more
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            d(torch.randn(1, 3, 2**level, 2**level), level, alpha)
        assert counter.get_total_flops() == 2 * sum(x.macs for x in flops.layers(d_config, level)) + more


@pytest.mark.parametrize("level", [2, 3, 4, 5])
def test_shapes_fit_and_alpha_0_is_the_level_below(level):
    g, d = build(GeneratorConfig(**SMALL, latent_size=20), DiscriminatorConfig(**SMALL), 1)
    z = torch.randn(4, 20)
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    images = g(z, level, one)
    assert images.shape == (4, 3, 2**level, 2**level)
    assert d(images, level, one).score.shape == (4,)
    if level > 2:
        # alpha 0 is the level below and nothing else, bit by bit
        assert torch.equal(g(z, level, zero), upscale(g(z, level - 1, one)))
        below = d(downscale(images), level - 1, one).score
        assert torch.allclose(d(images, level, zero).score, below, atol=1e-6)


def test_networks_refuse_what_does_not_fit():
    g, d = build(GeneratorConfig(**SMALL, latent_size=20, label_size=2), DiscriminatorConfig(**SMALL), 1)
    one = torch.tensor(1.0)
    with pytest.raises(ValueError, match="level 6"):
        g(torch.randn(1, 20), 6, one, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="labels"):
        g(torch.randn(1, 20), 3, one)
    with pytest.raises(ValueError, match="level 3 takes images"):
        d(torch.zeros(1, 3, 4, 4), 3, one)


def test_a_seed_decides_the_weights_and_leaves_torch_alone():
    before = torch.random.get_rng_state()
    configs = GeneratorConfig(**SMALL, latent_size=20), DiscriminatorConfig(**SMALL)
    a, b, c = (build(*configs, seed)[0].state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["blocks.4x4.conv.weight"], c["blocks.4x4.conv.weight"])
    assert a["blocks.4x4.conv.weight"].std() == pytest.approx(1, abs=0.1)
    assert a["blocks.4x4.conv.bias"].abs().max() == 0


def test_fused_scaling_is_the_same_linear_map():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8, 8, dtype=torch.float64)
    up = UpscaleConv2d(5, 7, GeneratorConfig()).double()
    expected = F.conv2d(F.interpolate(x, scale_factor=2), up.effective_weight(), up.bias, padding=1)
    assert torch.allclose(up(x), expected, atol=1e-12)
    unfused_up = UpscaleConv2d(5, 7, GeneratorConfig(fused_scale=False)).double()
    unfused_up.load_state_dict(up.state_dict())
    assert torch.allclose(unfused_up(x), expected, atol=1e-12)
    down = ConvDownscale2d(5, 7, DiscriminatorConfig()).double()
    torch.nn.init.normal_(down.bias)
    convolved = F.conv2d(x, down.effective_weight(), padding=1)
    fused = F.leaky_relu(F.avg_pool2d(convolved, 2) + down.bias[:, None, None], 0.2)
    assert torch.allclose(down(x), fused, atol=1e-12)
    unfused_down = ConvDownscale2d(5, 7, DiscriminatorConfig(fused_scale=False)).double()
    unfused_down.load_state_dict(down.state_dict())
    unfused = F.avg_pool2d(F.leaky_relu(convolved + down.bias[:, None, None], 0.2), 2)
    assert torch.allclose(unfused_down(x), unfused, atol=1e-12)


@pytest.mark.parametrize("count,group", [(8, 4), (3, 4), (1, 4), (6, 6), (16, 4), (8, 2)])
def test_minibatch_stddev_is_its_formula(count, group):
    x = torch.randn(count, 3, 4, 4, dtype=torch.float64)
    result = minibatch_stddev(x, group)
    assert torch.equal(result[:, :3], x)
    groups = count // min(group, count)
    for n in range(count):
        members = x[n % groups :: groups]
        expected = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        assert torch.allclose(result[n, 3], expected, atol=1e-12)


def test_minibatch_statistic_refuses_ragged_groups():
    with pytest.raises(ValueError, match="not divisible"):
        minibatch_stddev(torch.zeros(6, 1, 4, 4), 4)


def test_pixel_norm_gives_unit_vectors_and_fade_blends():
    x = torch.randn(2, 64, 3, 3)
    assert torch.allclose(pixel_norm(x, 1e-8).square().mean(dim=1), torch.ones(2, 3, 3), atol=1e-5)
    fine, coarse = torch.randn(3), torch.randn(3)
    assert torch.equal(fade(fine, coarse, torch.tensor(1.0)), fine)
    assert torch.equal(fade(fine, coarse, torch.tensor(0.0)), coarse)
    assert torch.allclose(fade(fine, coarse, torch.tensor(0.25)), 0.25 * fine + 0.75 * coarse)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_near_float32(dtype):
    g, d = build(GeneratorConfig(**SMALL, latent_size=20), DiscriminatorConfig(**SMALL), 1)
    z, one = torch.randn(8, 20), torch.tensor(1.0)
    with torch.no_grad():
        images, halved = g(z, 5, one), g(z, 5, one, dtype=dtype)
        scores, rough = d(images, 5, one).score, d(images, 5, one, dtype).score
    assert halved.dtype == rough.dtype == torch.float32
    assert 0 < (images - halved).abs().mean() < 0.05
    assert 0 < (scores - rough).abs().mean() < 0.05
