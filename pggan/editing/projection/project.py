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
from pggan.editing.projection.image_loss import ImageLoss, feature_network, limits_of
from pggan.editing.projection.picture_input import InputPicture, image_tensor
from pggan.editing.projection.refinement import can_refine, refine
from pggan.editing.projection.relaxation import NOISE, NOISE_UNTIL, can_relax, relax
from pggan.editing.projection.search_variables import SearchVariables
from pggan.editing.seed_bank import SEEDS, seed_bank
from pggan.editing.sphere import angle
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.grid import Images
from pggan.generation.model import Model
from pggan.generation.to_uint8 import to_uint8
from pggan.utils.errors import UsageError

# Shares of the steps: of a short first search, and counted for the refinement.
FIRST, REFINED = 0.1, 0.1
# Mean squared error that rounding a picture to 8 bits leaves, in [-1, 1]; less than twice that is the picture itself.
ROUNDING = (2 / 255) ** 2 / 12
# Share of the steps that the relaxed search takes where there is one, and Adam's rate after it, over that without.
RELAXED, RATE_AFTER = 0.7, 0.5
# Without it the restarts are halved after this share of the steps.
HALVED_AFTER = 1 / 3
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
    # degrees between the two best restarts: small where they found the same; None with one restart, or where the first
    # search found the picture itself
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

    The search starts at the nearest of 2,000 seeds. It goes on with more freedom than latents have (`relaxation`), then
    among latents, whose direction alone counts, and by the method of Levenberg and Marquardt (`refinement`). The worse
    half of the restarts ends on the way. A short search comes first, which finds most of the model's own pictures, and
    ends all where it did. The same picture, model and options give the same latent on the same device.

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
    bands, loss = ImageLoss(target), ImageLoss(target, feature_network(model, options.loss))
    taker, starts, variables = _starts(model, target, options)
    counted = _Counted(task, watch, options.steps)
    is_found = _search_own(taker, target, bands, variables, options, counted)
    if not is_found:
        _search(taker, bands if options.loss == "auto" else loss, loss, variables, options, counted)
    losses = _refine(taker, target, loss, variables, counted, is_found)
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


def _starts(model: Model, target: Tensor, options: ProjectOptions) -> tuple[Model, LatentSet, SearchVariables]:
    """Returns the model that takes the latents as they are, the latents to begin at, and the variables there."""
    if space_of(model) == "z":
        bank = seed_bank(model, options.starts, options.label)
        starts = bank.latents.select(bank.nearest(target, options.restarts))
        return model, starts, SearchVariables(model, starts, options)
    starts = _average_w(model, options)
    taker = starts.taker(model)
    free = replace(options, label=None, codes=None)  # w contains them
    return taker, starts, SearchVariables(taker, starts, free, Spread.of(model))


def _average_w(model: Model, options: ProjectOptions) -> LatentSet:
    """Returns the average w, of seeds with the label and codes where they are given, once for each restart."""
    count = options.starts if options.label is not None or options.codes else 1
    seeds = LatentSet.of_seeds(model, range(count), options.label, options.codes).in_w(model)
    average = seeds.z.mean(axis=0) if count > 1 else Spread.of(model).average
    rows = seeds.select([0] * options.restarts)
    return rows.with_latents(np.tile(average, (options.restarts, 1)), rows.names, rows.origins)


def _search_own(
    model: Model, target: Tensor, bands: ImageLoss, variables: SearchVariables, options: ProjectOptions,
    counted: _Counted,
) -> bool:  # fmt: skip
    """Searches shortly; returns whether the picture is the model's own. Then its latent is the one restart left."""
    steps = round(FIRST * options.steps)
    if not (steps and can_relax(model) and can_refine(variables.z.shape[1], target.numel())):
        return False
    starts = variables.inputs()[0].detach()
    random = torch.Generator().manual_seed(options.seed)
    found = relax(model, starts, bands, steps, random, counted)
    with torch.no_grad():
        best = bands(differentiable_images(model, found, None)).argmin()
    variables.restart(found[best][None])
    z, image = _least_squares(model, target, variables, 0, counted)
    if float((_clamped(image, target) - target).square().mean()) < 2 * ROUNDING:
        variables.set(0, z)
        return True
    variables.restart(starts)
    return False


