"""The Wasserstein critic's loss (Arjovsky et al. 2017), without what keeps the critic smooth."""

from __future__ import annotations

from pggan.losses.base import DiscriminatorPass, GeneratorPass, Objective, Terms


class Wasserstein(Objective):
    """d: `E D(G(z)) - E D(x)`; g: `-E D(G(z))`."""

    def d_terms(self, step: DiscriminatorPass) -> Terms:
        real, fake = step.real.score.mean(), step.fake.score.mean()
        return Terms({"wasserstein": fake - real}, {"score_real": real, "score_fake": fake})

    def g_terms(self, step: GeneratorPass) -> Terms:
        return Terms({"g_score": -step.fake.score.mean()}, {})
