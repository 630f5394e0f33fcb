"""R1, a penalty on D's gradient at real images (Mescheder et al. 2018, equation 9)."""

from __future__ import annotations

from torch import Tensor

from pggan.config.resolution import PerResolution
from pggan.losses.base import NOTHING, DiscriminatorPass, LossTerms, Regularizer, current_value
from pggan.losses.regularizers.gradient_penalty import gradient_norms
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator


def zero_centred_penalty(
    step: DiscriminatorPass, images: Tensor, gamma: PerResolution, total: int, name: str, norm_name: str
) -> LossTerms:
    """Returns `gamma / 2 * E ||grad D(x)||^2` at images (N, C, R, R), and the mean norm as a statistic."""
    if not any(gamma.values()) or (gamma.end is None and not gamma.at(images.shape[-1])):
        return NOTHING
    norms = gradient_norms(step.d, images, step.scale, step.functional)
    weight = current_value(gamma, images.shape[-1], step.batch.nimg, total, norms.dtype)
    return LossTerms({name: norms.square().mean() * (weight / 2)}, {norm_name: norms.mean()})


class R1(Regularizer):
    """d gains `gamma / 2 * E ||grad D(x)||^2`, gamma by resolution or changing over the run."""

    lazy = True

    def __init__(self, r1_gamma: PerResolution) -> None:
        super().__init__()
        self.gamma, self.total = r1_gamma, 1

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        self.total = total

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return zero_centred_penalty(step, step.batch.reals, self.gamma, self.total, "r1", "gradient_norm")
