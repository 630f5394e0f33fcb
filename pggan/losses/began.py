"""BEGAN, boundary equilibrium (Berthelot et al. 2017): the discriminator is an auto-encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Objective
from pggan.networks.discriminator import Discriminator


class BoundaryEquilibrium(Objective):
    """d: `L(x) - k L(G(z))`; g: `L(G(z))`, where `L(v) = mean |v - D(v)|` is minus D's score.

    k starts at 0; after every D step `k <- clip(k + lambda_k (gamma L(x) - L(G(z))), 0, 1)`. The statistic
    `convergence` is the measure `M = L(x) + |gamma L(x) - L(G(z))|` (section 3.4).
    """

    k: Tensor

    def __init__(self, began_gamma: float, began_lambda_k: float) -> None:
        super().__init__()
        self.gamma, self.lambda_k = began_gamma, began_lambda_k
        self.register_buffer("k", torch.zeros(()))

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        real, fake = -step.real.score.mean(), -step.fake.score.mean()
        convergence = real + (self.gamma * real - fake).abs()
        stats = {"error_real": real, "error_fake": fake, "k": self.k.clone(), "convergence": convergence}
        return LossTerms({"real": real, "fake": -self.k * fake}, stats)

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return LossTerms({"g_error": -step.fake.score.mean()}, {})

    @torch.no_grad()
    def after_d_step(self, terms: dict[str, Tensor], discriminator: Discriminator) -> None:
        balance = self.gamma * terms["error_real"] - terms["error_fake"]
        self.k.copy_((self.k + self.lambda_k * balance).clamp(0, 1))
