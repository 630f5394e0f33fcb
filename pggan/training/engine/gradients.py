"""A player's gradients over one micro-batch, all from step.d_loss and step.g_loss, in any of these forms:

- eager: the plain reference.
- compiled: the gradient as a function of the weights (`torch.func.grad` around a loss that holds `torch.func.grad`
  around D), so that one graph without breaks holds the penalty's second derivative.
- captured: the compiled function recorded once as a CUDA graph and replayed.
- captured-eager: the same function, recorded as it is, where there is no compiler or compiling takes too long.

The optimisers' steps stay outside in every form: they are a few fused launches, and so learning rates, several
processes and the check of gradients are the same code everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pggan.losses.base import Batch
from pggan.training.engine import loss_functions
from pggan.training.engine.cuda_graphs import GraphCapturer, Recorded
from pggan.utils.compile import compiled, named

Values = dict[str, Tensor]
Found = dict[str, Tensor | None]
# How far a form's gradients may be from eager ones, as a share of their length; in half precision so many times what
# rounding to it makes of them, at least, since every form rounds in its own places.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 0.05}
ROUNDINGS = 3.0
# A loss scale at which half precision does not overflow; runs begin with one at which it does, to find theirs.
CALM = 256.0


class Gradients(NamedTuple):
    """`found`: of each of the player's weights, None for those that took no part; `losses`, `stats`: 0-d tensors.

    The tensors hold until the next call at the same level: a recorded graph writes its results to one place.
    """

    found: Found
    losses: Values
    stats: Values


# a micro-batch, alpha and the loss scale
Inputs = tuple[Batch, Tensor, Tensor]
Function = Callable[[Batch, Tensor, Tensor], Gradients]
# `torch.compile`'s backend, None to leave functions as they are
Backend = str | Callable[..., Any] | None


class GradientMismatch(Exception):  # noqa: N818 (told to people as a reason)
    """A form's gradients are not those of eager."""


def eager(
    setup: loss_functions.StepContext, player: str, part: Batch, level: int, alpha: Tensor, scale: Tensor
) -> Gradients:
    """The gradients of `player` ("d" or "g"), by torch's own backward pass; `scale`: the loss scale."""
    mine, other = _players(setup, player)
    parameters, constants = loss_functions.parameters_of(mine), loss_functions.detached_parameters_of(other)
    loss_of = loss_functions.d_loss if player == "d" else loss_functions.g_loss
    loss, terms = loss_of(setup, parameters, constants, part, level, alpha, scale)
    found = loss_functions.gradients(loss, parameters, scale)
    return Gradients(found, _detached(terms.losses), _detached(terms.stats))


def build_gradient_fn(
    form: str,
    setup: loss_functions.StepContext,
    player: str,
    level: int,
    inputs: Inputs,
    absent: Iterable[str],
    backend: Backend,
    recorder: GraphCapturer,
) -> Function:
    """A form other than eager of the gradients of `player` at a level, for parts as that of `inputs`.

    `absent`: the player's weights that take no part there.
    """
    mine, other = _players(setup, player)
    without = dict.fromkeys(absent)
    parameters = {name: p.detach() for name, p in mine.named_parameters() if name not in without}
    constants = loss_functions.detached_parameters_of(other)
    compute = gradient_function(setup, player, level)
    if form in ("compiled", "captured") and backend is not None:
        compute = compiled(compute, backend)

    @torch.no_grad()
    def function(part: Batch, alpha: Tensor, scale: Tensor) -> Gradients:
        part = part.map(Tensor.contiguous)  # parts of a minibatch lie apart: one graph serves all
        found, losses, stats = compute(parameters, constants, part, alpha, scale)
        return Gradients({**found, **without}, losses, stats)

    if form == "compiled":
        return function
    recorded = Recorded(function, *inputs, recorder)
    return lambda *inputs: Gradients(*recorded(*inputs))


