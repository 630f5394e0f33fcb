"""Blending the feature maps of two latents: its ends are the pictures themselves, its regions stay apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pggan.generation.level_features import level_features, synthesize_blend
from pggan.generation.model import Model
from tests.helpers.model_files import model_file

ALL, NOTHING = np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)


@pytest.fixture(scope="module")
def model():
    return Model(model_file(labels=2), torch.device("cpu"))


@pytest.fixture(scope="module")
def pair(model):
    return model.seed_latents([1, 2]), model.seed_labels([1, 2])


@pytest.mark.parametrize("level,alpha", [(4, 1.0), (4, 0.4), (3, 1.0), (2, 1.0)])
def test_nothing_and_all_of_the_other_are_the_two_pictures(model, pair, level, alpha):
    latents, labels = pair
    alone = model.synthesize(latents, labels, level, alpha)
    for at in (2, 3, 4):
        first = synthesize_blend(model, latents, labels, NOTHING, at, level, alpha)
        torch.testing.assert_close(first, alone[:1], rtol=1e-4, atol=1e-5)
    if alpha == 1:
        second = synthesize_blend(model, latents, labels, ALL, 2, level, alpha)
        torch.testing.assert_close(second, alone[1:], rtol=1e-4, atol=1e-5)


def test_a_blend_is_that_of_the_maps_by_a_second_computation(model, pair):
    latents, labels = pair
    maps = dict(level_features(model, latents, labels, 3))[3]
    mixed = 0.7 * maps[0] + 0.3 * maps[1]
    generator = model.file.generator
    x = list(generator.blocks.values())[2](mixed[None])
    expected = list(generator.to_rgb.values())[2](x)
    blend = synthesize_blend(model, latents, labels, np.full((1, 1), 0.3, np.float32), 3, 4)
    torch.testing.assert_close(blend, expected, rtol=1e-4, atol=1e-5)


def test_a_mask_keeps_far_regions_as_they_are(model, pair):
    latents, labels = pair
    mask = np.zeros((16, 16), np.float32)
    mask[:, :4] = 1
    alone = model.synthesize(latents, labels)
    blend = synthesize_blend(model, latents, labels, mask, 4, 4)
    torch.testing.assert_close(blend[0, :, :, 6:], alone[0, :, :, 6:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(blend[0, :, :, :3], alone[1, :, :, :3], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(alone[0, :, :, :3], alone[1, :, :, :3], atol=1e-3)
