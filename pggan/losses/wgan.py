"""The Wasserstein loss (Arjovsky et al. 2017), without a constraint on the critic: wgan-gp adds a gradient penalty."""

from __future__ import annotations

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Objective


class Wasserstein(Objective):
    """d: `E D(G(z)) - E D(x)`; g: `-E D(G(z))`."""

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return LossTerms({"wasserstein": step.fake.score.mean() - step.real.score.mean()}, {})

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return LossTerms({"g_score": -step.fake.score.mean()}, {})
