"""Accuracy of D's classes with few labels (Salimans et al. 2016, table 1): labels alone, with a generator, and with
feature matching.

Pictures that are judged are none of those trained on.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments import plots
from experiments.frame import Claim, Result, Row, Say, Settings
from experiments.pictures import LATENT, SIDE, UNKNOWN, Pictures, load
from experiments.trial import ONE, Trial
from pggan.config.losses import OptimizerDefaults
from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import build
from pggan.training.engine.loss_functions import real_images
from pggan.training.monitor.label_holdout import split_labels

TECHNIQUES = ("labels alone", "semi-supervised", "feature matching")


@dataclass(frozen=True)
class Sizes:
    """`pictures`: to train on, of which `labels` of each class are told; `judged`: others."""

    pictures: int = 1000
    judged: int = 1000
    labels: int = 5
    width: int = 96
    batch: int = 64
    iterations: int = 700
    measures: int = 10


QUICK = Sizes(pictures=200, judged=200, width=24, batch=32, iterations=60, measures=3)


def run(settings: Settings, say: Say) -> Result:
    sizes = QUICK if settings.quick else Sizes()
    pictures = load(settings.data, SIDE, sizes.pictures + sizes.judged)
    rows: list[Row] = []
    for technique in TECHNIQUES:
        for seed in settings.seeds:
            rows.append({"technique": technique, "seed": seed, **train(technique, pictures, seed, sizes)})
        own = [row["accuracy"] for row in rows[-len(settings.seeds) :]]
        say(f"{technique}: accuracy {', '.join(f'{each:.1%}' for each in own)}")
    return Result(rows, claims(rows, sizes), {"of": pictures.name, **vars(sizes)})


def train(technique: str, pictures: Pictures, seed: int, sizes: Sizes) -> Row:
    """`history`: accuracy by iterations; `accuracy`: mean over its last third."""
    some = pictures._replace(images=pictures.images[: sizes.pictures], labels=pictures.labels[: sizes.pictures])
    shown, _ = split_labels(some.labels, sizes.labels * pictures.classes / sizes.pictures, seed)
    common: dict[str, Any] = {"resolution": SIDE, "channels": 1, "fmap_max": sizes.width}
    d = DiscriminatorConfig(arch="dcgan", label_size=pictures.classes, diversity="none", norm="weight", **common)
    players = build(GeneratorConfig(arch="fc", latent_size=LATENT, **common), d, seed)
    options: dict[str, Any] = {"semi_supervised": True, "feature_matching": float(technique == "feature matching")}
    adam = OptimizerDefaults(lr=1e-3, betas=(0.5, 0.99))
    trial = some.trial(
        players, "gan", np.where(shown, some.labels, UNKNOWN), batch=sizes.batch, seed=seed, options=options,
        classes=pictures.classes, labelled=float(shown.mean()), optimizers=(adam, adam),
    )  # fmt: skip
    step = partial(trial.d_step, only=("supervised",)) if technique == "labels alone" else trial.iterate
    at, seen = trial.train(sizes.iterations, sizes.measures, lambda _: accuracy(trial, pictures, sizes.pictures), step)
    last = seen[-max(1, len(seen) // 3) :]
    return {"accuracy": statistics.fmean(last), "history": {"iterations": at, "accuracy": seen}}


def accuracy(trial: Trial, pictures: Pictures, first: int) -> float:
    """Share of the pictures from number `first` on whose class D's largest logit names."""
    logits = trial.judge(real_images(torch.from_numpy(pictures.images[first:]), ONE)).class_logits
    return float((logits.argmax(dim=1).numpy() == pictures.labels[first:]).mean())


def claims(rows: list[Row], sizes: Sizes) -> list[Claim]:
    mean = {name: statistics.fmean(row["accuracy"] for row in rows if row["technique"] == name) for name in TECHNIQUES}
    told = f"{sizes.labels} labels a class: " + ", ".join(f"{name} {mean[name]:.1%}" for name in TECHNIQUES)
    return [
        Claim(
            "semi-supervised: unlabelled pictures raise the accuracy above that of the labels alone",
            told,
            max(mean["semi-supervised"], mean["feature matching"]) > mean["labels alone"],
        ),
        Claim(
            "feature matching raises it further",
            f"{mean['feature matching']:.1%} against {mean['semi-supervised']:.1%}",
            mean["feature matching"] > mean["semi-supervised"],
        ),
    ]


def plot(result: Result) -> Figure:
    figure, ((curves, bars),) = plots.panels(1)
    for number, name in enumerate(TECHNIQUES):
        own = [row for row in result.rows if row["technique"] == name]
        for row in own:
            label = name if row is own[0] else None
            curves.plot(*row["history"].values(), color=plots.COLOURS[number], label=label, linewidth=1)
        bars.bar(name, statistics.fmean(row["accuracy"] for row in own), color=plots.COLOURS[number])
        bars.plot([number] * len(own), [row["accuracy"] for row in own], "k.", markersize=4)
    plots.dress(curves, "accuracy on other pictures (a line a seed)", "iterations")
    plots.dress(bars, "mean over the last third (points: seeds)", "", legend=False)
    return figure
