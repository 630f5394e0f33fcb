"""SWD and MS-SSIM against numbers that the release's own code computed (tests/fixtures/metrics)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pggan.metrics.base import Batch, Setting
from pggan.metrics.laplacian import laplacian_pyramid
from pggan.metrics.ms_ssim import MSSSIM, ms_ssim
from pggan.metrics.swd import (
    SWD,
    ProjectionBuffers,
    _distances_on_cpu,
    _distances_on_gpu,
    channel_statistics,
    cut_patches,
    sliced_wasserstein,
)
from pggan.utils.errors import UsageError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "metrics"
SIDES = (64, 32, 16)


@pytest.fixture(scope="module")
def known():
    return np.load(FIXTURES / "published.npz")


@pytest.fixture(scope="module")
def images():
    return np.load(FIXTURES / "images.npz")


def state(metric, images, size=None):
    metric.begin(len(images))
    size = size or len(images)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        metric.feed(Batch(part, range(start, start + len(part)), metric.setting))
    return metric.end()


def normalise(descriptors, channels):
    """Each channel at mean 0 and deviation 1, which `sliced_wasserstein` folds into the directions."""
    mean, std = channel_statistics(descriptors, channels)
    values = descriptors.reshape(len(descriptors), channels, -1).double()
    return ((values - mean[:, None]) / std[:, None]).float().flatten(1)


@pytest.mark.parametrize("name", ["A", "B"])
def test_laplacian_pyramids_are_those_of_the_release(known, images, name):
    levels = laplacian_pyramid(torch.tensor(images[name]).float())
    assert list(levels) == list(SIDES)
    for side, level in levels.items():
        np.testing.assert_allclose(level[:2], known[f"pyramid/{name}/{side}/first2"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(level.double().mean((0, 2, 3)), known[f"pyramid/{name}/{side}/mean"], atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_patches_and_their_normalisation_are_those_of_the_release(known, images, side):
    level = laplacian_pyramid(torch.tensor(images["A"]).float())[side]
    places = np.stack([known[f"desc/A/{side}/{axis}"] for axis in "xy"], -1).astype(np.int64)
    descriptors = cut_patches(level, torch.tensor(places).reshape(64, 128, 2)).flatten(0, 1)
    mean, std = channel_statistics(descriptors, 3)
    np.testing.assert_allclose(mean, known[f"desc/A/{side}/mean"], atol=1e-5)
    np.testing.assert_allclose(std, known[f"desc/A/{side}/std"], atol=1e-5)
    final = normalise(descriptors, 3)
    assert final.shape == tuple(known[f"desc/A/{side}/final_shape"])
    np.testing.assert_allclose(final[:8], known[f"desc/A/{side}/final_first8"], rtol=0, atol=2e-5)
    assert float(final.double().abs().mean()) == pytest.approx(float(known[f"desc/A/{side}/final_mean_abs"]), abs=2e-5)


def test_the_distance_along_known_directions_is_that_of_the_release(known):
    # the fixture's descriptors are not normalised again: shift and scale them so that our normalisation undoes itself
    a, b = (torch.tensor(known[f"sw_fixed/{name}"]) for name in "AB")
    directions = torch.tensor(known["sw_fixed/dirs"]).permute(1, 0, 2).reshape(147, 128)
    plain = [(rows.double() @ directions.double()).sort(dim=0).values for rows in (a, b)]
    assert float((plain[0] - plain[1]).abs().mean()) == pytest.approx(float(known["sw_fixed/value"]), abs=1e-5)
    ours = sliced_wasserstein(a, b, directions, 3)
    expected = [(normalise(rows, 3).double() @ directions.double()).sort(dim=0).values for rows in (a, b)]
    np.testing.assert_allclose(ours, (expected[0] - expected[1]).abs().mean(0), atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_distances_on_cpu_and_gpu_are_those_of_sorting_in_float64(threads):
    generator = torch.Generator().manual_seed(0)
    sets = [torch.randn(5000, 49, generator=generator) * scale for scale in (1, 2)]  # more than one chunk
    weights = [torch.randn(150, 49, generator=generator) for _ in sets]  # not a whole number of groups
    shifts = torch.randn(150, generator=generator)
    x, y = ((rows.double() @ weight.T.double()).sort(dim=0).values for rows, weight in zip(sets, weights))
    expected = (x + shifts.double() - y).abs().mean(0)
    as_numpy = [rows.numpy() for rows in sets], [weight.numpy() for weight in weights], shifts.numpy()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        distances = _distances_on_cpu(*as_numpy, ProjectionBuffers(5000))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(distances, expected, rtol=2e-6)
    np.testing.assert_allclose(_distances_on_gpu(sets, weights, shifts), expected, rtol=2e-6)


@pytest.mark.long
def test_swd_and_its_error_are_within_the_spread_of_the_releases_seeds(known, images):
    values, errors = [], []
    for seed in (0, 1):
        metric = SWD(Setting(64, 3, seed))
        reals, fakes = state(metric, images["A"], 64), state(metric, images["B"], 24)
        figures = metric.result(fakes, reals)
        values.append([figures[key] for key in ("swd_64", "swd_32", "swd_16", "swd")])
        errors.append([figures[f"{key}_std"] for key in ("swd_64", "swd_32", "swd_16", "swd")])
    rows = known["swd_AB_default"]
    assert (np.abs(np.array(values) - rows.mean(0)) < 4 * rows.std(0)).all()
    # the standard error is the spread of the release's ten seeds
    np.testing.assert_allclose(np.mean(errors, 0), rows.std(0), rtol=0.35)


@pytest.mark.long
def test_swd_of_equal_images_is_zero_with_equal_patches_and_small_with_others(known, images):
    metric = SWD(Setting(64, 3))
    reals = state(metric, images["A"])
    assert metric.result(reals, reals)["swd"] == 0
    metric.begin(64)  # the same images by other numbers: other patches of them
    metric.feed(Batch(images["A"], range(100, 164), metric.setting))
    floor = known["swd_AAprime_default"]
    assert abs(metric.result(metric.end(), reals)["swd"] - floor[:, 3].mean()) < 4 * floor[:, 3].std()


@pytest.mark.long
def test_swd_does_not_depend_on_batches_and_processes(images):
    metric = SWD(Setting(64, 3))
    some = images["A"][:32]
    whole = state(metric, some)
    parts = []
    for rank in (1, 0):
        numbers = [number for number in range(32) if number // 2 % 2 == rank]
        metric.begin(16)
        metric.feed(Batch(some[numbers], numbers, metric.setting))
        parts.append(metric.end())
    merged = metric.merge(parts)
    reals = state(metric, images["B"][:32])
    one, other = metric.result(whole, reals), metric.result(merged, reals)
    assert one == pytest.approx(other, rel=1e-6)


def test_swd_of_constant_grey_images_is_finite_and_large(images):
    metric = SWD(Setting(64, 1))
    grey = images["A"][:8, :1]
    figures = metric.result(state(metric, np.zeros_like(grey)), state(metric, grey))
    assert np.isfinite(list(figures.values())).all()
    assert figures["swd"] > 100


@pytest.mark.long
@pytest.mark.parametrize("name", ["A", "B"])
def test_ms_ssim_of_pairs_is_that_of_the_release(known, images, name):
    pairs = ms_ssim(torch.tensor(images[name][0::2]), torch.tensor(images[name][1::2]))
    np.testing.assert_allclose(pairs, known[f"msssim/{name}/pairs"], atol=1e-5)
    metric = MSSSIM(Setting(64, 3))
    for size in (64, 15):  # an odd batch size splits a pair
        figures = metric.result(state(metric, images[name], size), {})
        assert figures["msssim"] == pytest.approx(float(known[f"msssim/{name}/api"]), abs=1e-5)


def test_ms_ssim_of_similar_images_is_that_of_the_release(known, images):
    noisy, plain = known["msssim/close/noisy_A"], images["A"][:16]
    close = ms_ssim(torch.tensor(noisy), torch.tensor(plain))
    assert float(close.double().mean()) == pytest.approx(float(known["msssim/close/value"]), abs=1e-5)
    assert float(ms_ssim(torch.tensor(plain), torch.tensor(plain)).min()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("metric", [SWD, MSSSIM])
def test_images_below_16x16_are_refused(metric):
    with pytest.raises(UsageError, match="needs pictures of 16x16 at least, not 8: leave"):
        metric(Setting(8, 3))
