"""The pyramid of 2x2 means against the reference release and a float32 chain."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.data.store.pyramid import pyramid

EXPECTED = np.load(Path(__file__).parents[1] / "fixtures" / "data" / "pyramid.npz")


def float32_chain(image: np.ndarray) -> dict[int, np.ndarray]:
    """The rule as it is written: 2x2 means in float32 without rounding in between, rounded half to even."""
    values = image.transpose(2, 0, 1).astype(np.float32)
    levels = {}
    while True:
        side = values.shape[1]
        levels[side] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        if side == 4:
            return levels
        corners = values[:, 0::2, 0::2] + values[:, 0::2, 1::2] + values[:, 1::2, 0::2] + values[:, 1::2, 1::2]
        values = corners * np.float32(0.25)


@pytest.mark.parametrize("name, levels", [("color", 4), ("gray", 2)])
def test_the_pyramid_equals_the_reference_release(name, levels):
    sources = EXPECTED[name]
    assert len(sources)
    for index, source in enumerate(sources):
        result = pyramid(source.transpose(1, 2, 0))
        assert sorted(result) == [source.shape[1] >> lod for lod in range(levels, -1, -1)]
        for lod in range(1, levels + 1):
            np.testing.assert_array_equal(result[source.shape[1] >> lod], EXPECTED[f"{name}/lod{lod}"][index])
        np.testing.assert_array_equal(result[source.shape[1]], source)


@settings(max_examples=60, deadline=None)
@given(
    level=st.integers(2, 8),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32 - 1),
    low=st.integers(0, 255),
    span=st.integers(1, 256),
)
def test_integer_sums_equal_the_float32_chain(level, channels, seed, low, span):
    side = 2**level
    random = np.random.default_rng(seed)
    image = random.integers(low, min(low + span, 256), (side, side, channels), dtype=np.uint8, endpoint=False)
    levels, expected = pyramid(image), float32_chain(image)
    assert levels.keys() == expected.keys()
    for side in expected:
        np.testing.assert_array_equal(levels[side], expected[side])
        assert levels[side].dtype == np.uint8


@pytest.mark.parametrize("side", [1024, 2048])
@pytest.mark.parametrize("kind", ["noise", "white"])
def test_large_pictures_equal_the_float32_chain(side, kind):
    # all white is where the sums are largest; from 2048 float32 itself rounds
    random = np.random.default_rng(1)
    image = (
        random.integers(0, 256, (side, side, 1), np.uint8) if kind == "noise" else np.full((side, side, 1), 255, "u1")
    )
    levels, expected = pyramid(image), float32_chain(image)
    for side in expected:
        np.testing.assert_array_equal(levels[side], expected[side])


def test_views_that_are_not_contiguous_are_taken():
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 32), np.uint8)[:, :, ::2]
    levels = pyramid(image.transpose(1, 2, 0))
    np.testing.assert_array_equal(levels[8], float32_chain(image.transpose(1, 2, 0))[8])


@pytest.mark.parametrize("shape", [(12, 12, 3), (8, 16, 3), (2, 2, 3), (8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="power of two"):
        pyramid(np.zeros(shape, np.uint8))
