"""The saturating (minimax) GAN loss (Goodfellow et al. 2014, equation 1): G's gradient vanishes as D gets good."""

from __future__ import annotations

import torch.nn.functional as F

from pggan.losses.base import GeneratorPass, LossTerms
from pggan.losses.cross_entropy import CrossEntropy


class Minimax(CrossEntropy):
    """d: `CrossEntropy`; g: `E log(1 - s(D(G(z))))`."""

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return LossTerms({"g_fake": -F.softplus(step.fake.score).mean()}, {})
