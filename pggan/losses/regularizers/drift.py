"""The drift term, which keeps scores near 0 (Karras et al. 2018, appendix A.1)."""

from __future__ import annotations

from pggan.losses.base import DiscriminatorPass, LossTerms, Regularizer


class Drift(Regularizer):
    """d gains `weight * E D(x)^2`, over reals only."""

    def __init__(self, drift_weight: float) -> None:
        super().__init__()
        self.weight = drift_weight

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return LossTerms({"drift": step.real.score.square().mean() * self.weight}, {})
