"""Activations computed again instead of kept (Chen et al. 2016): memory for arithmetic, and the same gradients.

torch.utils.checkpoint does not work within torch.func, and so not for the gradient penalty. Here a block is a function
whose backward pass is such a function again: whatever is differentiated, however often, keeps only its inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Tensors = tuple[Tensor, ...]


class Switch:
    """Whether the blocks that it was given to compute again."""

    def __init__(self) -> None:
        self.on = False


def recomputable(network: nn.Module) -> list[nn.Module]:
    """A progressive network's blocks and what reads its pictures (none of another one's)."""
    found = [module for name, module in network.named_modules() if name.split(".")[-1] in ("blocks", "from_rgb")]
    return [block for each in found if isinstance(each, nn.ModuleDict) for block in each.values()]


def recomputing(blocks: Iterable[nn.Module], switch: Switch) -> None:
    """Makes modules of one tensor to one tensor compute again what a backward pass needs, while `switch` is on."""
    for block in blocks:
        block.forward = _forward(block, copy.copy(block), switch)


def _forward(block: nn.Module, plain: nn.Module, switch: Switch) -> Callable[[Tensor], Tensor]:
    """`plain` is the same module as it was: it shares the weights."""

    def forward(x: Tensor) -> Tensor:
        if not switch.on:
            return plain(x)
        names, weights = zip(*block.named_parameters())

        def function(*tensors: Tensor) -> Tensors:
            return (functional_call(plain, dict(zip(names, tensors[1:])), (tensors[0],)),)

        return CheckpointFunction.apply(function, x, *weights)[0]

    return forward


class CheckpointFunction(torch.autograd.Function):
    """`function(*tensors)`, a tuple, of which nothing but the tensors is kept."""

    @staticmethod
    def forward(function: Callable[..., Tensors], *tensors: Tensor) -> Tensors:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        ctx.function = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        function, inputs = ctx.function, ctx.saved_tensors
        wanted = [at for at, needed in enumerate(ctx.needs_input_grad[1:]) if needed]

        def pulled_back(*tensors: Tensor) -> Tensors:
            """From the inputs, then the gradients of the outputs, to those of the inputs that are wanted."""
            given, outer = list(tensors[: len(inputs)]), tensors[len(inputs) :]

            def of_wanted(*some: Tensor) -> Tensors:
                for at, tensor in zip(wanted, some):
                    given[at] = tensor
                return function(*given)

            pull = torch.func.vjp(of_wanted, *(given[at] for at in wanted))[1]
            found: Tensors = pull(outer)
            return found

        found: list[Tensor | None] = [None] * len(inputs)
        for at, gradient in zip(wanted, CheckpointFunction.apply(pulled_back, *inputs, *gradients)):
            found[at] = gradient
        return None, *found
