"""R1, a penalty on D's gradient at real images (Mescheder et al. 2018, equation 9)."""

from __future__ import annotations

from pggan.losses.base import DiscriminatorPass, LossTerms, Regularizer
from pggan.losses.regularizers.gradient_penalty import gradient_norms


class R1(Regularizer):
    """d gains `gamma / 2 * E ||grad D(x)||^2`."""

    def __init__(self, r1_gamma: float) -> None:
        super().__init__()
        self.gamma = r1_gamma

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        norms = gradient_norms(step.d, step.batch.reals, step.scale, step.functional)
        return LossTerms({"r1": norms.square().mean() * (self.gamma / 2)}, {"gradient_norm": norms.mean()})
