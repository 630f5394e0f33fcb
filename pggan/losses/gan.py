"""The non-saturating GAN loss (Goodfellow et al. 2014, section 3)."""

from __future__ import annotations

import torch.nn.functional as F

from pggan.losses.base import GeneratorPass, LossTerms
from pggan.losses.cross_entropy import CrossEntropy


class NonSaturating(CrossEntropy):
    """d: `CrossEntropy`; g: `-E log s(D(G(z)))`."""

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return LossTerms({"g_fake": F.softplus(-step.fake.score).mean()}, {})
