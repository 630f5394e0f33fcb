"""One training step as plain functions of (parameters, batch): what every way of running it shares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from pggan.networks.discriminator import Discriminator, DiscriminatorOutput
from pggan.networks.generator import Generator
from pggan.networks.layers import downscale, fade, upscale
from pggan.objectives import OBJECTIVES, REGULARIZERS, regularizers_of, resolve_options
from pggan.objectives.base import NOTHING, Batch, DiscriminatorPass, GeneratorPass, Objective, Terms

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Setup:
    """What stays the same from step to step. `dtype`: what the networks' layers compute in (None: as their input)."""

    generator: Generator
    discriminator: Discriminator
    objectives: tuple[Objective, ...]
    dtype: torch.dtype | None = None


def make_objectives(loss: str, conditional: bool, options: dict[str, float]) -> tuple[Objective, ...]:
    """The loss and its regularisers, as modules. Raises `UsageError` for unknown names or options."""
    resolved = resolve_options(loss, conditional, options)
    modules = [OBJECTIVES.load(loss)(**resolved[loss])]
    for name in regularizers_of(loss, conditional):
        modules.append(REGULARIZERS.load(name)(**resolved[name]))
    return tuple(modules)


def real_images(images: Tensor, alpha: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """8-bit pictures (N, C, R, R) to what D sees: [-1, 1], faded with their own half resolution by 1 - alpha."""
    x = images.to(dtype) * (2.0 / 255.0) - 1.0
    return x if x.shape[-1] <= 4 else fade(x, upscale(downscale(x)), alpha)


def d_loss(
    setup: Setup, d: Parameters, g: Parameters, batch: Batch, level: int, alpha: Tensor, scale: Tensor
) -> tuple[Tensor, Terms]:
    """The discriminator's loss (0-d), times `scale`, and its terms (unscaled)."""
    with torch.no_grad():
        fakes = generate(setup, g, batch, level, alpha)

    def critic(images: Tensor) -> DiscriminatorOutput:
        return discriminate(setup, d, images, level, alpha)

    seen = DiscriminatorPass(critic, batch, fakes, critic(batch.reals), critic(fakes), scale)
    terms = NOTHING
    for objective in setup.objectives:
        terms = terms.joined(objective.d_terms(seen))
    return terms.total() * scale, terms


def g_loss(
    setup: Setup, g: Parameters, d: Parameters, batch: Batch, level: int, alpha: Tensor, scale: Tensor
) -> tuple[Tensor, Terms]:
    """The generator's loss (0-d), times `scale`, and its terms (unscaled)."""
    fakes = generate(setup, g, batch, level, alpha)

    def critic(images: Tensor) -> DiscriminatorOutput:
        return discriminate(setup, d, images, level, alpha)

    seen = GeneratorPass(critic, batch, fakes, critic(fakes))
    terms = NOTHING
    for objective in setup.objectives:
        terms = terms.joined(objective.g_terms(seen))
    return terms.total() * scale, terms


def generate(setup: Setup, g: Parameters, batch: Batch, level: int, alpha: Tensor) -> Tensor:
    arguments = (batch.latents, level, alpha, batch.fake_labels, setup.dtype)
    return functional_call(setup.generator, g, arguments)


def discriminate(setup: Setup, d: Parameters, images: Tensor, level: int, alpha: Tensor) -> DiscriminatorOutput:
    return functional_call(setup.discriminator, d, (images, level, alpha, setup.dtype))


def frozen(module: torch.nn.Module) -> Parameters:
    """A module's parameters as constants: no gradient is computed for them."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def live(module: torch.nn.Module) -> Parameters:
    return dict(module.named_parameters())


def gradients(loss: Tensor, parameters: Parameters, scale: Tensor) -> dict[str, Tensor | None]:
    """Gradients of a scaled loss, unscaled; None for parameters that took no part (inactive levels)."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: None if g is None else g / scale for name, g in zip(parameters, found)}
