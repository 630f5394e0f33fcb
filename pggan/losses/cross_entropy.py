"""The cross-entropy losses' side of the discriminator (Goodfellow et al. 2014): real or not, by the score's sigmoid."""

from __future__ import annotations

import torch.nn.functional as F

from pggan.losses.base import DiscriminatorPass, LossTerms, Objective


class CrossEntropy(Objective):
    """d: `-E log s(D(x)) - E log(1 - s(D(G(z))))`, s the sigmoid.

    With `label_smoothing` t below 1 the real target is t (Salimans et al. 2016, section 3.4): the first term becomes
    `-E [t log s(D(x)) + (1 - t) log(1 - s(D(x)))]`; the fake target stays 0.
    """

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.target = label_smoothing

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        real, fake = step.real.score, step.fake.score
        # -log s(v) = softplus(-v), -log(1 - s(v)) = softplus(v): never the log of a sigmoid, which may be 0
        d_real = F.softplus(-real).mean()
        if self.target < 1:
            d_real = self.target * d_real + (1 - self.target) * F.softplus(real).mean()
        losses = {"real": d_real, "fake": F.softplus(fake).mean()}
        return LossTerms(losses, {"score_real": real.mean(), "score_fake": fake.mean()})
