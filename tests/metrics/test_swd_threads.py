"""Two sets of numbers compared in their own orders: by sorting, by counting."""

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


def sorted_way(x, y, apart):
    return np.abs(np.sort(x.astype(np.float64)) + apart - np.sort(y.astype(np.float64))).mean()


def pair(shape, count, scale=1.05, seed=0):
    random = np.random.default_rng(seed)
    return SHAPES[shape](random, count).astype(np.float32), (SHAPES[shape](random, count) * scale).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("apart", [0.0, 0.02, -7.0])
def test_counting_is_sorting(shape, apart, monkeypatch):
    x, y = pair(shape, HISTOGRAM_FROM + 12_345)
    expected = sorted_way(x, y, apart)
    assert wasserstein_1d(x.copy(), y.copy(), apart) == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(module, "HISTOGRAM_FROM", len(x) + 1)  # sorting alone is exact
    assert wasserstein_1d(x, y, apart) == pytest.approx(expected, rel=2e-6)


def test_near_equal_sets_are_counted_as_well():
    x, y = pair("normal", HISTOGRAM_FROM, scale=1.0)
    expected = sorted_way(x, y, 0.0)
    assert expected < 0.01
    assert wasserstein_1d(x, y, 0.0) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("case", ["spike", "outlier", "constant", "equal"])
def test_what_bins_are_too_coarse_for_is_sorted(case):
    x, y = pair("normal", HISTOGRAM_FROM)
    if case == "spike":  # flat areas: half of all numbers are the same
        x[::2], y[::2] = 0.25, 0.25
    elif case == "outlier":
        x[0] = 1e6
    elif case == "constant":
        x[:], y[:] = 3.0, 3.0
    else:
        y = x.copy()
    assert wasserstein_1d(x.copy(), y.copy(), 0.0) == pytest.approx(sorted_way(x, y, 0.0), rel=2e-6, abs=1e-9)


def test_threads_leave_torch_as_it_was():
    before = torch.get_num_threads()
    found = []
    with single_core_threads(3) as pool:
        list(pool.map(lambda _: found.append(torch.get_num_threads()), range(6)))
    assert set(found) == {1}
    assert torch.get_num_threads() == before
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found[-1] == before
