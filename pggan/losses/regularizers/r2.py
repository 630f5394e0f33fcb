"""R2 penalty: on D's gradient at generated images (Mescheder et al. 2018, equation 10)."""

from __future__ import annotations

from pggan.config.resolution import PerResolution
from pggan.losses.base import DiscriminatorPass, LossTerms
from pggan.losses.regularizers.r1 import ZeroCentredPenalty


class R2(ZeroCentredPenalty):
    """d gains the penalty at generated images."""

    needs_fakes = True

    def __init__(self, r2_gamma: PerResolution) -> None:
        super().__init__(r2_gamma)

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return self.penalty(step, step.fakes, "r2", "gradient_norm_fake")
