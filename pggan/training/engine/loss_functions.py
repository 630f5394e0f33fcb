"""The losses of D and G as plain functions of (parameters, inputs), which every step mode differentiates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from pggan.config.losses import OBJECTIVES, REGULARIZERS, Value, regularizers_of, resolve_options
from pggan.losses.base import NOTHING, Batch, Critic, DiscriminatorPass, GeneratorPass, LossTerms, Objective
from pggan.networks.discriminator import Discriminator, DiscriminatorOutput
from pggan.networks.generator import Generator
from pggan.networks.layers import prepared_weights
from pggan.networks.resampling import downscale, fade, upscale

Parameters = dict[str, Tensor]
# Level up to which reals and fakes go through D in one batch, by kind of device. CPUs: 1.2 times as fast on two cores
# there (eager, D's gradients, batch 16), and slower from 32x32 on, where larger batches leave the caches. CUDA GPUs:
# all levels, for a tenth fewer kernels and 5 % more memory, counted from 64x64 to 1024x1024 on the tests' stand-in;
# what that is worth `tools/benchmark.py train --joined 3,10` measures.
JOINED = {"cpu": 3, "cuda": 10}
# In place of D's outputs where penalties alone are computed.
NO_OUTPUT = DiscriminatorOutput(torch.zeros(0), torch.zeros(0), None, None)


@dataclass(frozen=True)
class StepContext:
    """What stays the same from step to step."""

    generator: Generator
    discriminator: Discriminator
    objectives: tuple[Objective, ...]  # the loss first, then its regularizers
    dtype: torch.dtype | None = None  # that the networks' layers compute in; None: that of their input
    functional: bool = False  # whether `torch.func` differentiates the losses, as compiled steps need it
    joined: int = JOINED["cpu"]  # level up to which D judges reals and fakes in one batch
    penalty_every: int = 1  # steps of D from one with the lazy penalties to the next; 1: they are part of its loss


@dataclass(frozen=True)
class StepInputs:
    """What changes from step to step."""

    player: str  # whose step it is: "d" or "g"
    level: int  # log2 of the resolution
    batch: Batch  # a minibatch, or a micro-batch of one
    alpha: Tensor  # how far the level is faded in, 0-d in [0, 1]
    scale: Tensor  # the loss scale, 0-d; 1 without mixed precision
    penalties_only: bool = False  # D's lazy penalties, without its loss

    @property
    def images(self) -> int:
        return len(self.batch.latents)

    def part(self, index: int, parts: int) -> StepInputs:
        """Micro-batch `index` of `parts`."""
        return replace(self, batch=self.batch.part(index, parts))

    def map(self, function: Callable[[Tensor], Tensor]) -> StepInputs:
        """Returns the same inputs with `function` applied to every tensor."""
        batch, alpha, scale = self.batch.map(function), function(self.alpha), function(self.scale)
        return replace(self, batch=batch, alpha=alpha, scale=scale)

    def tensors(self) -> list[Tensor]:
        return [*self.batch.tensors(), self.alpha, self.scale]


def make_objectives(
    loss: str, conditional: bool, options: dict[str, Value], codes: bool = False
) -> tuple[Objective, ...]:
    """Builds the loss and its regularizers.

    Args:
        loss: Name in the table of losses.
        conditional: Whether the run has labels.
        options: Options of the loss and of the regularizers by name.
        codes: Whether the latents end with structured codes.

    Raises:
        UsageError: A name or an option is unknown.
    """
    resolved = resolve_options(loss, conditional, options, codes)
    modules = [OBJECTIVES.load(loss)(**resolved[loss])]
    for name in regularizers_of(loss, conditional, options, codes):
        modules.append(REGULARIZERS.load(name)(**resolved[name]))
    return tuple(modules)


def real_images(images: Tensor, alpha: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Converts 8-bit images (N, C, R, R) to what D sees: [-1, 1], faded with their own half resolution by 1 - alpha."""
    x = images.to(dtype) * (2.0 / 255.0) - 1.0
    return x if x.shape[-1] <= 4 else fade(x, upscale(downscale(x)), alpha)


