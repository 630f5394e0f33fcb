"""Two parallel lines as supports (example 1 of Arjovsky et al. 2017): what each discriminator says of their distance.

Reals are (0, u), fakes (distance, u), u uniform in [0, 1]; a new D is trained for each distance. log 2 - d/2 estimates
the Jensen-Shannon divergence from the cross-entropy's d, E D(x) - E D(G(z)) the Wasserstein distance, which is the
distance of the lines.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments import plots
from experiments.frame import Claim, Result, Row, Say, Settings
from experiments.points import PointDiscriminator
from experiments.trial import Trial, d_total
from pggan.config.losses import OptimizerDefaults

DISTANCES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.0)
LOG2 = math.log(2)


@dataclass(frozen=True)
class Sizes:
    width: int = 64
    batch: int = 128
    steps: int = 500


QUICK = Sizes(width=32, batch=64, steps=200)


class Line(nn.Module):
    """A generator that has nothing to learn: latents (N, 1) to points (distance, u), u the latent's rank."""

    def __init__(self, distance: float) -> None:
        super().__init__()
        self.distance = nn.Parameter(torch.tensor(distance))

    def forward(
        self, latents: Tensor, level: int, alpha: Tensor, labels: Tensor, dtype: torch.dtype | None = None
    ) -> Tensor:
        u = torch.special.ndtr(latents[:, 0])
        return torch.stack([self.distance.expand_as(u), u], dim=1)[:, :, None, None]


def reals(count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    u = torch.rand(count, generator=random)
    return torch.stack([torch.zeros(count), u], dim=1)[:, :, None, None], torch.zeros(count, 0)


def run(settings: Settings, say: Say) -> Result:
    sizes = QUICK if settings.quick else Sizes()
    rows: list[Row] = []
    for distance in DISTANCES:
        d, w = (trained(loss, distance, settings.seeds[0], sizes) for loss in ("gan", "wgan-gp"))
        rows.append({"distance": distance, "jensen_shannon": LOG2 - d / 2, "critic": -w})
        say(f"distance {distance:g}: Jensen-Shannon {rows[-1]['jensen_shannon']:.3f}, critic {rows[-1]['critic']:.3f}")
    return Result(rows, claims(rows), vars(sizes))


def trained(loss: str, distance: float, seed: int, sizes: Sizes) -> float:
    """d without penalties after the steps, mean of 20 minibatches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        discriminator = PointDiscriminator(sizes.width)
    trial = Trial(
        Line(distance), discriminator, loss, reals, latent_size=1, batch=sizes.batch, seed=seed,
        optimizers=2 * (OptimizerDefaults(lr=2e-3, betas=(0.5, 0.9)),),
    )  # fmt: skip
    for _ in range(sizes.steps):
        trial.d_step()
    return statistics.fmean(d_total(trial.d_gradient(trial.draw())[1].losses) for _ in range(20))


def claims(rows: list[Row]) -> list[Claim]:
    apart = [row for row in rows if row["distance"] > 0]
    low, high = (pick(row["jensen_shannon"] for row in apart) for pick in (min, max))
    together = next(row for row in rows if row["distance"] == 0)
    critics = [row["critic"] for row in rows]
    worst = max(abs(row["critic"] - row["distance"]) for row in rows)
    return [
        Claim(
            "Jensen-Shannon: log 2 = 0.693 for disjoint supports, whatever their distance; 0 where they meet",
            f"{low:.3f} to {high:.3f} at distances {apart[-1]['distance']:g} to {apart[0]['distance']:g}, "
            f"{together['jensen_shannon']:.3f} at 0",
            low > 0.9 * LOG2 and high <= LOG2 and abs(together["jensen_shannon"]) < 0.05,
        ),
        Claim(
            "the WGAN-GP critic's estimate falls with the distance, which it is",
            f"{critics[0]:.2f} at {rows[0]['distance']:g} to {critics[-1]:.2f} at {rows[-1]['distance']:g}, "
            f"off by {worst:.2f} at most",
            all(a > b for a, b in pairwise(critics)) and worst < 0.2,
        ),
    ]


def plot(result: Result) -> Figure:
    figure, ((left, right),) = plots.panels(1)
    distances = [row["distance"] for row in result.rows]
    left.axhline(LOG2, color="#999999", linewidth=1, linestyle="--", label="log 2")
    left.plot(distances, [row["jensen_shannon"] for row in result.rows], "o-", color=plots.COLOURS[1], label="seen")
    right.plot(distances, distances, color="#999999", linewidth=1, linestyle="--", label="distance")
    right.plot(distances, [row["critic"] for row in result.rows], "o-", color=plots.COLOURS[0], label="seen")
    left.set_ylim(bottom=-0.02)
    plots.dress(left, "Jensen-Shannon estimate, log 2 - d/2", "distance of the supports")
    plots.dress(right, "WGAN-GP critic's estimate", "distance of the supports")
    return figure
