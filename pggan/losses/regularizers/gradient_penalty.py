"""Gradient penalty (Gulrajani et al. 2017, equation 3; the target's scaling as in Karras et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pggan.losses.base import Critic, DiscriminatorPass, LossTerms, Regularizer
from pggan.networks.layers import at_least_float32


def mixed_images(step: DiscriminatorPass) -> Tensor:
    """Returns `x_hat = (1 - u) x + u G(z)`, (N, C, R, R), with u = `batch.mixing` for each image."""
    reals, u = step.batch.reals, step.batch.mixing[:, None, None, None]
    return reals + (step.fakes - reals) * u


def gradient_norms(d: Critic, images: Tensor, scale: Tensor) -> Tensor:
    """Returns `||grad D(x)||_2` of each image, (N,), differentiable, in float32 or better.

    The backward pass runs on scores times the loss scale, so that half-precision gradients neither vanish nor overflow
    unnoticed. The result is unscaled in float32.
    """
    return _norms(_gradient(d, images, scale))


def penalty(step: DiscriminatorPass, images: Tensor, of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """A penalty `of` (N,) norms of D's gradient at images (N, C, R, R), 0-d, and the norms.

    Its derivative by D's weights is that of `v . grad D(x)`, where `v = of'(norm) / norm * grad D(x)` is held fixed:
    backwards through the gradient itself or, `step.forward`, through the derivative of D(x) along v, which is the same
    number. Forward mode needs more arithmetic, but none of the double backward pass's convolutions, whose kernels are
    as large as the pictures.
    """
    if not step.forward or step.still is None:
        norms = gradient_norms(step.d, images, step.scale)
        return of(norms), norms
    gradient = _gradient(step.still, images, step.scale).detach()
    norms = _norms(gradient)
    v = (torch.func.grad(of)(norms) / norms.clamp(min=1e-30))[:, None, None, None] * gradient
    size = v.abs().amax().clamp(min=1e-30)  # half precision is to hold it
    along = torch.func.jvp(lambda x: step.d(x).score.sum(), (images,), ((v / size).to(images.dtype),))[1] * size
    return of(norms) + along - along.detach(), norms


def _gradient(d: Critic, images: Tensor, scale: Tensor) -> Tensor:
    gradient: Tensor = torch.func.grad(lambda x: d(x).score.sum() * scale)(images)
    return at_least_float32(gradient) / scale


def _norms(gradient: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norms


class GradientPenalty(Regularizer):
    """d gains `weight * E (||grad D(x_hat)|| - target)^2 / target^2`."""

    penalizes_gradient = True

    def __init__(self, gp_weight: float, gp_target: float) -> None:
        super().__init__()
        self.weight, self.target = gp_weight, gp_target

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        def of(norms: Tensor) -> Tensor:
            return (norms - self.target).square().mean() * (self.weight / self.target**2)

        value, norms = penalty(step, mixed_images(step), of)
        return LossTerms({"gradient_penalty": value}, {"gradient_norm": norms.mean()})
