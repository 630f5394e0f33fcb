"""Refitted toRGB layers of lower levels: nearer to the finished picture, the finished picture itself unchanged."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from pggan.generation.level_colours import PICTURES, levels_to_refit, refit_colours
from pggan.generation.model import Model
from tests.helpers.model_files import model_file


def model(**options):
    return Model(model_file(**options), torch.device("cpu"))


def distance(tested, level, seeds):
    """Mean squared difference from the finished pictures, made smaller."""
    latents, labels = tested.seed_latents(seeds), tested.seed_labels(seeds)
    small = F.adaptive_avg_pool2d(tested.synthesize(latents, labels), 2**level)
    return float((tested.synthesize(latents, labels, level, 1.0) - small).square().mean())


def test_lower_levels_come_near_to_the_finished_picture():
    tested = model(labels=2)
    fitted, others = range(PICTURES), range(1000, 1040)
    before = {level: distance(tested, level, others) for level in (2, 3)}
    finished = tested.generate(fitted)
    shares = []
    refit_colours(tested, shares.append)
    for level in (2, 3):
        assert distance(tested, level, others) < 0.5 * before[level]
        assert distance(tested, level, fitted) <= 1.05 * distance(tested, level, others)
    np.testing.assert_array_equal(tested.generate(fitted), finished)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_large_networks_go_by_way_of_64x64():
    tested = model(resolution=128)
    finished = tested.generate(range(2))
    before = {level: distance(tested, level, range(500, 508)) for level in range(2, 7)}
    refit_colours(tested)
    for level in range(2, 7):
        assert distance(tested, level, range(500, 508)) < 0.7 * before[level], level
    np.testing.assert_array_equal(tested.generate(range(2)), finished)


def test_it_is_the_least_squares_solution():
    tested = model()
    refit_colours(tested)
    latents = tested.seed_latents(range(PICTURES))
    small = F.adaptive_avg_pool2d(tested.synthesize(latents), 4)
    residual = (tested.synthesize(latents, None, 2, 1.0) - small).mean((0, 2, 3))
    assert residual.abs().max() < 1e-4  # with a free bias the mean is exact


def test_what_the_finished_picture_uses_stays():
    assert list(levels_to_refit(model())) == [2, 3]
    assert list(levels_to_refit(model(alpha=0.5))) == [2]  # the level below is faded out yet
    assert list(levels_to_refit(model(resolution=4))) == []
    half_way = model(alpha=0.5)
    before = half_way.generate(range(3))
    refit_colours(half_way)
    np.testing.assert_array_equal(half_way.generate(range(3)), before)
