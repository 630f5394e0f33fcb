"""Normalisations against torch's own layers, plain formulas and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import build, make_generator
from pggan.networks.layers import EqualizedConv2d, EqualizedLinear, EqualizedWeight
from pggan.networks.normalization import EPSILON, InstanceNorm, LayerNorm, VirtualBatchNorm, normalize_weights

SMALL = {"resolution": 8, "fmap_base": 32, "fmap_max": 8}
ONE = torch.tensor(1.0)


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """In double precision, with every parameter away from where it starts."""
    module.double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0.5, 1.0)
    return module


@pytest.mark.parametrize("shape", [(3, 5, 4, 4), (2, 3, 1, 6), (4, 7)])
def test_layer_norm_is_torchs(shape):
    norm, x = drawn(LayerNorm(shape[1])), torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(norm(x), F.group_norm(x, 1, norm.weight, norm.bias, EPSILON), atol=1e-12)
    if len(shape) == 2:
        assert torch.allclose(norm(x), F.layer_norm(x, shape[1:], norm.weight, norm.bias, EPSILON), atol=1e-12)


def test_instance_norm_is_torchs():
    norm, x = drawn(InstanceNorm(5)), torch.randn(3, 5, 4, 6, dtype=torch.float64)
    assert torch.allclose(norm(x), F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=EPSILON), atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(
    reference=st.integers(2, 5), own=st.integers(1, 4), channels=st.integers(1, 3), side=st.integers(0, 3),
    offset=st.sampled_from([0.0, 100.0]),
)  # fmt: skip
def test_virtual_batch_norm_is_its_formula(reference, own, channels, side, offset):
    shape = (reference + own, channels, side, side) if side else (reference + own, channels)
    x = np.random.RandomState(reference + own).randn(*shape) + offset
    norm = drawn(VirtualBatchNorm(channels, reference))
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    expected = np.empty_like(x)
    for c in range(channels):
        known = x[:reference, c]
        for n in range(reference + own):
            first, second = known.mean(), (known**2).mean()
            if n >= reference:  # the sample itself is one of n + 1
                first = (reference * first + x[n, c].mean()) / (reference + 1)
                second = (reference * second + (x[n, c] ** 2).mean()) / (reference + 1)
            expected[n, c] = (x[n, c] - first) / np.sqrt(second - first**2 + EPSILON) * scale[c] + shift[c]
    with torch.no_grad():
        assert np.abs(norm(torch.from_numpy(x)).numpy() - expected).max() < 1e-6


def test_the_reference_is_batch_normalised():
    norm, x = drawn(VirtualBatchNorm(3, 6)), torch.randn(8, 3, 2, 2, dtype=torch.float64)
    expected = F.batch_norm(x[:6], None, None, norm.weight, norm.bias, training=True, eps=EPSILON)
    assert torch.allclose(norm(x)[:6], expected, atol=1e-12)


@pytest.mark.parametrize("make", [LayerNorm, InstanceNorm, lambda channels: VirtualBatchNorm(channels, 2)])
def test_norms_have_correct_first_and_second_gradients(make):
    norm = make(2).double()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))
    assert torch.autograd.gradgradcheck(norm, (x,))


@pytest.mark.parametrize("make", [LayerNorm, InstanceNorm, lambda channels: VirtualBatchNorm(channels, 3)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_stay_in_single_precision(make, dtype):
    x = (300 + 4 * torch.randn(6, 2, 8, 8)).to(dtype)  # squares are above what half precision holds
    result = make(2)(x)
    assert result.dtype == dtype
    assert (result.float() - make(2)(x.float())).abs().max() < 0.02


@pytest.mark.parametrize("equalized", [True, False])
@pytest.mark.parametrize("kind,sizes", [(EqualizedConv2d, (3, 4, 3)), (EqualizedLinear, (6, 5))])
def test_weight_norm_is_its_formula(kind, sizes, equalized):
    module = kind(*sizes, equalized=equalized).double()
    before = module.effective_weight().detach().clone()
    module.normalize_weight()
    assert torch.allclose(module.effective_weight(), before, atol=1e-12)  # the same function at first
    torch.nn.init.normal_(module.magnitude)
    rows = module.weight.flatten(1)
    gain = module.scale * rows.shape[1] ** 0.5
    expected = torch.nn.utils.parametrizations._WeightNorm(dim=0)(gain * module.magnitude[:, None], rows)
    assert torch.allclose(module.effective_weight().flatten(1), expected, atol=1e-12)
    # directions alone count
    result = module.effective_weight().detach().clone()
    with torch.no_grad():
        module.weight *= 7.0
    assert torch.allclose(module.effective_weight(), result, atol=1e-12)


@pytest.mark.parametrize("normalized", [False, True])
def test_weights_can_be_set_as_they_are_used(normalized):
    layer = EqualizedConv2d(3, 4, 3).double()
    if normalized:
        layer.normalize_weight()
    expected = layer.effective_weight().detach().clamp(-0.1, 0.1)
    layer.set_effective_weight(expected)
    assert torch.allclose(layer.effective_weight(), expected, atol=1e-12)


def test_weight_norm_has_correct_first_and_second_gradients():
    layer = EqualizedLinear(3, 2).double()
    layer.normalize_weight()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]
    values = [value.detach().requires_grad_() for value in layer.parameters()]

    def call(x, *values):
        return functional_call(layer, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(call, (x, *values))
    assert torch.autograd.gradgradcheck(call, (x, *values))


@pytest.mark.parametrize("norm", ["layer", "instance", "weight"])
@pytest.mark.parametrize("arch", ["pggan", "dcgan"])
def test_a_normalised_discriminator_sees_one_sample_at_a_time(norm, arch):
    size = {**SMALL, "resolution": 16, "arch": arch}
    _, d = build(GeneratorConfig(**size, latent_size=4), DiscriminatorConfig(**size, norm=norm, diversity="none"), 0)
    d.double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    scores = d(images, 4, ONE).score
    alone = torch.cat([d(image[None], 4, ONE).score for image in images])
    assert torch.allclose(scores, alone, atol=1e-9)
    plain = build(GeneratorConfig(**size, latent_size=4), DiscriminatorConfig(**size, diversity="none"), 0)[1].double()
    same = torch.allclose(scores, plain(images, 4, ONE).score, atol=1e-9)
    assert same == (norm == "weight")  # normalised weights begin as the same function, the others do not


@pytest.mark.parametrize("fused", [True, False])
def test_normalised_activations_are_where_they_should_be(fused):
    """After every hidden convolution, before the activation, whatever the form of the downscaling."""
    config = DiscriminatorConfig(**SMALL, norm="layer", leak=1.0, fused_scale=fused)
    _, d = build(GeneratorConfig(**SMALL, latent_size=4), config, 0)
    seen = []
    for module in d.modules():
        if isinstance(module, LayerNorm):
            module.register_forward_hook(lambda m, given, out: seen.append(out))
    d(torch.randn(4, 3, 8, 8), 3, ONE)
    assert [tuple(out.shape[1:]) for out in seen] == [(8, 8, 8), (8, 4, 4) if fused else (8, 8, 8), (8, 4, 4)]
    for out in seen:
        assert out.flatten(1).mean(dim=1).abs().max() < 1e-4
        assert (out.flatten(1).std(dim=1, unbiased=False) - 1).abs().max() < 1e-2


@pytest.mark.parametrize("arch", ["pggan", "fc", "dcgan"])
def test_virtual_batch_norm_pictures_depend_on_their_own_latent_only(arch):
    config = GeneratorConfig(
        **SMALL, latent_size=6, arch=arch, norm="virtual-batch", reference_size=4, label_size=2, categorical=(3,)
    )
    g = make_generator(config).double()
    assert g.reference.shape == (4, config.inputs)
    latents, labels = torch.randn(5, 9, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[[0, 1, 0, 0, 1]]
    together = g(latents, 3, ONE, labels)
    alone = torch.cat([g(z[None], 3, ONE, y[None]) for z, y in zip(latents, labels)])
    assert torch.allclose(together, alone, atol=1e-9)
    assert torch.allclose(g(latents[[2, 0]], 3, ONE, labels[[2, 0]]), together[[2, 0]], atol=1e-9)
    # but they do depend on the reference, which goes through the weights of the moment
    with torch.no_grad():
        g.reference += 0.5
    assert not torch.allclose(g(latents, 3, ONE, labels), together, atol=1e-3)


def test_reference_is_part_of_the_seed_and_leaves_the_weights_alone():
    size, d = {**SMALL, "latent_size": 6, "categorical": (2, 3), "continuous": 2}, DiscriminatorConfig(**SMALL)
    a, b, c, plain = (
        build(GeneratorConfig(**size, norm=norm), d, seed)[0]
        for norm, seed in (("virtual-batch", 1), ("virtual-batch", 1), ("virtual-batch", 2), ("none", 1))
    )
    assert torch.equal(a.reference, b.reference)
    assert not torch.equal(a.reference, c.reference)
    assert "reference" in a.state_dict()
    assert "reference" not in plain.state_dict()
    assert torch.equal(a.blocks["4x4"].dense.weight, plain.blocks["4x4"].dense.weight)
    codes = a.reference[:, 6:]
    assert torch.equal(codes[:, :2].sum(dim=1), torch.ones(16))
    assert torch.equal(codes[:, 2:5].sum(dim=1), torch.ones(16))
    assert codes[:, 5:].abs().max() <= 1


def test_every_layer_of_a_weight_normalised_discriminator_has_a_magnitude():
    _, d = build(GeneratorConfig(**SMALL), DiscriminatorConfig(**SMALL, norm="weight", decodes=True), 0)
    layers = [module for module in d.modules() if isinstance(module, EqualizedWeight)]
    assert len(layers) > 10
    assert all(layer.magnitude is not None for layer in layers)
    images = torch.randn(4, 3, 8, 8)
    before = d(images, 3, ONE).score
    normalize_weights(d)  # anew: nothing changes
    assert torch.allclose(d(images, 3, ONE).score, before, atol=1e-5)
