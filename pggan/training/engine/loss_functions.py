"""One training step as plain functions of (parameters, batch): what every way of running it shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from pggan.config.losses import OBJECTIVES, REGULARIZERS, Value, regularizers_of, resolve_options
from pggan.losses.base import NOTHING, Batch, Critic, DiscriminatorPass, GeneratorPass, LossTerms, Objective
from pggan.networks.discriminator import Discriminator, DiscriminatorOutput
from pggan.networks.generator import Generator
from pggan.networks.layers import downscale, fade, upscale

Parameters = dict[str, Tensor]
# The level up to which reals and fakes go through D in one batch: 1.2 times as fast on two cores there (eager, D's
# gradients, batch 16), and slower from 32x32 on, where larger batches leave the caches.
JOINED = 3


@dataclass(frozen=True)
class StepContext:
    """What stays the same from step to step. `dtype`: what the networks' layers compute in (None: as their input).

    `forward`: gradient penalties are differentiated by forward mode, the same numbers by other operations.
    """

    generator: Generator
    discriminator: Discriminator
    objectives: tuple[Objective, ...]
    dtype: torch.dtype | None = None
    forward: bool = False


def make_objectives(
    loss: str, conditional: bool, options: dict[str, Value], codes: bool = False
) -> tuple[Objective, ...]:
    """The loss and its regularisers, as modules. Raises `UsageError` for unknown names or options.

    `conditional`: the run has labels; `codes`: structured codes.
    """
    resolved = resolve_options(loss, conditional, options, codes)
    modules = [OBJECTIVES.load(loss)(**resolved[loss])]
    for name in regularizers_of(loss, conditional, options, codes):
        modules.append(REGULARIZERS.load(name)(**resolved[name]))
    return tuple(modules)


def real_images(images: Tensor, alpha: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """8-bit pictures (N, C, R, R) to what D sees: [-1, 1], faded with their own half resolution by 1 - alpha."""
    x = images.to(dtype) * (2.0 / 255.0) - 1.0
    return x if x.shape[-1] <= 4 else fade(x, upscale(downscale(x)), alpha)


def blurred(images: Tensor, detail: int, alpha: float) -> Tensor:
    """Images (N, C, R, R) with the detail of level `detail` only, which fades in over the level below by `alpha`.

    As large as before: each pixel of that level is repeated.
    """
    times = images.shape[-1].bit_length() - 1 - detail
    for _ in range(times):
        images = downscale(images)
    if alpha < 1 and detail > 2:
        images = fade(images, upscale(downscale(images)), torch.full((), alpha, device=images.device))
    for _ in range(times):
        images = upscale(images)
    return images


def d_loss(
    setup: StepContext, d: Parameters, g: Parameters, batch: Batch, level: int, alpha: Tensor, scale: Tensor
) -> tuple[Tensor, LossTerms]:
    """The discriminator's loss (0-d), times `scale`, and its terms (unscaled)."""
    with torch.no_grad():
        fakes = augmented(setup, generate(setup, g, batch, level, alpha), batch, real=False)
        held_out = augmented(setup, batch.held_out, batch, real=True) if len(batch.held_out) else None
        batch = batch._replace(reals=augmented(setup, batch.reals, batch, real=True))

    def critic(images: Tensor) -> DiscriminatorOutput:
        return discriminate(setup, d, images, level, alpha)

    def still(images: Tensor) -> DiscriminatorOutput:
        return discriminate(setup, {name: weight.detach() for name, weight in d.items()}, images, level, alpha)

    real, fake = _judged_both(setup, critic, batch.reals, fakes, level)
    seen = DiscriminatorPass(critic, batch, fakes, real, fake, scale, d, setup.forward, still)
    terms = NOTHING
    for objective in setup.objectives:
        terms = terms.merged(objective.d_terms(seen))
    if held_out is not None:
        terms = terms.merged(_held_out_scores(seen, held_out))
    return terms.total() * scale, terms


