"""R2, a penalty on D's gradient at generated images (Mescheder et al. 2018, equation 10)."""

from __future__ import annotations

from pggan.config.resolution import PerResolution
from pggan.losses.base import DiscriminatorPass, LossTerms, Regularizer
from pggan.losses.regularizers.r1 import zero_centred_penalty
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator


class R2(Regularizer):
    """d gains `gamma / 2 * E ||grad D(G(z))||^2`, gamma by resolution or changing over the run."""

    lazy = needs_fakes = True

    def __init__(self, r2_gamma: PerResolution) -> None:
        super().__init__()
        self.gamma, self.total = r2_gamma, 1

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        self.total = total

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return zero_centred_penalty(step, step.fakes, self.gamma, self.total, "r2", "gradient_norm_fake")
