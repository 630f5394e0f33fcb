"""R1 penalty: on D's gradient at real images (Mescheder et al. 2018, equation 9)."""

from __future__ import annotations

from torch import Tensor

from pggan.config.resolution import PerResolution
from pggan.losses.base import NOTHING, DiscriminatorPass, LossTerms, Regularizer, current_value
from pggan.losses.regularizers.gradient_penalty import gradient_norms
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator


class ZeroCentredPenalty(Regularizer):
    """What R1 and R2 share: `gamma / 2 * E ||grad D(x)||^2`, gamma by resolution or changing over the run."""

    lazy = True

    def __init__(self, gamma: PerResolution) -> None:
        super().__init__()
        self.gamma, self.total = gamma, 1

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        self.total = total

    def acts_at(self, resolution: int) -> bool:
        return any(self.gamma.values()) and (self.gamma.end is not None or self.gamma.at(resolution) != 0)

    def penalty(self, step: DiscriminatorPass, images: Tensor, name: str, norm_name: str) -> LossTerms:
        """Returns the penalty at images (N, C, R, R), and the mean norm as a statistic; nothing where gamma is 0."""
        resolution = images.shape[-1]
        if not self.acts_at(resolution):
            return NOTHING
        norms = gradient_norms(step.d, images, step.scale, step.functional)
        weight = current_value(self.gamma, resolution, step.batch.nimg, self.total, norms.dtype)
        return LossTerms({name: norms.square().mean() * (weight / 2)}, {norm_name: norms.mean()})


class R1(ZeroCentredPenalty):
    """d gains the penalty at reals."""

    def __init__(self, r1_gamma: PerResolution) -> None:
        super().__init__(r1_gamma)

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return self.penalty(step, step.batch.reals, "r1", "gradient_norm")
