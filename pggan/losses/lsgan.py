"""LSGAN, the least-squares loss (Mao et al. 2017, equation 9, with the targets 0, 1, 1)."""

from __future__ import annotations

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Objective


class LeastSquares(Objective):
    """d: `1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2`; g: `1/2 E (D(G(z)) - 1)^2`."""

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        real, fake = step.real.score, step.fake.score
        return LossTerms({"real": (real - 1).square().mean() / 2, "fake": fake.square().mean() / 2}, {})

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return LossTerms({"g_fake": (step.fake.score - 1).square().mean() / 2}, {})