def build_and_verify(
    form: str,
    setup: loss_functions.StepContext,
    player: str,
    level: int,
    inputs: Inputs,
    backend: Backend,
    recorder: GraphCapturer,
) -> Function:
    """`build_gradient_fn`, after its gradients were compared with eager ones, on other inputs than those it was made with.

    Raises `GradientMismatch` where they differ by more than rounding, or what making it raises.
    """
    part, alpha, scale = inputs
    other = part._replace(reals=-part.reals, latents=-part.latents), 1 - 0.5 * alpha, scale.clamp(max=CALM)
    allowed = tolerance(setup, player, other[0], level, *other[1:])
    expected = eager(setup, player, other[0], level, *other[1:]).found
    absent = [name for name, g in expected.items() if g is None]
    function = build_gradient_fn(form, setup, player, level, inputs, absent, backend, recorder)
    check(function(*other).found, expected, allowed)
    return function


def check(found: Found, expected: Found, allowed: float) -> None:
    """Raises `GradientMismatch` where gradients are further from those expected than `allowed`."""
    apart = distance(found, expected)
    if not apart <= allowed:
        raise GradientMismatch(f"its gradients differ from eager ones by {apart:.2g} of their length")


def tolerance(
    setup: loss_functions.StepContext, player: str, part: Batch, level: int, alpha: Tensor, scale: Tensor
) -> float:
    """How far apart two forms of the same gradients may be. Half precision is compared with float32 on few images."""
    dtype = setup.dtype or part.latents.dtype
    if dtype in TOLERANCE:
        return TOLERANCE[dtype]
    few = part.part(0, max(1, len(part.latents) // setup.discriminator.config.minibatch_group))
    half, full = (
        eager(dataclasses.replace(setup, dtype=each), player, few, level, alpha, scale).found
        for each in (dtype, torch.float32)
    )
    return max(TOLERANCE[torch.float32], ROUNDINGS * distance(half, full))


def needed(setup: loss_functions.StepContext, player: str, part: Batch) -> Batch:
    """Without the pictures that a player's loss does not look at: graphs would keep and copy them."""
    if player == "d" or any(objective.needs_reals for objective in setup.objectives):
        return part
    return part._replace(reals=part.reals[:0], held_out=part.held_out[:0])


def distance(found: Found, expected: Found) -> float:
    """`||found - expected|| / ||expected||` over all weights; 0 where `expected` is nothing, or no finite numbers.

    Infinite where a weight has a gradient in one of them alone, or `found` is not finite.
    """
    if found.keys() != expected.keys() or any((found[name] is None) != (g is None) for name, g in expected.items()):
        return float("inf")
    pairs = [
        (f.double(), g.double())
        for f, g in zip((found[name] for name in expected), expected.values())
        if f is not None and g is not None
    ]
    length = float(torch.stack([g.square().sum() for _, g in pairs]).sum().sqrt())
    if not 0 < length < float("inf"):
        return 0.0
    apart = float(torch.stack([(f - g).square().sum() for f, g in pairs]).sum().sqrt())
    return apart / length if apart == apart else float("inf")


def gradient_function(setup: loss_functions.StepContext, player: str, level: int) -> Callable[..., Any]:
    """`(parameters, constants, part, alpha, scale) -> (gradients, losses, stats)` as a pure function."""
    loss_of = loss_functions.d_loss if player == "d" else loss_functions.g_loss

    def compute(
        parameters: loss_functions.Parameters,
        constants: loss_functions.Parameters,
        part: Batch,
        alpha: Tensor,
        scale: Tensor,
    ) -> tuple[Values, Values, Values]:
        def loss(own: loss_functions.Parameters) -> tuple[Tensor, loss_functions.LossTerms]:
            return loss_of(setup, own, constants, part, level, alpha, scale)

        found, terms = torch.func.grad(loss, has_aux=True)(parameters)
        return {name: g / scale for name, g in found.items()}, terms.losses, terms.stats

    return named(compute, f"{player}_gradients_{2**level}x{2**level}")


def _players(setup: loss_functions.StepContext, player: str) -> tuple[nn.Module, nn.Module]:
    both = setup.discriminator, setup.generator
    return both if player == "d" else (both[1], both[0])


def _detached(values: Values) -> Values:
    return {name: value.detach() for name, value in values.items()}
