"""The least time of an image: a roofline of the weight layers."""

import pytest

from pggan.config.train import TrainConfig
from pggan.networks.flops import d_passes, floor_seconds, iteration_flops

NETWORKS = TrainConfig(max_res=1024).networks()


def test_the_floor_of_a_chip():
    """790 TFLOP/s and 4.3 TB/s: 1.57 ms an image at 1024 counted by level, a little more by layer."""
    assert 1.57e-3 <= floor_seconds(*NETWORKS, 10, 790e12, 4.3e12, 2) < 1.2 * 1.57e-3


@pytest.mark.parametrize("n_critic", [1, 5])
def test_with_memory_for_nothing_it_is_the_arithmetic(n_critic):
    expected = iteration_flops(*NETWORKS, 2, n_critic) / n_critic / 1e12
    assert floor_seconds(*NETWORKS, 2, 1e12, 1e30, 2, n_critic) == pytest.approx(expected)


def test_with_arithmetic_for_nothing_it_is_the_traffic():
    whole, half = (floor_seconds(*NETWORKS, 10, 1e30, 1e12, size) for size in (4, 2))
    assert whole == pytest.approx(2 * half)
    assert floor_seconds(*NETWORKS, 10, 1e30, 2e12, 4) == pytest.approx(half)


def test_a_loss_without_a_penalty_takes_half_of_ds_passes():
    """12 of D's 18 passes and G's, which cost alike."""
    without, whole = (floor_seconds(*NETWORKS, 4, 1e12, 1e12, 2, in_d_step=passes) for passes in (6, 12))
    assert without == pytest.approx(whole * 12 / 18, rel=0.01)


@pytest.mark.parametrize(
    "options,passes",
    [
        ({}, 12), ({"loss": "hinge"}, 6), ({"loss": "r1"}, 12), ({"loss": "rpgan"}, 18),
        ({"loss": "rpgan", "penalty_every": 4}, 9), ({"loss_options": (("r2_gamma", 1.0),)}, 18),
    ],
)  # fmt: skip
def test_each_penalty_takes_six_passes_of_d(options, passes):
    assert d_passes(TrainConfig(**options)) == passes
