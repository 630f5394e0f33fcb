"""Modes found of a ring of eight Gaussians, by loss and by what lets D see that samples are alike.

A mode counts as found where it has at least a quarter of its share of the samples, all of high quality: within three
deviations of its centre.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments import plots
from experiments.frame import Claim, Result, Row, Say, Settings
from experiments.points import LATENT, PointDiscriminator, PointGenerator
from experiments.trial import Trial
from pggan.config.losses import OBJECTIVES, OptimizerDefaults
from pggan.config.registry import Registry

MODES, RADIUS, DEVIATION = 8, 1.0, 0.05
SAMPLES = 2000
Optimizers = tuple[OptimizerDefaults, OptimizerDefaults]
# G's and D's, of every loss but `wgan`: fast, for a short training, with D ahead of G.
ADAM: Optimizers = (OptimizerDefaults(lr=3e-3, betas=(0.5, 0.9)), OptimizerDefaults(lr=5e-3, betas=(0.5, 0.9)))
RMSPROP = OptimizerDefaults("rmsprop", 1e-3)
# Penalties as the papers choose them for points, which are nearer to each other than pictures; so is the clip, since
# small networks with weights of 0.01 are all but flat.
SPECIAL: dict[str, tuple[dict[str, Any], Optimizers]] = {
    "wgan-gp": ({"gp_weight": 0.1}, ADAM),
    "wgan": ({"clip": 0.1}, (RMSPROP, RMSPROP)),
    "r1": ({"r1_gamma": 0.1}, ADAM),
    "began": ({"began_lambda_k": 0.01}, ADAM),
}
TECHNIQUES = ("none", "stddev", "discrimination")
# Losses that the techniques are tried with: the default and the one that collapses most readily.
TRIED = ("wgan-gp", "gan")


@dataclass(frozen=True)
class Sizes:
    """`iterations` of G, of which the last third is judged at `measures` moments in all."""

    width: int = 64
    batch: int = 128
    iterations: int = 2000
    measures: int = 12


QUICK = Sizes(width=24, batch=32, iterations=60, measures=3)


class Seen(NamedTuple):
    modes: int
    quality: float


def run(settings: Settings, say: Say) -> Result:
    sizes = QUICK if settings.quick else Sizes()
    rows: list[Row] = []
    for loss, diversity in combinations():
        for seed in settings.seeds:
            rows.append({"loss": loss, "diversity": diversity, "seed": seed, **train(loss, diversity, seed, sizes)})
        own = rows[-len(settings.seeds) :]
        found = ", ".join(f"{row['modes']:.1f}" for row in own)
        say(f"{loss}, {diversity}: modes {found}; quality {_mean(own, 'quality'):.2f}")
    return Result(rows, claims(rows), vars(sizes))


def combinations() -> list[tuple[str, str]]:
    losses: Registry[Any] = OBJECTIVES
    return [(spec.name, "none") for spec in losses] + [(loss, each) for loss in TRIED for each in TECHNIQUES[1:]]


def train(loss: str, diversity: str, seed: int, sizes: Sizes) -> Row:
    """`history`: modes and quality by iterations; `modes`, `quality`: means over its last third."""
    options, optimizers = SPECIAL.get(loss, ({}, ADAM))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = PointGenerator(sizes.width)
        discriminator = PointDiscriminator(sizes.width, diversity, "reconstruction" in OBJECTIVES[loss].needs)
    trial = Trial(
        generator, discriminator, loss, ring, latent_size=LATENT, batch=sizes.batch, seed=seed, options=options,
        optimizers=optimizers,
    )  # fmt: skip

    def points(iteration: int) -> Tensor:
        return trial.generate(SAMPLES, torch.Generator().manual_seed(iteration)).flatten(1)

    at, seen = trial.train(sizes.iterations, sizes.measures, lambda iteration: judge(points(iteration)))
    last = seen[-max(1, len(seen) // 3) :]
    return {
        "modes": statistics.fmean(each.modes for each in last),
        "quality": statistics.fmean(each.quality for each in last),
        "history": {"iterations": at, "modes": [s.modes for s in seen], "quality": [s.quality for s in seen]},
        "points": [[round(v, 3) for v in point] for point in points(at[-1])[:300].tolist()],
    }


def centres() -> Tensor:
    """(8, 2)."""
    angle = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)


def ring(count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    at = torch.randint(MODES, (count,), generator=random)
    points = centres()[at] + DEVIATION * torch.randn(count, 2, generator=random)
    return points[:, :, None, None], torch.zeros(count, 0)


def judge(points: Tensor) -> Seen:
    """Modes found and the share of high quality among points (N, 2)."""
    distance, nearest = torch.cdist(points, centres()).min(dim=1)
    good = nearest[distance < 3 * DEVIATION]
    counts = torch.bincount(good, minlength=MODES)
    return Seen(int((counts >= len(points) / MODES / 4).sum()), len(good) / len(points))


def claims(rows: list[Row]) -> list[Claim]:
    def of(loss: str, diversity: str = "none") -> float:
        return _mean([row for row in rows if (row["loss"], row["diversity"]) == (loss, diversity)], "modes")

    losses = {loss: of(loss) for loss in OBJECTIVES.names()}
    told = ", ".join(f"{loss} {modes:.1f}" for loss, modes in losses.items())
    found = [
        Claim(
            "the Wasserstein critic with penalty finds more of 8 modes than the minimax and non-saturating losses",
            told,
            max(losses["gan"], losses["gan-saturating"]) < losses["wgan-gp"],
        )
    ]
    for loss in TRIED:
        each = {name: of(loss, name) for name in TECHNIQUES}
        found.append(
            Claim(
                f"{loss}: minibatch stddev and minibatch discrimination find no fewer modes than none",
                ", ".join(f"{name} {modes:.1f}" for name, modes in each.items()),
                min(each["stddev"], each["discrimination"]) >= each["none"],
            )
        )
    return found


def _mean(rows: list[Row], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def plot(result: Result) -> Figure:
    """Modes by combination, and points of each combination's first seed."""
    names = list(dict.fromkeys((row["loss"], row["diversity"]) for row in result.rows))
    rows = [[r for r in result.rows if (r["loss"], r["diversity"]) == name] for name in names]
    columns = 5
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(11, 3 + 2.2 * lines), layout="constrained")
    grid = figure.add_gridspec(lines + 2, columns)
    bars = figure.add_subplot(grid[:2, :])
    labels = [loss if diversity == "none" else f"{loss}\n{diversity}" for loss, diversity in names]
    bars.bar(labels, [_mean(each, "modes") for each in rows], color=plots.COLOURS[0], label="modes, mean of seeds")
    for number, each in enumerate(rows):
        bars.plot([number] * len(each), [row["modes"] for row in each], "k.", markersize=4)
        bars.plot(number, 8 * _mean(each, "quality"), "_", color=plots.COLOURS[1], markersize=16, markeredgewidth=2)
    bars.plot([], [], "_", color=plots.COLOURS[1], label="share of high quality, 8 is all")
    plots.dress(bars, "modes of the ring that were found (points: seeds)", "")
    bars.legend(fontsize=7, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.75, 1.0))
    for number, each in enumerate(rows):
        axes = figure.add_subplot(grid[2 + number // columns, number % columns])
        axes.plot(*centres().T.tolist(), "o", color="#dddddd", markersize=9)
        axes.plot(*zip(*each[0]["points"]), ".", color=plots.COLOURS[0], markersize=2)
        axes.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), xticks=[], yticks=[], aspect="equal")
        axes.set_title(labels[number].replace("\n", ", "), fontsize=8)
    return figure
