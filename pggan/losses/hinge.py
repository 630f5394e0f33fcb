"""The hinge loss (Lim and Ye 2017; Miyato et al. 2018, equation 16)."""

from __future__ import annotations

import torch.nn.functional as F

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Objective


class Hinge(Objective):
    """d: `E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))`; g: `-E D(G(z))`."""

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        real, fake = step.real.score, step.fake.score
        return LossTerms({"real": F.relu(1 - real).mean(), "fake": F.relu(1 + fake).mean()}, {})

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return LossTerms({"g_score": -step.fake.score.mean()}, {})
