"""Benchmark of the sliced Wasserstein distance: pggan's implementation against the published NumPy one."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import click
import numpy as np

from benchmarks.measuring import as_json, machine, show

PATCHES, REPEATS, DIRECTIONS, BATCH, LOWEST = 128, 4, 128, 64, 16
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32)
COLUMNS = {
    "way": "way", "pictures": "pictures", "swd": "swd", "features": "features s", "distances": "distances s",
    "seconds": "seconds", "cpu": "CPU s", "peak_gb": "peak GiB", "times": "times faster", "times_cpu": "by CPU time",
}  # fmt: skip


@click.command("swd")
@click.option("--images", type=click.IntRange(16), default=16_384, show_default=True, help="Pictures on each side.")
@click.option("--resolution", type=click.Choice(["16", "32", "64", "128", "256"]), default="128", show_default=True)
@click.option(
    "--published", type=click.IntRange(0), default=2048, show_default=True,
    help="Pictures for the published implementation, which takes 12 GB for 16,384; 0: leave it out.",
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True)
@as_json
def command(images: int, resolution: str, published: int, device: str, as_json: bool) -> None:
    """Measure SWD, features and distances, against the published NumPy implementation on the same machine.

    If the published one runs on fewer pictures, its seconds are scaled: patches by the number, sorting by n log n.
    Goal: 5 times as fast on two cores. Peak: memory of the whole process, the pictures of both sides included. "by CPU
    time": the same ratio in processor time, which other programs do not change.
    """
    side, slow = int(resolution), min(published, images)
    reals, fakes = (random_images(images, side, seed) for seed in (0, 1))
    pggan_way(reals[:64], fakes[:64], device)  # warms up
    rows = [{"way": "pggan", "pictures": images, **pggan_way(reals, fakes, device)}]
    rows[0]["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if slow:
        figures = published_way(reals[:slow], fakes[:slow])
        ratio = images / slow
        sorting = ratio * math.log(images * PATCHES) / math.log(slow * PATCHES)
        whole = figures["features"] * ratio + figures["distances"] * sorting
        cpu = figures["features_cpu"] * ratio + figures["distances_cpu"] * sorting
        row = {"way": "published", "pictures": slow, **figures}
        if slow < images:
            row["way"] = f"published, scaled to {images}"
        times, times_cpu = whole / rows[0]["seconds"], cpu / rows[0]["cpu"]
        rows.append({**row, "seconds": whole, "cpu": cpu, "times": times, "times_cpu": times_cpu})
    show({"machine": machine(), "resolution": side, "device": device, "rows": rows}, "rows", COLUMNS, as_json)


def random_images(count: int, side: int, seed: int) -> np.ndarray:
    """Returns smooth noise, uint8 (N, 3, side, side): the time does not depend on what images show."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 128, (count, 3, side // 4, side // 4), np.uint8)
    images = coarse.repeat(4, 2).repeat(4, 3)
    images += rng.integers(0, 32, (count, 1, side, side), np.uint8)
    return images


def pggan_way(reals: np.ndarray, fakes: np.ndarray, device: str) -> dict[str, Any]:
    """Runs and times pggan's implementation."""
    import torch

    from pggan.metrics.base import Batch, Setting
    from pggan.metrics.swd import SWD

    metric = SWD(Setting(reals.shape[-1], 3, 0, torch.device(device)))

    def features() -> list[Any]:
        states = []
        for images in (reals, fakes):
            metric.begin(len(images))
            for start in range(0, len(images), BATCH):
                part = images[start : start + BATCH]
                metric.feed(Batch(part, range(start, start + len(part)), metric.setting))
            states.append(metric.end())
        return states

    with torch.inference_mode():
        return _timed(features, lambda states: metric.result(states[1], states[0])["swd"])


