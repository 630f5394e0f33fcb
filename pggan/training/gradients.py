"""A player's gradients over one micro-batch: eager, compiled or captured, all from step.d_loss and step.g_loss.

Eager is the plain reference. Compiled: the gradient as a function of the weights (`torch.func.grad` around a loss that
holds `torch.func.grad` around D), so that one graph without breaks holds the penalty's second derivative. Captured:
that function recorded once as a CUDA graph and replayed. The optimisers' steps stay outside in every mode: they are a
few fused launches, and so learning rates, several processes and the check of gradients are the same code everywhere.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pggan.devices import out_of_memory
from pggan.objectives.base import Batch
from pggan.training import step
from pggan.training.capture import Recorded, Recorder, cuda_graph

Values = dict[str, Tensor]
Found = dict[str, Tensor | None]


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


def eager(setup: step.Setup, player: str, part: Batch, level: int, alpha: Tensor, scale: Tensor) -> Gradients:
    """The gradients of `player` ("d" or "g"), by torch's own backward pass; `scale`: the loss scale."""
    mine, other = _players(setup, player)
    parameters, constants = step.live(mine), step.frozen(other)
    loss_of = step.d_loss if player == "d" else step.g_loss
    loss, terms = loss_of(setup, parameters, constants, part, level, alpha, scale)
    found = step.gradients(loss, parameters, scale)
    return Gradients(found, _detached(terms.losses), _detached(terms.stats))


class Computing:
    """How a run computes gradients: by level, with graphs made when a level is first met and dropped when it is left.

    `modes`: "eager", "compiled" or "captured" by level. `note` is told what compiling took, and where it failed: the
    run then goes on eagerly. `backend`: torch.compile's, None to leave the function as it is; `recorder`: what makes a
    recording of a function.
    """

    def __init__(
        self,
        modes: Mapping[int, str] | None = None,
        note: Callable[[str], None] = lambda message: None,
        backend: str | None = "inductor",
        recorder: Recorder = cuda_graph,
    ) -> None:
        self.modes, self.note = dict(modes or {}), note
        self.backend, self.recorder = backend, recorder
        self._functions: dict[tuple[Any, ...], Function] = {}
        self._seconds: dict[int, float] = {}

    def __call__(
        self, setup: step.Setup, player: str, part: Batch, level: int, alpha: Tensor, scale: Tensor
    ) -> Gradients:
        """As `eager`, by the level's mode. Raises what computing raises: memory that runs out, for one."""
        mode = self.modes.get(level, "eager")
        if mode == "eager":
            return eager(setup, player, part, level, alpha, scale)
        key = (level, player, *(tuple(tensor.shape) for tensor in part.tensors()))
        try:
            if key not in self._functions:
                return self._first(setup, key, mode, (part, alpha, scale))
            return self._functions[key](part, alpha, scale)
        except Exception as error:  # a compiler may fail in any way; what is really wrong fails eagerly, too
            self.forget()
            if out_of_memory(error):
                raise
            self._give_up(mode, level, error)
            return eager(setup, player, part, level, alpha, scale)

    def forget(self) -> None:
        """Drops all graphs, and the memory that recordings hold."""
        self._functions.clear()

    def _first(self, setup: step.Setup, key: tuple[Any, ...], mode: str, inputs: Inputs) -> Gradients:
        """Makes the function, runs it once, and tells how long the stall was once both players have theirs."""
        level, player = key[0], key[1]
        self._functions = {k: v for k, v in self._functions.items() if k[0] == level}
        start = time.perf_counter()
        function = self._made(setup, player, level, mode, inputs)
        result = function(*inputs)
        self._functions[key] = function
        self._seconds[level] = self._seconds.get(level, 0.0) + time.perf_counter() - start
        if player == "g":
            seconds = self._seconds.pop(level)
            self.note(f"{mode} the step at {2**level}x{2**level}: {seconds:.1f} s before it went on")
        return result

    def _made(self, setup: step.Setup, player: str, level: int, mode: str, inputs: Inputs) -> Function:
        mine, other = _players(setup, player)
        part, alpha, scale = inputs
        # one eager pass tells which weights take part at this level; its numbers are not used
        probe = eager(setup, player, part, level, alpha, scale).found
        parameters = {name: p.detach() for name, p in mine.named_parameters() if probe[name] is not None}
        constants, absent = step.frozen(other), [name for name, g in probe.items() if g is None]
        del probe
        compute = gradient_function(setup, player, level)
        if self.backend is not None:
            compute = _compiled(compute, self.backend)

        @torch.no_grad()
        def function(part: Batch, alpha: Tensor, scale: Tensor) -> Gradients:
            found, losses, stats = compute(parameters, constants, part, alpha, scale)
            return Gradients({**found, **dict.fromkeys(absent)}, losses, stats)

        if mode != "captured":
            return function
        recorded = Recorded(function, part, alpha, scale, self.recorder)
        return lambda *inputs: Gradients(*recorded(*inputs))

    def _give_up(self, mode: str, level: int, error: Exception) -> None:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        self.note(f"the step at {2**level}x{2**level} could not be {mode} ({reason}); going on with --mode eager")
        self.modes = {}


def gradient_function(setup: step.Setup, player: str, level: int) -> Callable[..., Any]:
    """`(parameters, constants, part, alpha, scale) -> (gradients, losses, stats)` as a pure function."""
    loss_of = step.d_loss if player == "d" else step.g_loss

    def compute(
        parameters: step.Parameters, constants: step.Parameters, part: Batch, alpha: Tensor, scale: Tensor
    ) -> tuple[Values, Values, Values]:
        def loss(own: step.Parameters) -> tuple[Tensor, step.Terms]:
            return loss_of(setup, own, constants, part, level, alpha, scale)

        found, terms = torch.func.grad(loss, has_aux=True)(parameters)
        return {name: g / scale for name, g in found.items()}, terms.losses, terms.stats

    # a code object of its own: the compiler counts its versions of a function by that, and allows eight
    code = compute.__code__.replace(co_name=f"{player}_gradients_{2**level}x{2**level}")
    return FunctionType(code, compute.__globals__, code.co_name, compute.__defaults__, compute.__closure__)


def _compiled(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    if "TORCH_LOGS" not in os.environ:
        logging.getLogger("torch").setLevel(logging.ERROR)  # its warnings are about its own insides
    return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)


def _players(setup: step.Setup, player: str) -> tuple[nn.Module, nn.Module]:
    both = setup.discriminator, setup.generator
    return both if player == "d" else (both[1], both[0])


def _detached(values: Values) -> Values:
    return {name: value.detach() for name, value in values.items()}
