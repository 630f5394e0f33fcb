"""A player's gradients over one micro-batch, from `loss_functions.player_loss`, in each of the step modes.

- eager: autograd, the plain reference.
- captured-eager: autograd on detached weights, captured as a CUDA graph and replayed.
- compiled: the gradient as a function of the weights (`torch.func.grad` around a loss that holds `torch.func.grad`
  around D), so that one graph without breaks holds the gradient penalty's second derivative.
- captured: that function, captured as a CUDA graph.

The optimizers' steps stay outside in every mode: they are a few fused launches, and so learning rates, several
processes and the finite check are the same code everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pggan.losses.base import Batch, LossTerms
from pggan.networks.convolution import register_with_compiler
from pggan.training.engine.cuda_graphs import Captured, GraphCapturer
from pggan.training.engine.loss_functions import (
    Parameters,
    StepContext,
    StepInputs,
    detached_parameters_of,
    parameter_gradients,
    parameters_of,
    player_loss,
)
from pggan.training.engine.step_modes import StepMode
from pggan.utils.compile import compiled, named
from pggan.utils.devices import free_cached, out_of_memory

Values = dict[str, Tensor]
ByName = dict[str, Tensor | None]
# Maximum relative L2 error against eager. In half precision: ROUNDINGS times the error of half against float32, as
# every mode rounds in its own places, or UNMEASURED where memory does not suffice to measure that.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 0.05}
ROUNDINGS = 3.0
UNMEASURED = 0.3
# A loss scale at which half precision does not overflow; runs begin with one at which it does, to find theirs.
SAFE_SCALE = 256.0


class Gradients(NamedTuple):
    """A player's gradients by weight (None: it took no part), and the loss's terms as 0-d tensors.

    The tensors hold until the next call at the same level: a CUDA graph writes its results to one place.
    """

    by_name: ByName
    losses: Values
    stats: Values


GradientFn = Callable[[StepInputs], Gradients]
# `torch.compile`'s backend; None: leave functions as they are
Backend = str | Callable[..., Any] | None


class GradientMismatch(Exception):  # noqa: N818 (told to people as a reason)
    """A mode's gradients are not those of eager."""


def eager(context: StepContext, inputs: StepInputs) -> Gradients:
    """Computes a player's gradients by autograd."""
    own, other = _players(context, inputs.player)
    return _differentiate(context, parameters_of(own), detached_parameters_of(other), inputs)


def _differentiate(context: StepContext, own: Parameters, other: Parameters, inputs: StepInputs) -> Gradients:
    loss, terms = player_loss(context, own, other, inputs)
    return Gradients(parameter_gradients(loss, own, inputs.scale), _detached(terms.losses), _detached(terms.stats))


def build_gradient_fn(
    mode: StepMode,
    context: StepContext,
    inputs: StepInputs,
    absent: Iterable[str],
    backend: Backend,
    capturer: GraphCapturer,
) -> GradientFn:
    """Builds a player's gradient function in a mode other than eager.

    Args:
        mode: How gradients are computed.
        context: Networks and objectives.
        inputs: The player, level and shapes that the function is for.
        absent: Names of the player's weights that take no part at this level.
        backend: torch.compile's.
        capturer: Captures CUDA graphs.
    """
    own, other = _players(context, inputs.player)
    constants, without = detached_parameters_of(other), dict.fromkeys(absent)
    weights = {name: p for name, p in detached_parameters_of(own).items() if name not in without}
    if mode.compiles:
        register_with_compiler()
        compute = gradient_function(context, inputs.player, inputs.level, inputs.penalties_only)
        compute = compute if backend is None else compiled(compute, backend)
    else:
        weights = {name: weight.requires_grad_() for name, weight in weights.items()}

    def function(inputs: StepInputs) -> Gradients:
        if not mode.compiles:
            return _differentiate(context, weights, constants, inputs)
        with torch.no_grad():
            batch = inputs.batch.map(Tensor.contiguous)  # micro-batches lie apart: one graph serves all
            gradients, losses, stats = compute(weights, constants, batch, inputs.alpha, inputs.scale)
        return Gradients(gradients, losses, stats)

    run = Captured(function, inputs, capturer) if mode.captures else function

    def with_absent(inputs: StepInputs) -> Gradients:
        gradients, losses, stats = run(inputs)
        return Gradients({**gradients, **without}, losses, stats)

    return with_absent