def published_way(reals: np.ndarray, fakes: np.ndarray) -> dict[str, Any]:
    """Runs and times one minibatch and one set of directions at a time, as the release does."""
    rng = np.random.RandomState(0)

    def features() -> list[list[np.ndarray]]:
        return [descriptors(images, rng) for images in (reals, fakes)]

    def distance(levels: list[list[np.ndarray]]) -> float:
        return float(np.mean([sorted_distance(a, b, rng) for a, b in zip(*levels)]) * 1e3)

    return _timed(features, distance)


def _timed(features: Callable[[], Any], distance: Callable[[Any], float]) -> dict[str, Any]:
    """Runs both parts; returns the distance, and the wall and processor seconds of each."""
    marks = [(time.perf_counter(), time.process_time())]
    states = features()
    marks.append((time.perf_counter(), time.process_time()))
    value = distance(states)
    marks.append((time.perf_counter(), time.process_time()))
    (a, b), (c, d) = ([after[clock] - before[clock] for before, after in pairwise(marks)] for clock in (0, 1))
    return {
        "swd": value, "features": a, "distances": b, "seconds": a + b, "features_cpu": c, "distances_cpu": d,
        "cpu": c + d,
    }  # fmt: skip


def descriptors(images: np.ndarray, rng: np.random.RandomState) -> list[np.ndarray]:
    """Returns normalised patches (N x 128, 147) of every level."""
    levels: list[list[np.ndarray]] = []
    for start in range(0, len(images), BATCH):
        parts = [patches(level, rng) for level in pyramid(images[start : start + BATCH])]
        levels = levels or [[] for _ in parts]
        for level, part in zip(levels, parts):
            level.append(part)
    normalised = []
    for level in levels:
        joined = np.concatenate(level)
        level.clear()
        joined -= joined.mean(axis=(0, 2, 3), keepdims=True)
        joined /= joined.std(axis=(0, 2, 3), keepdims=True)
        normalised.append(joined.reshape(len(joined), -1))
    return normalised


def pyramid(images: np.ndarray) -> list[np.ndarray]:
    """Returns the levels of a Laplacian pyramid, the largest first."""
    kernel = np.outer(BINOMIAL, BINOMIAL) / 256
    levels = [images.astype(np.float32)]
    while levels[-1].shape[-1] > LOWEST:
        smaller = convolve_mirrored(levels[-1], kernel)[:, :, ::2, ::2]
        spread = np.zeros_like(levels[-1])
        spread[:, :, ::2, ::2] = smaller
        levels[-1] = levels[-1] - convolve_mirrored(spread, kernel * 4)
        levels.append(smaller)
    return levels


def convolve_mirrored(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Applies a 5x5 filter with mirrored borders, by SciPy where it is installed, as the release does."""
    try:
        from scipy.ndimage import convolve

        return convolve(images, kernel[None, None], mode="mirror")
    except ImportError:
        padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
        out = np.zeros_like(images)
        height, width = images.shape[2:]
        for i in range(5):
            for j in range(5):
                out += padded[:, :, i : i + height, j : j + width] * kernel[i, j]
        return out


def patches(level: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Cuts 128 random 7x7 patches out of each image of a level, as the release does."""
    n, channels, side, _ = level.shape
    count = n * PATCHES
    image, channel, x, y = np.ogrid[0:count, 0:channels, -3:4, -3:4]
    image = image // PATCHES
    x = x + rng.randint(3, side - 3, size=(count, 1, 1, 1))
    y = y + rng.randint(3, side - 3, size=(count, 1, 1, 1))
    return level[image, channel, y, x]


def sorted_distance(a: np.ndarray, b: np.ndarray, rng: np.random.RandomState) -> float:
    """Returns the sliced Wasserstein distance of descriptors along 4 x 128 random directions."""
    results = []
    for _ in range(REPEATS):
        directions = rng.randn(a.shape[1], DIRECTIONS)
        directions = (directions / np.sqrt((directions**2).sum(axis=0))).astype(np.float32)
        x, y = np.sort(a @ directions, axis=0), np.sort(b @ directions, axis=0)
        results.append(np.abs(x - y).mean())
    return float(np.mean(results))
