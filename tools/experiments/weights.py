"""The critic's weights under clip and under penalty (figure 1b of Gulrajani et al. 2017).

All weights begin well within the clip's bound, so that what piles up there has been driven there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments import plots
from experiments.frame import Claim, Result, Row, Say, Settings
from experiments.pictures import LEVEL, SIDE, Pictures, fc_players, load
from experiments.trial import Trial
from pggan.config.losses import OBJECTIVES, OptimizerDefaults
from pggan.losses.regularizers.gradient_penalty import gradient_norms
from pggan.networks.layers import EqualizedWeight

CLIP = next(option.default for option in OBJECTIVES["wgan"].options if option.name == "clip")
# A weight this near to a bound is at it.
AT_BOUND = 0.98
BINS = 41


@dataclass(frozen=True)
class Sizes:
    pictures: int = 3000
    width: int = 128
    iterations: int = 500
    n_critic: int = 5


QUICK = Sizes(pictures=200, width=32, iterations=50)


def run(settings: Settings, say: Say) -> Result:
    sizes = QUICK if settings.quick else Sizes()
    pictures = load(settings.data, SIDE, sizes.pictures)
    rows = [_trained(loss, pictures, sizes, settings.seeds[0]) for loss in ("wgan", "wgan-gp")]
    for row in rows:
        said = f"{row['at_bound']:.0%} of the weights at the bound"
        say(f"{row['loss']}: {said}, length of grad D {row['gradient_norm'][-1]:.3g}")
    return Result(rows, claims(rows), {"of": pictures.name, "clip": CLIP, **vars(sizes)})


def _trained(loss: str, pictures: Pictures, sizes: Sizes, seed: int) -> Row:
    """`bound`: what the histogram reaches to, `at_bound`: the share there, `began`: at first; `gradient_norm`: mean
    length of grad D(x_hat), ten times.
    """
    generator, discriminator = fc_players(sizes.width, seed, equalized=False)
    if loss == "wgan":
        _shrink(discriminator, CLIP / 4)
    # both critics are trained alike but for what keeps them smooth; the published RMSprop for the clip
    adam, rmsprop = OptimizerDefaults(lr=5e-4, betas=(0.0, 0.9)), OptimizerDefaults("rmsprop", 5e-5)
    optimizers = 2 * (rmsprop if loss == "wgan" else adam,)
    trial = pictures.trial((generator, discriminator), loss, seed=seed, optimizers=optimizers)
    trial.n_critic = sizes.n_critic
    began = weights(discriminator)
    _, norms = trial.train(sizes.iterations, 10, lambda _: mixed_norm(trial))
    found = weights(discriminator)
    bound = CLIP if loss == "wgan" else float(found.abs().max())
    return {
        "loss": loss, "bound": bound, "began": share_at(began, bound), "at_bound": share_at(found, bound),
        "histogram": torch.histc(found, BINS, -bound, bound).div(len(found)).tolist(), "gradient_norm": norms,
    }  # fmt: skip


def weights(network: nn.Module) -> Tensor:
    """All weights as they are used, without biases, (N,)."""
    found = [m.effective_weight().detach().flatten() for m in network.modules() if isinstance(m, EqualizedWeight)]
    return torch.cat(found)


def _shrink(network: nn.Module, deviation: float) -> None:
    for module in network.modules():
        if isinstance(module, EqualizedWeight):
            weight = module.effective_weight()
            module.set_effective_weight(weight * (deviation / weight.std()))


def share_at(found: Tensor, bound: float) -> float:
    return float((found.abs() >= AT_BOUND * bound).float().mean())


def mixed_norm(trial: Trial) -> float:
    """Mean length of D's gradient between reals and fakes."""
    batch = trial.draw(256)
    fakes = trial.generate(256, trial.random)
    mixed = batch.reals + (fakes - batch.reals) * batch.mixing[:, None, None, None]
    return float(gradient_norms(lambda x: trial.discriminator(x, LEVEL, None), mixed, torch.ones(())).mean().detach())


def claims(rows: list[Row]) -> list[Claim]:
    clipped, penalised = rows
    norm, weak = penalised["gradient_norm"][-1], clipped["gradient_norm"][-1]
    return [
        Claim(
            "clip: the weights pile up at +-c",
            f"{clipped['at_bound']:.0%} within 2 % of +-{CLIP:g}, {clipped['began']:.0%} at first",
            clipped["at_bound"] > 0.25 and clipped["at_bound"] > 3 * clipped["began"],
        ),
        Claim(
            "penalty: they do not pile up anywhere",
            f"{penalised['at_bound']:.2%} within 2 % of the largest",
            penalised["at_bound"] < 0.01,
        ),
        Claim(
            "penalty: grad D between reals and fakes has a length near 1; under the clip it is what it happens to be",
            f"{norm:.2f} under the penalty, {weak:.2g} under the clip",
            0.7 < norm < 1.3,
        ),
    ]


def plot(result: Result) -> Figure:
    figure, panels = plots.panels(2)
    for number, row in enumerate(result.rows):
        bound = row["bound"]
        places = [bound * (2 * (n + 0.5) / BINS - 1) for n in range(BINS)]
        axes = panels[0, number]
        axes.bar(places, row["histogram"], width=2 * bound / BINS, color=plots.COLOURS[1 - number])
        plots.dress(axes, f"{row['loss']}: share of D's weights", "weight", legend=False)
        axes = panels[1, number]
        count = len(row["gradient_norm"])
        steps = [result.about["iterations"] * (n + 1) / count for n in range(count)]
        axes.plot(steps, row["gradient_norm"], "o-", color=plots.COLOURS[1 - number])
        axes.set_ylim(0, 1.1 * max(row["gradient_norm"]))
        plots.dress(axes, f"{row['loss']}: mean length of grad D(x_hat)", "iterations", legend=False)
    return figure
