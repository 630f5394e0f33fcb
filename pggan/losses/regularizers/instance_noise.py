"""Instance noise, which makes the distributions of reals and fakes overlap (Arjovsky and Bottou 2017, section 3)."""

from __future__ import annotations

from torch import Tensor

from pggan.losses.base import Batch, DiscriminatorPass, LossTerms, Regularizer
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator


class InstanceNoise(Regularizer):
    """D sees `x + sigma n`, n ~ N(0, 1), of reals and fakes in [-1, 1]; G learns through the noisy fakes.

    sigma falls linearly from `instance_noise` to 0 over `instance_noise_kimg` thousand images, or over the whole run if
    that is 0.
    """

    def __init__(self, instance_noise: float, instance_noise_kimg: float) -> None:
        super().__init__()
        self.start, self.images = instance_noise, instance_noise_kimg * 1000

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        self.images = self.images or float(total)

    def sigma(self, nimg: Tensor) -> Tensor:
        """Returns the standard deviation after `nimg` images, 0-d."""
        return self.start * (1 - nimg / self.images).clamp(min=0)

    def noise(self, count: int, resolution: int, channels: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        shape = (channels, resolution, resolution)
        return {"instance_real": ("normal", shape), "instance_fake": ("normal", shape)}

    def augment(self, images: Tensor, batch: Batch, real: bool) -> Tensor:
        noise = batch.noise["instance_real" if real else "instance_fake"]
        return images + (noise * self.sigma(batch.nimg)).to(images.dtype)

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return LossTerms({}, {"instance_noise": self.sigma(step.batch.nimg).to(step.real.score.dtype)})
