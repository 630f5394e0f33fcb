"""Activation checkpointing (Chen et al. 2016): blocks keep only their inputs; the backward pass recomputes the rest.

It trades arithmetic for memory and gives the same gradients. torch.utils.checkpoint does not work within torch.func,
which the gradient penalty needs. Here the backward pass of a checkpointed function is itself a checkpointed function:
derivatives of any order keep only inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pggan.networks.convolution import second_derivatives

Tensors = tuple[Tensor, ...]


class CheckpointSwitch:
    """Turns activation checkpointing on and off for the blocks that share it."""

    def __init__(self) -> None:
        self.on = False


def checkpointable_blocks(network: nn.Module) -> list[nn.Module]:
    """Returns a progressive network's blocks and FromRGB layers; none for other architectures."""
    groups = [module for name, module in network.named_modules() if name.split(".")[-1] in ("blocks", "from_rgb")]
    return [block for group in groups if isinstance(group, nn.ModuleDict) for block in group.values()]


def enable_checkpointing(blocks: Iterable[nn.Module], switch: CheckpointSwitch) -> None:
    """Makes modules of one tensor to one tensor checkpoint their activations while `switch` is on."""
    for block in blocks:
        block.forward = _checkpointed_forward(block, copy.copy(block), switch)


def _checkpointed_forward(
    block: nn.Module, original: nn.Module, switch: CheckpointSwitch
) -> Callable[[Tensor], Tensor]:
    """`original` is a shallow copy of `block` with its own `forward`; it shares the weights."""

    def forward(x: Tensor) -> Tensor:
        if not switch.on:
            plain: Tensor = original(x)
            return plain
        names, weights = zip(*_tensors_in_use(block))
        needed = second_derivatives.needed

        def function(*tensors: Tensor) -> Tensors:
            with second_derivatives.set(needed):  # also when the backward pass recomputes
                return (functional_call(original, dict(zip(names, tensors[1:])), (tensors[0],)),)

        outputs: Tensors = CheckpointFunction.apply(function, x, *weights)
        return outputs[0]

    return forward


def _tensors_in_use(block: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors that a block reads, by name: prepared ones in place of their parameters."""
    prepared = dict(block.named_buffers())
    yield from prepared.items()
    for name, parameter in block.named_parameters():
        path, _, own = name.rpartition(".")
        prefix = f"{path}." if path else ""
        kind = "bias" if own == "bias" else "weight"  # of which a magnitude is a part
        if f"{prefix}prepared_{kind}" not in prepared:
            yield name, parameter


class CheckpointFunction(torch.autograd.Function):
    """Computes `function(*tensors)`, a tuple of tensors, and saves nothing but `tensors` for the backward pass."""

    @staticmethod
    def forward(function: Callable[..., Tensors], *tensors: Tensor) -> Tensors:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        ctx.function = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients of the inputs, by recomputing `function` from the saved inputs.

        For y = f(x) and the gradient v of the loss by y, the gradient by x is the vector-Jacobian product

            h(x, v) = J_f(x)^T v,

        which `torch.func.vjp` computes: it runs f again and differentiates it. A second derivative differentiates h,
        by x and by v. Plain autograd would keep h's activations for that, and f's with them. But h is again a function
        of tensors to tensors: applied by `CheckpointFunction` it saves only (x, v), and its own backward pass is this
        method with h in place of f. So derivatives of any order recompute.

        Inputs that need no gradient stay constants of f; their gradient is None.
        """
        function: Callable[..., Tensors] = ctx.function
        inputs: Tensors = ctx.saved_tensors
        differentiable = [i for i, needed in enumerate(ctx.needs_input_grad[1:]) if needed]

        def vector_jacobian_product(*tensors: Tensor) -> Tensors:
            """h: the inputs x, then the gradients v of the outputs, to the gradients of the differentiable inputs."""
            x, v = list(tensors[: len(inputs)]), tensors[len(inputs) :]

            def f(*variables: Tensor) -> Tensors:
                for i, variable in zip(differentiable, variables):
                    x[i] = variable
                return function(*x)

            pull_back = torch.func.vjp(f, *(x[i] for i in differentiable))[1]
            products: Tensors = pull_back(v)
            return products

        gradients: list[Tensor | None] = [None] * len(inputs)
        products = CheckpointFunction.apply(vector_jacobian_product, *inputs, *output_gradients)
        for i, gradient in zip(differentiable, products):
            gradients[i] = gradient
        return None, *gradients
