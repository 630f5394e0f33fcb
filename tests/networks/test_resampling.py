"""Bilinear resampling: torch's own interpolation as the second way, derivatives, and a run that resumes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import build
from pggan.networks.layers import ConvDownscale2d, UpscaleConv2d
from pggan.networks.resampling import blur, downscale, upscale

BILINEAR = {"resample": "bilinear"}
INSIDE = (..., slice(2, -2), slice(2, -2))


def interpolated(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False, antialias=factor < 1)


def test_the_filter_makes_nearest_neighbour_bilinear():
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert torch.allclose(blur(upscale(x))[INSIDE], interpolated(x, 2)[INSIDE], atol=1e-12)
    # torch's antialiased halving is the same triangle: [1 3 3 1] / 8
    assert torch.allclose(downscale(blur(x))[INSIDE], interpolated(x, 0.5)[INSIDE], atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_layers_resample_what_they_convolve(fused):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 16, 16, dtype=torch.float64)
    up = UpscaleConv2d(5, 7, GeneratorConfig(fused_scale=fused, **BILINEAR)).double()
    torch.nn.init.normal_(up.bias)
    expected = F.conv2d(interpolated(x, 2), up.effective_weight(), up.bias, padding=1)
    assert torch.allclose(up(x)[INSIDE], expected[INSIDE], atol=1e-12)
    down = ConvDownscale2d(5, 7, DiscriminatorConfig(fused_scale=fused, leak=1.0, **BILINEAR)).double()
    torch.nn.init.normal_(down.bias)
    expected = interpolated(F.conv2d(x, down.effective_weight(), padding=1), 0.5) + down.bias[:, None, None]
    assert torch.allclose(down(x)[INSIDE], expected[INSIDE], atol=1e-12)


def test_the_bias_reaches_the_border_whole():
    up = UpscaleConv2d(1, 1, GeneratorConfig(**BILINEAR))
    torch.nn.init.ones_(up.bias)
    assert torch.equal(up(torch.zeros(1, 1, 4, 4)), torch.ones(1, 1, 8, 8))


def test_networks_have_the_same_weights_and_other_pictures():
    small = {"resolution": 16, "fmap_base": 64, "fmap_max": 16}
    nearest = build(GeneratorConfig(**small, latent_size=8), DiscriminatorConfig(**small), 3)
    bilinear = build(GeneratorConfig(**small, latent_size=8, **BILINEAR), DiscriminatorConfig(**small, **BILINEAR), 3)
    z, alpha = torch.randn(2, 8), torch.tensor(0.5)
    for a, b in zip(nearest, bilinear):
        assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())
    pictures = [g(z, 4, alpha) for g, _ in (nearest, bilinear)]
    assert not torch.allclose(*pictures)
    assert not torch.allclose(*(d(pictures[0], 4, alpha).score for _, d in (nearest, bilinear)))
    assert torch.equal(*(g(z, 2, None) for g, _ in (nearest, bilinear)))  # 4x4 resamples nothing


def test_a_picture_made_without_gradients_leaves_training_possible():
    with torch.inference_mode():
        blur(torch.zeros(1, 1, 4, 4, dtype=torch.float64))
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    blur(x).sum().backward()
    assert x.grad is not None
    assert torch.autograd.gradgradcheck(blur, torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True))
