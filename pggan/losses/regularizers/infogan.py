"""InfoGAN (Chen et al. 2016): D's Q head recovers structured codes from images, so that G keeps their information."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Regularizer
from pggan.networks.discriminator import Discriminator, DiscriminatorOutput
from pggan.networks.generator import Generator

# Q's log-variances are clipped to this range: the likelihood of a Gaussian has no upper bound.
LOG_VARIANCE = (-10.0, 10.0)


class Information(Regularizer):
    """d and g each gain `-weight * E log Q(c | G(z, c))` (equation 5, without the constant H(c)).

    Q is a softmax for each categorical code and a Gaussian with learned mean and variance for each continuous code. The
    statistic `mutual_information` is the lower bound `H(c) + E log Q` in nats. Categorical codes are uniform,
    continuous codes from U(-1, 1).
    """

    def __init__(self, code_weight: float) -> None:
        super().__init__()
        self.weight = code_weight
        self.categorical: tuple[int, ...] = ()
        self.continuous = 0

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        self.categorical, self.continuous = generator.config.categorical, generator.config.continuous

    @property
    def entropy(self) -> float:
        """The entropy H(c) in nats."""
        return sum(math.log(values) for values in self.categorical) + self.continuous * math.log(2)

    def log_likelihood(self, output: DiscriminatorOutput, latents: Tensor) -> Tensor:
        """Returns `log Q(c | x)`, (N,), of the codes at the end of latents (N, Z + codes)."""
        assert output.codes is not None, "the discriminator has no code head"
        total = sum(self.categorical)
        codes = latents[:, latents.shape[1] - total - self.continuous :].to(output.codes.dtype)
        parts = [torch.zeros_like(output.score)]
        at = 0
        for values in self.categorical:
            columns = slice(at, at + values)
            parts.append((codes[:, columns] * output.codes[:, columns].log_softmax(dim=1)).sum(dim=1))
            at += values
        mean, log_variance = output.codes[:, total:].chunk(2, dim=1)
        log_variance = log_variance.clamp(*LOG_VARIANCE)
        square = (codes[:, total:] - mean).square() * torch.exp(-log_variance)
        parts.append(-0.5 * (math.log(2 * math.pi) + log_variance + square).sum(dim=1))
        return torch.stack(parts).sum(dim=0)

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        likelihood = self.log_likelihood(step.fake, step.batch.latents).mean()
        return LossTerms({"information": -likelihood * self.weight}, {"mutual_information": self.entropy + likelihood})

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        likelihood = self.log_likelihood(step.fake, step.batch.latents).mean()
        return LossTerms({"g_information": -likelihood * self.weight}, {})