def build_and_verify(
    mode: StepMode,
    context: StepContext,
    inputs: StepInputs,
    backend: Backend,
    capturer: GraphCapturer,
    reference: Callable[[StepInputs], Gradients] | None = None,
) -> GradientFn:
    """Builds a gradient function, as `build_gradient_fn`, and compares it with eager on other inputs than its own.

    `reference` computes the eager gradients; None: as usual.

    Raises:
        GradientMismatch: Its gradients differ from eager ones by more than rounding.
    """
    batch = inputs.batch._replace(reals=-inputs.batch.reals, latents=-inputs.batch.latents)
    alpha, scale = 1 - 0.5 * inputs.alpha, inputs.scale.clamp(max=SAFE_SCALE)
    others = replace(inputs, batch=batch, alpha=alpha, scale=scale)
    allowed = tolerance(context, others)
    expected = (reference or partial(eager, context))(others).by_name
    absent = [name for name, g in expected.items() if g is None]
    function = build_gradient_fn(mode, context, inputs, absent, backend, capturer)
    check(function(others).by_name, expected, allowed)
    return function


def check(gradients: ByName, expected: ByName, allowed: float) -> None:
    """Raises `GradientMismatch` where gradients are further from those expected than `allowed`."""
    apart = distance(gradients, expected)
    if not apart <= allowed:
        raise GradientMismatch(f"its gradients differ from eager ones by {apart:.2g} of their length")


def tolerance(context: StepContext, inputs: StepInputs) -> float:
    """Returns how far two modes' gradients may be apart; in half precision by comparison with float32 on one group."""
    dtype = context.dtype or inputs.batch.latents.dtype
    if dtype in TOLERANCE:
        return TOLERANCE[dtype]
    group = inputs.part(0, max(1, inputs.images // context.discriminator.config.minibatch_group))
    error = None
    try:
        half, full = (eager(replace(context, dtype=each), group).by_name for each in (dtype, torch.float32))
        error = distance(half, full)
    except RuntimeError as problem:
        if not out_of_memory(problem):
            raise
    if error is None:  # a check must not cost the step its memory
        free_cached(inputs.alpha.device)
        return UNMEASURED
    return max(TOLERANCE[torch.float32], ROUNDINGS * error)


def without_unused_reals(context: StepContext, inputs: StepInputs) -> StepInputs:
    """Drops the reals that a player's loss does not look at: graphs would keep and copy them."""
    if inputs.player == "d" or any(objective.needs_reals for objective in context.objectives):
        return inputs
    batch = inputs.batch
    return replace(inputs, batch=batch._replace(reals=batch.reals[:0], held_out=batch.held_out[:0]))


def distance(gradients: ByName, expected: ByName) -> float:
    """Returns `||gradients - expected|| / ||expected||` over all weights.

    It is 0 where `expected` is nothing, or not finite; infinite where a weight has a gradient in one of them alone, or
    only `gradients` are not finite.
    """
    absent = {name for name, g in expected.items() if g is None}
    if gradients.keys() != expected.keys() or any((g is None) != (name in absent) for name, g in gradients.items()):
        return float("inf")
    pairs = [
        (f.double(), g.double())
        for f, g in zip((gradients[name] for name in expected), expected.values())
        if f is not None and g is not None
    ]
    length = float(torch.stack([g.square().sum() for _, g in pairs]).sum().sqrt())
    if not 0 < length < float("inf"):
        return 0.0
    apart = float(torch.stack([(f - g).square().sum() for f, g in pairs]).sum().sqrt())
    return apart / length if apart == apart else float("inf")


def gradient_function(
    context: StepContext, player: str, level: int, penalties_only: bool = False
) -> Callable[..., Any]:
    """Returns `(parameters, constants, batch, alpha, scale) -> (gradients, losses, stats)` as a pure function."""
    context = replace(context, functional=True)

    def compute(
        parameters: Parameters, constants: Parameters, batch: Batch, alpha: Tensor, scale: Tensor
    ) -> tuple[Values, Values, Values]:
        inputs = StepInputs(player, level, batch, alpha, scale, penalties_only)

        def loss(own: Parameters) -> tuple[Tensor, LossTerms]:
            return player_loss(context, own, constants, inputs)

        gradients, terms = torch.func.grad(loss, has_aux=True)(parameters)
        return {name: g / scale for name, g in gradients.items()}, terms.losses, terms.stats

    what = "penalties" if penalties_only else "gradients"
    return named(compute, f"{player}_{what}_{2**level}x{2**level}")


def _players(context: StepContext, player: str) -> tuple[nn.Module, nn.Module]:
    both = context.discriminator, context.generator
    return both if player == "d" else (both[1], both[0])


def _detached(values: Values) -> Values:
    return {name: value.detach() for name, value in values.items()}
