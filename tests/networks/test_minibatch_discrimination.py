"""Minibatch discrimination against plain loops, and what it lets a discriminator know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import build
from pggan.networks.minibatch_discrimination import MinibatchDiscrimination, closeness

SMALL = {"resolution": 8, "fmap_base": 32, "fmap_max": 8}
ONE = torch.tensor(1.0)


def looped(m: np.ndarray, group: int) -> np.ndarray:
    count, kernels, _ = m.shape
    apart = count // min(group, count)
    out = np.zeros((count, kernels))
    for i in range(count):
        for j in range(count):
            if i != j and i % apart == j % apart:
                for b in range(kernels):
                    out[i, b] += np.exp(-np.abs(m[i, b] - m[j, b]).sum())
    return out


@settings(deadline=None, max_examples=25)
@given(groups=st.integers(1, 3), size=st.integers(1, 4), kernels=st.integers(1, 3), dim=st.integers(1, 4))
def test_closeness_is_what_loops_compute(groups, size, kernels, dim):
    m = np.random.RandomState(groups * size).randn(groups * size, kernels, dim)
    result = closeness(torch.from_numpy(m), size).numpy()
    assert np.abs(result - looped(m, size)).max() < 1e-12


def test_a_minibatch_smaller_than_the_group_is_one_group_and_a_ragged_one_is_refused():
    m = np.random.RandomState(0).randn(5, 2, 3)
    assert np.abs(closeness(torch.from_numpy(m), 16).numpy() - looped(m, 5)).max() < 1e-12
    with pytest.raises(ValueError, match="6 is not divisible"):
        closeness(torch.zeros(6, 1, 1), 4)


def test_equal_samples_are_as_close_as_can_be_and_far_ones_not_at_all():
    same, far = torch.zeros(4, 2, 3), torch.arange(4.0)[:, None, None].expand(4, 2, 3) * 100
    assert torch.equal(closeness(same, 4), torch.full((4, 2), 3.0))
    assert torch.equal(closeness(far, 4), torch.zeros(4, 2))


def test_order_of_a_minibatch_only_orders_its_values():
    config = DiscriminatorConfig(**SMALL, diversity="discrimination", discrimination_group=6)
    layer, x = MinibatchDiscrimination(8, config).double(), torch.randn(6, 8, dtype=torch.float64)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert torch.allclose(layer(x)[order], layer(x[order]), atol=1e-12)


def test_the_layer_is_the_closeness_of_features_times_t():
    config = DiscriminatorConfig(**SMALL, diversity="discrimination", discrimination_kernels=3, discrimination_dim=2)
    layer, x = MinibatchDiscrimination(8, config).double(), torch.randn(5, 8, dtype=torch.float64)
    t = layer.effective_weight().detach().numpy().reshape(3, 2, 8).transpose(2, 0, 1)  # A x B x C
    m = np.einsum("na,abc->nbc", x.numpy(), t)
    assert np.abs(layer(x).detach().numpy() - looped(m, 5)).max() < 1e-12
    assert layer(x.bfloat16()).dtype == torch.float32


def test_closeness_has_correct_first_and_second_gradients():
    m = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: closeness(x, 2), (m,))
    assert torch.autograd.gradgradcheck(lambda x: closeness(x, 2), (m,))


@pytest.mark.parametrize("arch", ["pggan", "fc", "dcgan"])
@pytest.mark.parametrize("diversity", ["stddev", "discrimination", "none"])
def test_scores_see_neighbours_as_the_choice_says(arch, diversity):
    size = {**SMALL, "arch": arch}
    config = DiscriminatorConfig(**size, diversity=diversity, discrimination_group=4)
    d = build(GeneratorConfig(**size), config, 0)[1].double()
    images = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    scores = d(images, 3, ONE).score
    other = images.clone()
    other[2] += 0.5
    changed = (d(other, 3, ONE).score - scores).abs() > 1e-9
    # groups of four among eight: the even ones and the odd ones
    expected = [n % 2 == 0 for n in range(8)] if diversity != "none" else [n == 2 for n in range(8)]
    assert changed.tolist() == expected
    assert config.minibatch_group == (1 if diversity == "none" else 4)


def test_parts_of_a_minibatch_are_what_the_whole_is():
    """Every second sample at once: groups stay whole, so that micro-batches change nothing."""
    config = DiscriminatorConfig(**SMALL, diversity="discrimination", discrimination_group=4)
    d = build(GeneratorConfig(**SMALL), config, 0)[1].double()
    images = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    whole = d(images, 3, ONE).score
    for part in (0, 1):
        assert torch.allclose(d(images[part::2], 3, ONE).score, whole[part::2], atol=1e-10)


def test_a_group_of_one_leaves_the_statistic_out():
    _, one = build(GeneratorConfig(**SMALL), DiscriminatorConfig(**SMALL, stddev_group=1), 0)
    _, none = build(GeneratorConfig(**SMALL), DiscriminatorConfig(**SMALL, diversity="none"), 0)
    images = torch.randn(3, 3, 8, 8)
    assert torch.equal(one(images, 3, ONE).score, none(images, 3, ONE).score)
