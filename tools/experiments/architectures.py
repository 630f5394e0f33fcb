"""The baseline pairs on small pictures: fully connected players, a convolutional G against a fully connected D, both
convolutional (the settings of the `fashion-` presets, narrower and shorter).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments import plots
from experiments.frame import Claim, Result, Row, Say, Settings
from experiments.pictures import load
from experiments.trial import Trial
from pggan.config.losses import OptimizerDefaults
from pggan.config.presets import configure
from pggan.config.resolution import PerResolution
from pggan.metrics.base import Batch, Setting
from pggan.metrics.swd import SWD
from pggan.networks.factory import build

SIDE, LEVEL = 32, 5
PRESETS = {
    "fashion-fc": "both fully connected", "fashion-mixed": "convolutional G, fully connected D",
    "fashion-dcgan": "both convolutional",
}  # fmt: skip
SHOWN = 8  # pictures a side of the samples that are plotted


@dataclass(frozen=True)
class Sizes:
    """`rate`: of both players; that of the presets is for fifty epochs. `judged`: pictures that SWD compares."""

    pictures: int = 2000
    width: int = 64
    batch: int = 32
    rate: float = 1e-3
    iterations: int = 600
    measures: int = 4
    judged: int = 256


QUICK = Sizes(pictures=100, width=16, batch=16, iterations=20, measures=2, judged=32)


def run(settings: Settings, say: Say) -> Result:
    sizes, seed = QUICK if settings.quick else Sizes(), settings.seeds[0]
    pictures = load(settings.data, SIDE, sizes.pictures)
    reals = pictures.images[: sizes.judged]
    # as many other reals: how near nothing but chance lets two sets come
    floor = distance(pictures.images[-sizes.judged :], reals)
    say(f"SWD x 1000 of reals against others of them: {floor:.1f}")
    rows: list[Row] = []
    for preset, told in PRESETS.items():
        width = {"fmap_base": sizes.width, "fmap_max": sizes.width}
        config = configure(preset, {"channels": 1, "batch": PerResolution(sizes.batch), **width})
        adam = OptimizerDefaults(lr=sizes.rate, betas=config.adam_betas or (0.5, 0.999))
        trial = Trial(
            *build(*config.networks(), seed=seed), config.loss, pictures.data(), latent_size=config.latent_size,
            level=LEVEL, batch=sizes.batch, seed=seed, optimizers=(adam, adam),
        )  # fmt: skip
        rows.append({"preset": preset, "players": told, **train(trial, reals, sizes)})
        say(f"{told}: SWD x 1000 {rows[-1]['swd'][-1]:.1f}")
    about = {"of": pictures.name, "floor": floor, "reals": tiled(reals), **vars(sizes)}
    return Result(rows, claims(rows, floor), about)


def train(trial: Trial, reals: NDArray[np.uint8], sizes: Sizes) -> Row:
    """`swd`: x 1000, by iterations; `samples`: grey values of a grid of generated pictures, row by row."""

    def fakes() -> NDArray[np.uint8]:
        images = trial.generate(sizes.judged, torch.Generator().manual_seed(0))
        return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()

    at, swd = trial.train(sizes.iterations, sizes.measures, lambda _: distance(fakes(), reals))
    return {"iterations": at, "swd": swd, "samples": tiled(fakes())}


def distance(fakes: NDArray[np.uint8], reals: NDArray[np.uint8]) -> float:
    """Sliced Wasserstein distance x 1000 of as many pictures, by the product's metric."""
    setting = Setting(reals.shape[-1], reals.shape[1])
    states = []
    for images in (fakes, reals):
        metric = SWD(setting)
        metric.feed(Batch(images, range(len(images)), setting))
        states.append(metric.end())
    return SWD(setting).result(*states)["swd"]


def tiled(images: NDArray[np.uint8]) -> list[list[int]]:
    """The first pictures (N, 1, R, R) as one, as many down as across."""
    side = min(SHOWN, int(len(images) ** 0.5))
    grid = images[: side * side, 0].reshape(side, side, SIDE, SIDE).transpose(0, 2, 1, 3)
    return grid.reshape(side * SIDE, side * SIDE).tolist()


def claims(rows: list[Row], floor: float) -> list[Claim]:
    best = {row["preset"].removeprefix("fashion-"): min(row["swd"]) for row in rows}
    told = ", ".join(f"{name} {value:.0f}" for name, value in best.items())
    return [
        Claim(
            "convolutional players make better pictures than fully connected ones",
            f"lowest SWD x 1000: {told}; reals among themselves {floor:.0f}",
            best["dcgan"] < best["fc"],
        )
    ]


def plot(result: Result) -> Figure:
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, len(result.rows) + 1, height_ratios=(1, 1))
    curves = figure.add_subplot(grid[0, :])
    for number, row in enumerate(result.rows):
        curves.plot(row["iterations"], row["swd"], "o-", color=plots.COLOURS[number], label=row["players"])
    curves.axhline(result.about["floor"], color="#999999", linestyle="--", linewidth=1, label="reals among themselves")
    plots.dress(curves, f"SWD x 1000, {result.about['of']}", "iterations", log="y")
    shown = [(row["players"], row["samples"]) for row in result.rows] + [("reals", result.about["reals"])]
    for number, (name, samples) in enumerate(shown):
        axes = figure.add_subplot(grid[1, number])
        axes.imshow(samples, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=8)
    return figure
