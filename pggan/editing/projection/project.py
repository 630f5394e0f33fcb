"""Projection: the latent of a picture, found by gradient descent on the sphere of latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pggan.editing.latent_space import Spread, differentiable_images, space_of
from pggan.editing.latents_file import LatentSet
from pggan.editing.projection.image_loss import ImageLoss, feature_network
from pggan.editing.projection.picture_input import InputPicture, image_tensor
from pggan.editing.projection.search_variables import SearchVariables
from pggan.editing.seed_bank import SEEDS, seed_bank
from pggan.editing.sphere import angle
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.grid import Images
from pggan.generation.model import Model
from pggan.generation.to_uint8 import to_uint8
from pggan.utils.errors import UsageError

# The restarts are halved after this share of the steps.
HALVED_AFTER = 1 / 3
# Noise on the latents, of their elements' unit variance; it decays quadratically to 0 at this share of the steps.
NOISE, NOISE_UNTIL = 0.1, 0.7
# The rate rises over the first share of the steps, and falls to 0 over the last.
WARM_UP, COOL_DOWN = 0.05, 0.3

# Receives the number of steps done, and the best image so far (H, W, C).
Watch = Callable[[int, Images], None]


@dataclass(frozen=True)
class ProjectOptions:
    """How a picture's latent is searched for."""

    steps: int = 1000
    loss: str = "auto"  # see `image_loss.LOSSES`
    restarts: int = 4
    rate: float = 0.2  # Adam's, for latents with elements of unit variance
    starts: int = SEEDS  # seeds among which the nearest are looked for
    seed: int = 0  # of the noise
    label: int | str | None = None  # class of a conditional model; None: found, too
    codes: Mapping[int, float] | None = None  # structured codes; the others are found, too

    def check(self) -> None:
        """Raises `UsageError` for values out of range."""
        if not 3 <= self.steps <= 1_000_000 or not 1 <= self.restarts <= self.starts:
            raise UsageError("a search has 3 steps at least, and from 1 restart to as many as there are seeds to start")


DEFAULTS = ProjectOptions()


@dataclass(frozen=True)
class Projection:
    """What a search found."""

    latents: LatentSet  # one latent
    image: Images  # (H, W, C), that the model makes of it
    picture: InputPicture
    psnr: float  # dB, of the 8-bit image against the picture
    # degrees between the two best restarts: small where they found the same; None with one restart
    restart_angle: float | None
    loss: float

    def to_json(self) -> dict[str, Any]:
        return {
            "picture": self.picture.name,
            "psnr": round(self.psnr, 2),
            "restart_angle": None if self.restart_angle is None else round(self.restart_angle, 2),
            "loss": round(self.loss, 6),
        }


def project(
    model: Model,
    picture: InputPicture,
    options: ProjectOptions = DEFAULTS,
    task: Task = UNWATCHED,
    watch: Watch | None = None,
) -> Projection:
    """Finds the latent whose image is nearest to a picture.

    Only a latent's direction counts, so that Adam's steps are followed by a return to the sphere. The search starts at
    the nearest of 2,000 seeds; the worse half of the restarts ends after a third of the steps. The same picture, model
    and options give the same latent on the same device.

    Of a model with a mapping network the latent w is found, from the average on (that of the label, if one is given).

    Args:
        model: The model.
        picture: The picture, as `picture_input.read_picture` returns it for the model.
        options: How to search.
        task: Counts steps.
        watch: Receives the search as it goes.

    Raises:
        UsageError: Options, label or codes do not fit.
        ModelError: The loss needs a discriminator that the file does not keep.
    """
    options.check()
    target = image_tensor(picture.image, model)
    loss = ImageLoss(target, feature_network(model, options.loss))
    if space_of(model) == "z":
        bank = seed_bank(model, options.starts, options.label)
        starts = bank.latents.select(bank.nearest(target, options.restarts))
        taker, variables = model, SearchVariables(model, starts, options)
    else:
        starts = _average_w(model, options)
        taker = starts.taker(model)
        variables = SearchVariables(taker, starts, replace(options, label=None, codes=None), Spread.of(model))
    variables, losses = _search(taker, loss, variables, options, task, watch)
    order = [int(row) for row in losses.argsort(stable=True)]
    z = variables.z.detach().cpu().numpy()
    apart = float(angle(z[order[0]], z[order[1]])) if len(order) > 1 else None
    best = variables.to_latents(order[0], starts)
    image = best.images(model)[0]
    figure = psnr(image, picture.image)
    origin = {
        "projection": picture.name, "psnr": round(figure, 2), "steps": options.steps, "loss": options.loss,
        "seed": options.seed,
    }  # fmt: skip
    best = replace(best, names=(Path(picture.name).stem,), origins=(origin,))
    return Projection(best, image, picture, figure, apart, float(losses[order[0]]))


def psnr(image: Images, picture: Images) -> float:
    """Returns the peak signal-to-noise ratio of 8-bit images in dB; 99 for equal ones."""
    error = float(np.square(image.astype(np.float64) - picture).mean())
    return min(99.0, 10 * math.log10(255**2 / error)) if error else 99.0


def _average_w(model: Model, options: ProjectOptions) -> LatentSet:
    """Returns the average w, of seeds with the label and codes where they are given, once for each restart."""
    count = options.starts if options.label is not None or options.codes else 1
    seeds = LatentSet.of_seeds(model, range(count), options.label, options.codes).in_w(model)
    average = seeds.z.mean(axis=0) if count > 1 else Spread.of(model).average
    rows = seeds.select([0] * options.restarts)
    return rows.with_latents(np.tile(average, (options.restarts, 1)), rows.names, rows.origins)


def _search(
    model: Model, loss: ImageLoss, variables: SearchVariables, options: ProjectOptions, task: Task, watch: Watch | None
) -> tuple[SearchVariables, Tensor]:
    """Runs the descent; returns the variables of the restarts that were left, and their losses (N,)."""
    random = torch.Generator().manual_seed(options.seed)
    halve_at = round(HALVED_AFTER * options.steps)
    for step in range(options.steps):
        progress = step / options.steps
        sigma = NOISE * max(0.0, 1 - progress / NOISE_UNTIL) ** 2
        noise = torch.randn(variables.z.shape, generator=random).to(model.device) * sigma
        inputs, labels = variables.inputs(noise)
        images = differentiable_images(model, inputs, labels)
        losses = loss(images)
        if watch is not None:
            watch(step, to_uint8(images.detach()[losses.argmin()][None])[0])
        variables.step(losses.sum(), options.rate * _rate_share(progress))
        if step == halve_at and len(variables.z) > 1:
            variables.select(losses.detach().argsort(stable=True)[: (len(variables.z) + 1) // 2])
        task.advance(1)
    with torch.no_grad():
        inputs, labels = variables.inputs()
        return variables, loss(differentiable_images(model, inputs, labels)).cpu()


def _rate_share(progress: float) -> float:
    return min(1.0, 0.05 + progress / WARM_UP, (1 - progress) / COOL_DOWN)
