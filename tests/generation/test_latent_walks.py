"""Latent walks: continuous, closed, of unit variance, and never NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.generation.latent_walks import LoopWalk, SeedWalk, slerp
from pggan.networks.latents import seed_latents
from pggan.utils.errors import UsageError

vectors = st.lists(st.floats(-10, 10), min_size=3, max_size=3).map(np.array)


@given(vectors, vectors, st.floats(0, 1))
def test_slerp_is_finite_and_begins_and_ends_at_its_vectors(a, b, t):
    assert np.isfinite(slerp(a, b, t)).all()
    assert np.allclose(slerp(a, b, 0.0), a, atol=1e-6)
    assert np.allclose(slerp(a, b, 1.0), b, atol=1e-6)


def test_slerp_turns_at_constant_speed_and_is_linear_where_there_is_no_arc():
    a, b = np.array([2.0, 0, 0]), np.array([0, 4.0, 0])
    third = slerp(a, b, 1 / 3)
    assert np.allclose(third / np.linalg.norm(third), [np.cos(np.pi / 6), np.sin(np.pi / 6), 0])
    assert np.linalg.norm(third) == pytest.approx(2 + 2 / 3)
    assert np.isfinite(slerp(a, -a, 0.5)).all()
    assert np.isfinite(slerp(a * 0, b, 0.5)).all()


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(st.integers(2, 400), st.integers(1, 5), st.sampled_from([1.0, 24.0, 30.0]), st.integers(0, 5))
def test_loop_walk_is_closed_and_smooth(frames, cells, fps, seed):
    walk = LoopWalk(frames, cells, 64, fps, seed)
    assert np.array_equal(walk.latents(frames), walk.latents(0))
    assert walk.latents(0).shape == (cells, 64)
    steps = [np.abs(walk.latents(i + 1) - walk.latents(i)).mean() for i in range(0, frames, max(1, frames // 7))]
    if frames / walk.points > 20:
        assert max(steps) < 0.15  # the last step, back to frame 0, is one like the others
    assert not np.array_equal(LoopWalk(frames, cells, 64, fps, seed + 1).latents(0), walk.latents(0))


def test_loop_walk_has_unit_variance_and_moves():
    walk = LoopWalk(300, 50, 64, 30.0)
    values = np.stack([walk.latents(i) for i in (0, 37, 150)])
    assert values.std() == pytest.approx(1, abs=0.03)
    far = (walk.latents(0) * walk.latents(150)).mean()
    assert abs(far) < 0.2
    # cells differ
    assert np.abs(np.corrcoef(walk.latents(10))[0, 1:]).max() < 0.6


def test_seed_walk_visits_its_seeds():
    walk = SeedWalk(30, 2, 8, (3, 5, 9))
    for at, seed in ((0, 3), (10, 5), (20, 9), (30, 3)):
        assert np.allclose(walk.latents(at)[0], seed_latents([seed], 8)[0], atol=1e-5)
    assert np.allclose(walk.latents(0)[1], seed_latents([5], 8)[0], atol=1e-5)  # the second cell begins at the second
    once = SeedWalk(21, 1, 8, (3, 5, 9), loop=False)
    assert np.allclose(once.latents(10)[0], seed_latents([5], 8)[0], atol=1e-5)
    assert np.allclose(once.latents(20)[0], seed_latents([9], 8)[0], atol=1e-5)
    line = SeedWalk(30, 1, 8, (3, 5, 9), method="linear")
    assert np.allclose(line.latents(5)[0], (seed_latents([3], 8)[0] + seed_latents([5], 8)[0]) / 2, atol=1e-5)


def test_a_walk_between_seeds_refuses_a_single_seed_and_an_unknown_method():
    with pytest.raises(UsageError, match="two of them"):
        SeedWalk(30, 1, 8, (3,))
    with pytest.raises(UsageError, match="slerp, linear"):
        SeedWalk(30, 1, 8, (3, 4), method="cubic")