def _search(
    model: Model, bands: ImageLoss, loss: ImageLoss, variables: SearchVariables, options: ProjectOptions,
    counted: _Counted,
) -> None:  # fmt: skip
    """Runs the descent, relaxed by `bands` and then by `loss`; afterwards the better restarts are left."""
    random = torch.Generator().manual_seed(options.seed)
    steps = options.steps - round(REFINED * options.steps) - counted.steps
    if can_relax(model):
        relaxed = round(RELAXED * steps)
        latents, _ = variables.inputs()
        variables.restart(relax(model, latents.detach(), bands, relaxed, random, counted))
        _descend(model, loss, variables, steps - relaxed, options.rate * RATE_AFTER, None, counted)
    else:
        _descend(model, loss, variables, steps, options.rate, random, counted)


def _clamped(image: Tensor, target: Tensor) -> Tensor:
    """Returns an image without what 8 bits cut off of the target."""
    lower, upper = limits_of(target)
    return image.clamp(lower, upper)


def _least_squares(
    model: Model, target: Tensor, variables: SearchVariables, row: int, counted: _Counted
) -> tuple[Tensor, Tensor]:
    """Refines one restart; returns its latent and image, and leaves the variables as they are."""

    def image_of(z: Tensor) -> Tensor:
        return differentiable_images(model, *variables.inputs_of(row, z))[0]

    def errors(z: Tensor) -> Tensor:
        return (_clamped(image_of(z), target) - target).flatten()

    z = refine(errors, variables.z[row].detach(), lambda z: counted.check(), ROUNDING)
    with torch.no_grad():
        return z, image_of(z)


def _refine(
    model: Model, target: Tensor, loss: ImageLoss, variables: SearchVariables, counted: _Counted, is_done: bool
) -> Tensor:
    """Refines each restart that is left, where that is possible and makes its loss less; returns the losses (N,).

    `is_done`: they are refined already.
    """
    with torch.no_grad():
        inputs, labels = variables.inputs()
        images = differentiable_images(model, inputs, labels)
        losses = loss(images)
    can = not is_done and can_refine(variables.z.shape[1], target.numel())
    for row in range(len(losses) if can else 0):
        z, image = _least_squares(model, target, variables, row, counted)
        with torch.no_grad():
            value = loss(image[None])[0]
            if value < losses[row]:
                losses[row], images[row] = value, image
                variables.set(row, z)
        counted.fill(images, losses, (row + 1) / len(losses))
    counted.fill(images, losses, 1.0)
    return losses.cpu()


def _descend(
    model: Model, loss: ImageLoss, variables: SearchVariables, steps: int, rate: float, random: torch.Generator | None,
    counted: _Counted,
) -> None:  # fmt: skip
    """Searches among latents; noise of a random state helps over low barriers, and half of the restarts ends early."""
    for step in range(steps):
        progress, noise = step / steps, None
        if random is not None:
            sigma = NOISE * max(0.0, 1 - progress / NOISE_UNTIL) ** 2
            noise = torch.randn(variables.z.shape, generator=random).to(model.device) * sigma
        inputs, labels = variables.inputs(noise)
        images = differentiable_images(model, inputs, labels)
        losses = loss(images)
        counted(images.detach(), losses.detach())
        variables.step(losses.sum(), rate * _rate_share(progress))
        if random is not None and step == round(HALVED_AFTER * steps) and len(variables.z) > 1:
            variables.select(losses.detach().argsort(stable=True)[: (len(variables.z) + 1) // 2])


class _Counted:
    """Tells task and watch of every step, and of what refinement stands for."""

    def __init__(self, task: Task, watch: Watch | None, steps: int) -> None:
        self._task, self._watch, self._all, self.steps = task, watch, steps, 0

    def __call__(self, images: Tensor, losses: Tensor) -> None:
        if self._watch is not None:
            self._watch(self.steps, to_uint8(images[losses.argmin()][None])[0])
        self.steps += 1
        self._task.advance(1)

    def check(self) -> None:
        self._task.check()

    def fill(self, images: Tensor, losses: Tensor, share: float) -> None:
        """Counts steps up to a share of those that are left."""
        for _ in range(round(share * (self._all - self.steps))):
            self(images, losses)


def _rate_share(progress: float) -> float:
    return min(1.0, 0.05 + progress / WARM_UP, (1 - progress) / COOL_DOWN)