def _judged_both(
    setup: StepContext, critic: Critic, reals: Tensor, fakes: Tensor, level: int
) -> tuple[DiscriminatorOutput, DiscriminatorOutput]:
    """D of both. Where starting operations costs more than computing them, in one batch with its groups kept apart:
    sample n of 2N is in group n mod (2N / group), so that blocks of N / group reals and fakes take turns.
    """
    count, group = len(reals), setup.discriminator.config.minibatch_group
    whole = len(fakes) == count and count % group == 0 and setup.discriminator.config.stddev_form == "official"
    if level > JOINED or not whole:
        return critic(reals), critic(fakes)
    shape = group, count // group, *reals.shape[1:]
    both = critic(torch.stack([reals.reshape(shape), fakes.reshape(shape)], dim=1).flatten(0, 2))

    def of(which: int) -> DiscriminatorOutput:
        def part(value: Tensor) -> Tensor:
            return value.unflatten(0, (group, 2, count // group))[:, which].flatten(0, 1)

        values: Any = (None if value is None else part(value) for value in both)
        return DiscriminatorOutput(*values)

    return of(0), of(1)


@torch.no_grad()
def _held_out_scores(seen: DiscriminatorPass, held_out: Tensor) -> LossTerms:
    """D's mean score of pictures that it never learns from, and how far below those it does: only reported."""
    score = seen.d(held_out).score.mean()
    return LossTerms({}, {"score_held_out": score, "score_gap": seen.real.score.mean() - score})


def g_loss(
    setup: StepContext, g: Parameters, d: Parameters, batch: Batch, level: int, alpha: Tensor, scale: Tensor
) -> tuple[Tensor, LossTerms]:
    """The generator's loss (0-d), times `scale`, and its terms (unscaled)."""
    fakes = augmented(setup, generate(setup, g, batch, level, alpha), batch, real=False)
    if any(objective.needs_reals for objective in setup.objectives):
        batch = batch._replace(reals=augmented(setup, batch.reals, batch, real=True))

    def critic(images: Tensor) -> DiscriminatorOutput:
        return discriminate(setup, d, images, level, alpha)

    seen = GeneratorPass(critic, batch, fakes, critic(fakes), g)
    replaced = any(objective.replaces_g for objective in setup.objectives)
    terms = NOTHING
    for number, objective in enumerate(setup.objectives):
        own = objective.g_terms(seen)
        # the loss comes first; where a technique stands in for it, its terms are told and not trained
        terms = terms.merged(own.as_stats() if replaced and number == 0 else own)
    return terms.total() * scale, terms


def augmented(setup: StepContext, images: Tensor, batch: Batch, real: bool) -> Tensor:
    """Images as D sees them: through every objective's view."""
    for objective in setup.objectives:
        images = objective.augment(images, batch, real)
    return images


def generate(setup: StepContext, g: Parameters, batch: Batch, level: int, alpha: Tensor) -> Tensor:
    arguments = (batch.latents, level, alpha, batch.fake_labels, setup.dtype)
    return functional_call(setup.generator, g, arguments)


def discriminate(setup: StepContext, d: Parameters, images: Tensor, level: int, alpha: Tensor) -> DiscriminatorOutput:
    output = functional_call(setup.discriminator, d, (images, level, alpha, setup.dtype))
    for objective in setup.objectives:
        output = objective.transform_output(output)
    return output


def detached_parameters_of(module: torch.nn.Module) -> Parameters:
    """A module's parameters as constants: no gradient is computed for them."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def parameters_of(module: torch.nn.Module) -> Parameters:
    return dict(module.named_parameters())


def gradients(loss: Tensor, parameters: Parameters, scale: Tensor) -> dict[str, Tensor | None]:
    """Gradients of a scaled loss, unscaled; None for parameters that took no part (inactive levels)."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: None if g is None else g / scale for name, g in zip(parameters, found)}
