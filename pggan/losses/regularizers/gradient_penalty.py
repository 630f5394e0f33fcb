"""Gradient penalty (Gulrajani et al. 2017, equation 3; the target's scaling as in Karras et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.losses.base import Critic, DiscriminatorPass, LossTerms, Regularizer
from pggan.networks.convolution import second_derivatives
from pggan.networks.layers import at_least_float32


def mixed_images(step: DiscriminatorPass) -> Tensor:
    """Returns `x_hat = (1 - u) x + u G(z)`, (N, C, R, R), with u = `batch.mixing` for each image."""
    reals, u = step.batch.reals, step.batch.mixing[:, None, None, None]
    return reals + (step.fakes - reals) * u


def gradient_norms(d: Critic, images: Tensor, scale: Tensor, functional: bool = False) -> Tensor:
    """Returns `||grad D(x)||_2` of each image (N, C, R, R), (N,), differentiable, in float32 or better.

    A penalty's derivative by D's weights is a double backward pass: backwards through this gradient itself.
    The backward pass runs on scores times the loss scale, so that half-precision gradients neither vanish nor overflow
    unnoticed. The result is unscaled in float32.
    """

    def score(x: Tensor) -> Tensor:
        return d(x).score.sum() * scale

    with second_derivatives.set(True):
        if functional:
            gradient = torch.func.grad(score)(images)
        else:
            x = images.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(score(x), x, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm((at_least_float32(gradient) / scale).flatten(1), dim=1)
    return norms


class GradientPenalty(Regularizer):
    """d gains `weight * E (||grad D(x_hat)|| - target)^2 / target^2`."""

    def __init__(self, gp_weight: float, gp_target: float) -> None:
        super().__init__()
        self.weight, self.target = gp_weight, gp_target

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        norms = gradient_norms(step.d, mixed_images(step), step.scale, step.functional)
        value = (norms - self.target).square().mean() * (self.weight / self.target**2)
        return LossTerms({"gradient_penalty": value}, {"gradient_norm": norms.mean()})
