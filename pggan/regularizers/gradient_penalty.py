"""Gradient penalty (Gulrajani et al. 2017, equation 3; the target's scaling as in Karras et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.networks.layers import at_least_float32
from pggan.objectives.base import Critic, DiscriminatorPass, Regularizer, Terms


def mixed_images(step: DiscriminatorPass) -> Tensor:
    """`x_hat = lerp(x, G(z), u)`, u per image."""
    reals, u = step.batch.reals, step.batch.mixing[:, None, None, None]
    return reals + (step.fakes - reals) * u


def gradient_norms(d: Critic, images: Tensor, scale: Tensor) -> Tensor:
    """`||grad D(x)||_2` per image, (N,), differentiable, in float32 at least.

    The backward pass runs on scores times `scale`, so that half-precision gradients neither vanish nor overflow
    unseen; what it yields is scaled back in float32.
    """
    gradient = torch.func.grad(lambda x: d(x).score.sum() * scale)(images)
    return torch.linalg.vector_norm((at_least_float32(gradient) / scale).flatten(1), dim=1)


class GradientPenalty(Regularizer):
    """d gains `weight * E (||grad D(x_hat)|| - target)^2 / target^2`."""

    def __init__(self, gp_weight: float, gp_target: float) -> None:
        super().__init__()
        self.weight, self.target = gp_weight, gp_target

    def d_terms(self, step: DiscriminatorPass) -> Terms:
        norms = gradient_norms(step.d, mixed_images(step), step.scale)
        penalty = (norms - self.target).square().mean() * (self.weight / self.target**2)
        return Terms({"gradient_penalty": penalty}, {"gradient_norm": norms.mean()})