def blurred(images: Tensor, detail: int, alpha: float) -> Tensor:
    """Reduces images (N, C, R, R) to the detail of level `detail`, which fades in over the level below by `alpha`.

    The size stays: each pixel of that level is repeated.
    """
    times = images.shape[-1].bit_length() - 1 - detail
    for _ in range(times):
        images = downscale(images)
    if alpha < 1 and detail > 2:
        images = fade(images, upscale(downscale(images)), torch.full((), alpha, device=images.device))
    for _ in range(times):
        images = upscale(images)
    return images


def player_loss(
    context: StepContext, own: Parameters, other: Parameters, inputs: StepInputs
) -> tuple[Tensor, LossTerms]:
    """Computes the loss of the player whose step it is.

    Args:
        context: Networks and objectives.
        own: The player's parameters.
        other: The other player's parameters, as constants.
        inputs: The batch, level, alpha and loss scale.

    Returns:
        The loss times the loss scale (0-d), and its unscaled terms.
    """
    if inputs.player == "g":
        return g_loss(context, own, other, inputs)
    return (d_penalties if inputs.penalties_only else d_loss)(context, own, other, inputs)


def d_loss(context: StepContext, d: Parameters, g: Parameters, inputs: StepInputs) -> tuple[Tensor, LossTerms]:
    """Computes D's loss, as `player_loss`; the fakes carry no gradient of G."""
    batch, level = inputs.batch, inputs.level
    with torch.no_grad():
        fakes = augmented(context, generate(context, g, inputs), batch, real=False)
        held_out = augmented(context, batch.held_out, batch, real=True) if len(batch.held_out) else None
        batch = batch._replace(reals=augmented(context, batch.reals, batch, real=True))

    critic = _critic(context, d, batch.reals.dtype, inputs)
    real, fake = _judged_both(context, critic, batch.reals, fakes, level)
    seen = DiscriminatorPass(critic, batch, fakes, real, fake, inputs.scale, d, context.functional)
    terms = LossTerms({}, {"score_real": real.score.mean(), "score_fake": fake.score.mean()})
    for objective in context.objectives:
        if context.penalty_every == 1 or not objective.lazy:
            terms = terms.merged(objective.d_terms(seen))
    if held_out is not None:
        terms = terms.merged(_held_out_scores(seen, held_out))
    return terms.total() * inputs.scale, terms


def lazy_objectives(context: StepContext, level: int) -> list[Objective]:
    """Returns the objectives whose terms have a step of their own at a level; none without lazy regularisation."""
    if context.penalty_every == 1:
        return []
    return [objective for objective in context.objectives if objective.lazy and objective.acts_at(2**level)]


def d_penalties(context: StepContext, d: Parameters, g: Parameters, inputs: StepInputs) -> tuple[Tensor, LossTerms]:
    """Computes D's lazy penalties, times the steps that they stand for; as `player_loss`."""
    batch, lazy = inputs.batch, lazy_objectives(context, inputs.level)
    fakes = batch.reals[:0]
    with torch.no_grad():
        if any(objective.needs_fakes for objective in lazy):
            fakes = augmented(context, generate(context, g, inputs), batch, real=False)
        batch = batch._replace(reals=augmented(context, batch.reals, batch, real=True))
    critic = _critic(context, d, batch.reals.dtype, inputs)
    seen = DiscriminatorPass(critic, batch, fakes, NO_OUTPUT, NO_OUTPUT, inputs.scale, d, context.functional)
    terms = NOTHING
    for objective in lazy:
        terms = terms.merged(objective.d_terms(seen))
    return terms.total() * (context.penalty_every * inputs.scale), terms


