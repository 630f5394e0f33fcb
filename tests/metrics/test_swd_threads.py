"""One-dimensional Wasserstein distances by sorting and by histograms; single-core threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from pggan.metrics import swd_threads as module
from pggan.metrics.swd_threads import HISTOGRAM_FROM, single_core_threads, wasserstein_1d

SHAPES = {
    "normal": lambda random, n: random.standard_normal(n),
    "heavy tails": lambda random, n: random.standard_t(4, n),
    "uniform": lambda random, n: random.uniform(-1, 3, n),
    "far from zero": lambda random, n: 50 + random.standard_normal(n),
}


def by_sorting(x, y, shift):
    return np.abs(np.sort(x.astype(np.float64)) + shift - np.sort(y.astype(np.float64))).mean()


def pair(shape, count, scale=1.05, seed=0):
    random = np.random.default_rng(seed)
    return SHAPES[shape](random, count).astype(np.float32), (SHAPES[shape](random, count) * scale).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", [0.0, 0.02, -7.0])
def test_histograms_give_the_distance_of_sorting(shape, shift, monkeypatch):
    x, y = pair(shape, HISTOGRAM_FROM + 12_345)
    expected = by_sorting(x, y, shift)
    assert wasserstein_1d(x.copy(), y.copy(), shift) == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(module, "HISTOGRAM_FROM", len(x) + 1)  # sorting alone is exact
    assert wasserstein_1d(x, y, shift) == pytest.approx(expected, rel=2e-6)


def test_nearly_equal_sets_are_compared_by_histograms_too():
    x, y = pair("normal", HISTOGRAM_FROM, scale=1.0)
    expected = by_sorting(x, y, 0.0)
    assert expected < 0.01
    assert wasserstein_1d(x, y, 0.0) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("case", ["spike", "outlier", "constant", "equal"])
def test_numbers_for_which_bins_are_too_coarse_are_sorted(case):
    x, y = pair("normal", HISTOGRAM_FROM)
    if case == "spike":  # flat areas: half of all numbers are the same
        x[::2], y[::2] = 0.25, 0.25
    elif case == "outlier":
        x[0] = 1e6
    elif case == "constant":
        x[:], y[:] = 3.0, 3.0
    else:
        y = x.copy()
    assert wasserstein_1d(x.copy(), y.copy(), 0.0) == pytest.approx(by_sorting(x, y, 0.0), rel=2e-6, abs=1e-9)


def test_threads_use_one_core_and_leave_the_setting_of_torch_unchanged():
    before = torch.get_num_threads()
    counts = []
    with single_core_threads(3) as pool:
        list(pool.map(lambda _: counts.append(torch.get_num_threads()), range(6)))
    assert set(counts) == {1}
    assert torch.get_num_threads() == before
    later = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert counts[-1] == before
