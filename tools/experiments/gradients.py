"""Gradient norm of G's loss while D alone is trained: figures 2 and 3 of Arjovsky and Bottou 2017, with their remedy.

G is trained a little first, then frozen; a new D learns to tell its pictures, and every so often the gradient that G
would get is measured on several minibatches.
"""

from __future__ import annotations

import copy
import statistics
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import nn

from experiments import plots
from experiments.frame import Claim, Result, Row, Say, Settings
from experiments.pictures import SIDE, Pictures, fc_players, load
from experiments.trial import Trial, d_total, norm
from pggan.config.losses import OptimizerDefaults

# Deviation of the noise; pictures are in [-1, 1].
SIGMA = 1.0
CURVES: dict[str, tuple[str, dict[str, float]]] = {
    "saturating": ("gan-saturating", {}),
    "non-saturating": ("gan", {}),
    "wgan-gp": ("wgan-gp", {}),
    "saturating, noise": ("gan-saturating", {"instance_noise": SIGMA, "instance_noise_kimg": 1e9}),
    "non-saturating, noise": ("gan", {"instance_noise": SIGMA, "instance_noise_kimg": 1e9}),
}


@dataclass(frozen=True)
class Sizes:
    """`warm`: iterations of both players before G is frozen, one stage each; `steps`: of the new D."""

    pictures: int = 3000
    width: int = 128
    warm: tuple[int, ...] = (50, 600)
    steps: int = 1000
    measures: int = 14
    batches: int = 8


QUICK = Sizes(pictures=200, width=48, warm=(20,), steps=180, measures=6, batches=3)


def run(settings: Settings, say: Say) -> Result:
    sizes, seed = QUICK if settings.quick else Sizes(), settings.seeds[0]
    pictures = load(settings.data, SIDE, sizes.pictures)
    rows: list[Row] = []
    for warm in sizes.warm:
        generator = _warmed(pictures, sizes, warm, seed)
        for name, (loss, options) in CURVES.items():
            row = {"curve": name, "g_iterations": warm}
            rows.append({**row, **_watched(pictures, generator, loss, options, sizes, seed)})
            first, last = rows[-1]["norm"][0], rows[-1]["norm"][-1]
            say(f"G of {warm} iterations, {name}: d {rows[-1]['d'][-1]:.2g}, gradient norm {first:.2g} to {last:.2g}")
    return Result(rows, claims(rows), {"of": pictures.name, "sigma": SIGMA, **vars(sizes)})


def _warmed(pictures: Pictures, sizes: Sizes, iterations: int, seed: int) -> nn.Module:
    """A generator after some iterations of the default loss."""
    trial = pictures.trial(fc_players(sizes.width, seed), "wgan-gp", seed=seed)
    for _ in range(iterations):
        trial.iterate()
    return trial.generator


def _watched(
    pictures: Pictures, generator: nn.Module, loss: str, options: dict[str, float], sizes: Sizes, seed: int
) -> Row:
    """Trains a new D; numbers by its iterations. `norm`, `spread`: mean and deviation over minibatches; `d`: without
    penalties.
    """
    players = copy.deepcopy(generator), fc_players(sizes.width, seed + 1)[1]
    trial = pictures.trial(players, loss, seed=seed, options=options, optimizers=2 * (OptimizerDefaults(lr=5e-4),))
    at = sorted({round(sizes.steps ** (n / (sizes.measures - 1))) for n in range(sizes.measures)} | {0})
    found: Row = {"steps": at, "norm": [], "spread": [], "d": []}
    for step in range(sizes.steps + 1):
        if step in at:
            each = random_norms(trial, sizes.batches)
            found["norm"].append(statistics.fmean(each))
            found["spread"].append(statistics.stdev(each))
            found["d"].append(_d(trial, sizes.batches))
        if step < sizes.steps:
            trial.d_step()
    return found


def random_norms(trial: Trial, batches: int) -> list[float]:
    """Norms of G's gradient on minibatches that are the same at every call."""
    random = torch.Generator().manual_seed(999)
    return [norm(trial.g_gradient(trial.draw(random=random))[0]) for _ in range(batches)]


def _d(trial: Trial, batches: int) -> float:
    random = torch.Generator().manual_seed(998)
    terms = (trial.d_gradient(trial.draw(random=random))[1] for _ in range(batches))
    return statistics.fmean(d_total(each.losses) for each in terms)


def claims(rows: list[Row]) -> list[Claim]:
    """Of the generator that was trained longest."""
    longest = max(row["g_iterations"] for row in rows)
    of = {row["curve"]: row for row in rows if row["g_iterations"] == longest}

    def change(name: str, key: str = "norm") -> float:
        # from where D tells something, not from chance
        start = next(n for n, step in enumerate(of[name]["steps"]) if step >= 10)
        return of[name][key][-1] / of[name][key][start]

    plain, noisy = (of[name]["d"][-1] for name in ("saturating", "saturating, noise"))
    fell, grew, spread = change("saturating"), change("non-saturating"), change("non-saturating", "spread")
    steady = [of["wgan-gp"]["norm"][n] for n, step in enumerate(of["wgan-gp"]["steps"]) if step >= 10]
    held = change("saturating, noise")
    return [
        Claim(
            "saturating: G's gradient vanishes, by orders of magnitude, as D nears its optimum",
            f"norm x {fell:.2g}; d {plain:.2g}",
            fell < 0.1,
        ),
        Claim(
            "non-saturating: the norm grows, and its variance with it",
            f"norm x {grew:.2g}, deviation over minibatches x {spread:.2g}",
            grew > 1 and spread > 1,
        ),
        Claim(
            "WGAN-GP: stays of the same order",
            f"largest norm / smallest {max(steady) / min(steady):.2g}",
            max(steady) / min(steady) < 10,
        ),
        Claim(
            f"instance noise ({SIGMA:g}): the optimal D's d no longer reaches 0, G's gradient no longer vanishes",
            f"d {noisy:.2g} against {plain:.2g}; saturating norm x {held:.2g} against x {fell:.2g}",
            noisy > 10 * plain and held > 3 * fell,
        ),
    ]


def plot(result: Result) -> Figure:
    stages = sorted({row["g_iterations"] for row in result.rows})
    figure, panels = plots.panels(len(stages))
    for warm, (norms, losses) in zip(stages, panels):
        for number, row in enumerate(each for each in result.rows if each["g_iterations"] == warm):
            steps = [max(step, 0.7) for step in row["steps"]]
            low = [max(a - b, a / 10) for a, b in zip(row["norm"], row["spread"])]
            high = [a + b for a, b in zip(row["norm"], row["spread"])]
            norms.plot(steps, row["norm"], color=plots.COLOURS[number], label=row["curve"])
            norms.fill_between(steps, low, high, color=plots.COLOURS[number], alpha=0.15, linewidth=0)
            if row["curve"].startswith("saturating"):
                label = row["curve"].replace("saturating", "both")
                losses.plot(steps, row["d"], color=plots.COLOURS[number], label=label)
        plots.dress(norms, f"gradient norm of g, G of {warm} iterations", "iterations of D", log="xy")
        plots.dress(losses, "d of the cross-entropy losses", "iterations of D", log="xy")
    return figure