def _critic(context: StepContext, d: Parameters, dtype: torch.dtype, inputs: StepInputs) -> Critic:
    """Returns D as a function of images, its weights scaled and cast once for all passes."""
    layers = context.discriminator.layers_at(inputs.level)
    prepared = {**d, **prepared_weights(layers, d, context.dtype or dtype)}

    def critic(images: Tensor) -> DiscriminatorOutput:
        return discriminate(context, prepared, images, inputs.level, inputs.alpha)

    return critic


def _judged_both(
    context: StepContext, critic: Critic, reals: Tensor, fakes: Tensor, level: int
) -> tuple[DiscriminatorOutput, DiscriminatorOutput]:
    """Runs D on reals and fakes: in one batch up to the level `context.joined`.

    The groups of the minibatch statistic stay apart: sample n of 2N is in group n mod (2N / group), so that blocks of
    N / group reals and fakes take turns.
    """
    count, config = len(reals), context.discriminator.config
    group = config.minibatch_group
    whole = len(fakes) == count and count % group == 0 and config.stddev_form == "official"
    if level > context.joined or not whole:
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
    """Returns statistics only: D's mean score of images that it never learns from, and the gap to the reals'."""
    score = seen.d(held_out).score.mean()
    return LossTerms({}, {"score_held_out": score, "score_gap": seen.real.score.mean() - score})


def g_loss(context: StepContext, g: Parameters, d: Parameters, inputs: StepInputs) -> tuple[Tensor, LossTerms]:
    """Computes G's loss, as `player_loss`."""
    batch = inputs.batch
    fakes = augmented(context, generate(context, g, inputs), batch, real=False)
    if any(objective.needs_reals for objective in context.objectives):
        batch = batch._replace(reals=augmented(context, batch.reals, batch, real=True))

    def critic(images: Tensor) -> DiscriminatorOutput:
        return discriminate(context, d, images, inputs.level, inputs.alpha)

    seen = GeneratorPass(critic, batch, fakes, critic(fakes), g)
    replaced = any(objective.replaces_g for objective in context.objectives)
    terms = NOTHING
    for number, objective in enumerate(context.objectives):
        own = objective.g_terms(seen)
        # the loss comes first; where a technique replaces it, its terms are logged and not optimized
        terms = terms.merged(own.as_stats() if replaced and number == 0 else own)
    return terms.total() * inputs.scale, terms


def augmented(context: StepContext, images: Tensor, batch: Batch, real: bool) -> Tensor:
    """Returns images as D sees them: augmented by every objective."""
    for objective in context.objectives:
        images = objective.augment(images, batch, real)
    return images


def generate(context: StepContext, g: Parameters, inputs: StepInputs) -> Tensor:
    """Runs G with the given parameters: fakes (N, C, R, R)."""
    arguments = (inputs.batch.latents, inputs.level, inputs.alpha, inputs.batch.fake_labels, context.dtype)
    return functional_call(context.generator, g, arguments, tie_weights=False)


def discriminate(context: StepContext, d: Parameters, images: Tensor, level: int, alpha: Tensor) -> DiscriminatorOutput:
    """Runs D with the given parameters on images (N, C, R, R)."""
    output = functional_call(context.discriminator, d, (images, level, alpha, context.dtype), tie_weights=False)
    for objective in context.objectives:
        output = objective.transform_output(output)
    return output


def detached_parameters_of(module: torch.nn.Module) -> Parameters:
    """Returns a module's parameters as constants: autograd computes no gradient for them."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def parameters_of(module: torch.nn.Module) -> Parameters:
    """Returns a module's parameters by name."""
    return dict(module.named_parameters())


def parameter_gradients(loss: Tensor, parameters: Parameters, scale: Tensor) -> dict[str, Tensor | None]:
    """Returns the unscaled gradients of a scaled loss; None for parameters that took no part (inactive levels)."""
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: None if g is None else g / scale for name, g in zip(parameters, gradients)}
