"""Convolutions whose derivatives of every order are convolutions with kernels as small as their own.

The gradient penalty differentiates D twice. Torch's own second derivative by the weight is a convolution whose kernel
is as large as the picture, for which GPUs have no good kernel. Here it is the library's weight gradient instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

aten = torch.ops.aten


class Geometry(NamedTuple):
    """How a kernel moves over a picture, the same along both sides."""

    stride: int = 1
    padding: int = 0
    transposed: bool = False
    groups: int = 1  # of channels, each of which has kernels of its own

    def arguments(self) -> tuple[Any, ...]:
        """Returns stride, padding, dilation, transposed, output padding and groups, as torch's operators take them."""
        return [self.stride] * 2, [self.padding] * 2, [1, 1], self.transposed, [0, 0], self.groups


class SecondDerivatives:
    """Whether convolutions are this module's functions, in gradients by pictures alone.

    Elsewhere they are torch's, which cost less to call.
    """

    def __init__(self) -> None:
        self.needed = False

    @contextmanager
    def set(self, needed: bool) -> Iterator[None]:
        """Sets it within the block."""
        before, self.needed = self.needed, needed
        try:
            yield
        finally:
            self.needed = before


second_derivatives = SecondDerivatives()


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolves x (N, C, H, W) with a weight (outputs, C, k, k), or (C, outputs, k, k) if transposed; adds the bias."""
    if second_derivatives.needed and torch.is_grad_enabled():
        y: Tensor = Convolution.apply(x, weight, bias, geometry)
        return y
    return Convolution.forward(x, weight, bias, geometry)


def _is_product(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether to compute a matrix product instead: of 1x1 kernels, eager on a CPU, as it takes a third of the time."""
    plain = weight.shape[2] == 1 and geometry == Geometry()
    return plain and x.device.type == "cpu" and not torch.compiler.is_compiling()


# A convolution C(x, w) is linear in the picture x and in the weight w. With the gradient g of its result,
#
#     < C(x, w), g >  =  < x, I(g, w) >  =  < w, W(x, g) >
#
# defines the gradients I by the picture and W by the weight, which the library computes. Each of the three is linear in
# its two arguments, so the gradients of each are the other two, and derivatives of every order are sums of the three:
#
#     C(x, w), gradient g:  I(g, w) by x,  W(x, g) by w
#     I(g, w), gradient u:  C(u, w) by g,  W(u, g) by w        (u: like x)
#     W(x, g), gradient v:  I(g, v) by x,  C(x, v) by g        (v: like w)


class Convolution(torch.autograd.Function):
    """C(x, w), and a bias or None."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        if _is_product(x, weight, geometry):
            kernel, pixels = weight.flatten(1).expand(len(x), -1, -1), x.flatten(2)
            product = kernel @ pixels if bias is None else torch.baddbmm(bias[:, None], kernel, pixels)
            return product.reshape(len(x), len(weight), *x.shape[2:])
        y: Tensor = aten.convolution.default(x, weight, bias, *geometry.arguments())
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        mask = ctx.needs_input_grad[:3]
        if second_derivatives.needed:  # the gradient by the pictures: autograd would drop the others
            mask = mask[0], False, False
        return *gradients(g, x, weight, ctx.geometry, mask), None


class ConvolutionGradients(torch.autograd.Function):
    """I(g, w), W(x, g) and the bias's gradient, each None unless asked for."""

    @staticmethod
    def forward(
        g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, mask: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, ...]:
        if _is_product(x, weight, geometry):
            rows, pixels = g.flatten(2), x.flatten(2)
            return (
                (weight.flatten(1).t().expand(len(x), -1, -1) @ rows).reshape(x.shape) if mask[0] else None,
                (rows @ pixels.mT).sum(0).reshape(weight.shape) if mask[1] else None,
                rows.sum((0, 2)) if mask[2] else None,
            )
        sizes = [weight.shape[1 if geometry.transposed else 0]]
        gradients = aten.convolution_backward.default(g, x, weight, sizes, *geometry.arguments(), list(mask))
        return tuple(gradient if asked else None for gradient, asked in zip(gradients, mask))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        g, x, weight, ctx.geometry, (with_x, with_weight, _) = inputs
        ctx.set_materialize_grads(False)
        # only what the derivatives of the results asked for need
        ctx.save_for_backward(g, x if with_weight else None, weight if with_x else None)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None, of_bias: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x, weight = ctx.saved_tensors
        by_g, by_x, by_weight = ctx.needs_input_grad[:3]
        g_terms, x_gradient, weight_gradient = [], None, None
        if u is not None:  # of I(g, w)
            if by_g:
                g_terms.append(convolution(u, weight, None, ctx.geometry))
            if by_weight:
                weight_gradient = gradients(g, u, weight, ctx.geometry, (False, True, False))[1]
        if v is not None:  # of W(x, g)
            if by_g:
                g_terms.append(convolution(x, v, None, ctx.geometry))
            if by_x:
                x_gradient = gradients(g, x, v, ctx.geometry, (True, False, False))[0]
        if of_bias is not None and by_g:
            g_terms.append(of_bias[:, None, None].expand_as(g))
        return sum(g_terms[1:], start=g_terms[0]) if g_terms else None, x_gradient, weight_gradient, None, None


def gradients(
    g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, mask: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    """Returns the gradients by x, weight and bias where `mask` asks for them, with the result's gradient g."""
    if not torch.is_grad_enabled():  # the last derivative
        return ConvolutionGradients.forward(g, x, weight, geometry, mask)
    results: tuple[Tensor | None, ...] = ConvolutionGradients.apply(g, x, weight, geometry, mask)
    return results


def register_with_compiler() -> None:
    """Tells torch.compile to keep the functions as they are; to be called before a penalty is compiled.

    Otherwise the compiler refuses their second derivatives, or computes wrong ones in silence. It imports the compiler,
    which takes a second: so it is not done when this module is imported.
    """
    for function in (Convolution, ConvolutionGradients):
        torch.compiler.allow_in_graph(function)  # type: ignore[no-untyped-call]
