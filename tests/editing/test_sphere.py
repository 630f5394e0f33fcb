"""Geometry of latents, against second computations in plain trigonometry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pggan.editing.sphere import angle, at_angle, move, orthogonal, tangent, unit
from pggan.generation.latent_walks import slerp


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@given(st.integers(0, 1000), st.integers(2, 40), st.floats(-179, 179))
def test_a_move_turns_by_its_degrees_and_keeps_the_length(seed, size, degrees):
    z, d = random(seed, size), random(seed + 1, size)
    moved = move(z, d, degrees).astype(np.float64)
    cosine = moved @ z / np.linalg.norm(moved) / np.linalg.norm(z)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) == pytest.approx(abs(degrees), abs=0.05)
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(z), rel=1e-5)
    assert np.linalg.matrix_rank(np.stack([z, d, moved]), tol=1e-4) <= 2  # it stays on the great circle


def test_a_move_is_spherical_interpolation():
    z, d = random(0, 16), random(1, 16)
    whole = float(angle(z, d))
    for share in (0.1, 0.5, 0.9):
        expected = slerp(unit(z), unit(d), share)
        assert unit(move(z, d, share * whole)) == pytest.approx(expected, abs=1e-6)


def test_small_angles_are_exact():
    z = np.array([1.0, 0.0, 0.0])
    turned = np.array([np.cos(1e-9), np.sin(1e-9), 0.0])
    assert float(angle(z, turned)) == pytest.approx(np.degrees(1e-9), rel=1e-6)
    assert float(angle(z, -z)) == 180


def test_a_parallel_direction_moves_nothing():
    z = random(3, 8).astype(np.float32)
    assert (move(z, 2 * z, 30) == z).all()
    assert (tangent(z, -z) == 0).all()


def test_a_family_lies_at_its_angle_in_directions_of_its_seed():
    z = random(4, 32)
    family = at_angle(z, 15, 6, seed=3)
    assert angle(family, z) == pytest.approx(np.full(6, 15.0), abs=1e-3)
    assert (at_angle(z, 15, 3, seed=3) == family[:3]).all()
    assert not np.allclose(at_angle(z, 15, 3, seed=4), family[:3])
    assert angle(family[0], family[1]) > 5


def test_orthogonal_directions_are_those_of_gram_and_schmidt():
    rows, others = random(5, 3, 12), random(6, 2, 12)
    first = others[0] / np.linalg.norm(others[0])
    second = others[1] - (others[1] @ first) * first
    second /= np.linalg.norm(second)
    for row, expected in zip(orthogonal(rows, others), rows / np.linalg.norm(rows, axis=1, keepdims=True)):
        expected = expected - (expected @ first) * first - (expected @ second) * second
        assert row == pytest.approx(expected / np.linalg.norm(expected), abs=1e-9)
    assert not orthogonal(others[:1] * 3, others).any()
