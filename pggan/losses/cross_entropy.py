"""The discriminator's cross-entropy loss (Goodfellow et al. 2014), shared by the gan losses."""

from __future__ import annotations

import torch.nn.functional as F

from pggan.losses.base import DiscriminatorPass, LossTerms, Objective


class CrossEntropy(Objective):
    """d: `-E log s(D(x)) - E log(1 - s(D(G(z))))`, where s is the sigmoid.

    One-sided label smoothing with target t < 1 (Salimans et al. 2016, section 3.4) makes the first term
    `-E [t log s(D(x)) + (1 - t) log(1 - s(D(x)))]`. The target of fakes stays 0.
    """

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.target = label_smoothing

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        real, fake = step.real.score, step.fake.score
        # -log s(v) = softplus(-v) and -log(1 - s(v)) = softplus(v), which stay finite where s(v) rounds to 0 or 1
        d_real = F.softplus(-real).mean()
        if self.target < 1:
            d_real = self.target * d_real + (1 - self.target) * F.softplus(real).mean()
        return LossTerms({"real": d_real, "fake": F.softplus(fake).mean()}, {})
