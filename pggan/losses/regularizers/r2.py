"""R2, a penalty on D's gradient at generated images (Mescheder et al. 2018, equation 10)."""

from __future__ import annotations

from pggan.config.resolution import PerResolution
from pggan.losses.base import DiscriminatorPass, LossTerms, Regularizer
from pggan.losses.regularizers.r1 import zero_centred_penalty


class R2(Regularizer):
    """d gains `gamma / 2 * E ||grad D(G(z))||^2`, gamma by resolution."""

    lazy = needs_fakes = True

    def __init__(self, r2_gamma: PerResolution) -> None:
        super().__init__()
        self.gamma = r2_gamma

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return zero_centred_penalty(step, step.fakes, self.gamma, "r2", "gradient_norm_fake")
