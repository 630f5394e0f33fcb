"""Layer, instance, virtual batch and weight normalisation, between a layer and its activation.

Statistics are computed in float32 or better. No sample's result depends on the other samples of its minibatch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pggan.config.train import DiscriminatorConfig
from pggan.networks.layers import EqualizedWeight, at_least_float32

EPSILON = 1e-5


class _Affine(nn.Module):
    """A learned scale (initially 1) and shift (initially 0) of each channel of (N, channels, ...)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def scale_and_shift(self, x: Tensor) -> Tensor:
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        return x * self.weight.reshape(shape) + self.bias.reshape(shape)


def _moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Returns mean and biased variance over `dims`, kept with size 1; over no dimension, the values and zeros."""
    if not dims:
        return x, torch.zeros_like(x)
    mean = x.mean(dim=dims, keepdim=True)
    return mean, (x - mean).square().mean(dim=dims, keepdim=True)


class LayerNorm(_Affine):
    """Normalises each sample over all its channels and pixels (Ba et al. 2016); (N, C, ...) to the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        y = at_least_float32(x)
        mean, variance = _moments(y, tuple(range(1, x.ndim)))
        return self.scale_and_shift((y - mean) * torch.rsqrt(variance + EPSILON)).to(x.dtype)


class InstanceNorm(_Affine):
    """Normalises each map of each sample over its pixels (Ulyanov et al. 2016); (N, C, H, W) to the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        y = at_least_float32(x)
        mean, variance = _moments(y, (2, 3))
        return self.scale_and_shift((y - mean) * torch.rsqrt(variance + EPSILON)).to(x.dtype)


class VirtualBatchNorm(_Affine):
    """Normalises each sample by the statistics of a reference batch and of itself (Salimans et al. 2016, section 3.4).

    (R + N, C, ...) to the same shape; the first R samples are the reference. The mean and mean square of each channel
    are averages of the reference's, weighted R / (R + 1), and the sample's own, weighted 1 / (R + 1). The reference is
    normalised by its own statistics alone.
    """

    def __init__(self, channels: int, reference: int) -> None:
        super().__init__(channels)
        self.reference = reference

    def forward(self, x: Tensor) -> Tensor:
        y = at_least_float32(x)
        pixels = tuple(range(2, x.ndim))
        reference, samples = y[: self.reference], y[self.reference :]
        reference_mean, reference_variance = _moments(reference, (0, *pixels))
        mean, variance = _moments(samples, pixels)
        # E[x^2] - E[x]^2 of the mixture, written without cancellation
        share, difference = 1 / (self.reference + 1), mean - reference_mean
        variance = (1 - share) * reference_variance + share * variance + share * (1 - share) * difference.square()
        mean = reference_mean + share * difference
        normalized = [
            (reference - reference_mean) * torch.rsqrt(reference_variance + EPSILON),
            (samples - mean) * torch.rsqrt(variance + EPSILON),
        ]
        return self.scale_and_shift(torch.cat(normalized)).to(x.dtype)


def discriminator_norm(config: DiscriminatorConfig, channels: int) -> nn.Module:
    """Makes the layer or instance normalisation before a hidden layer's activation; an identity for other norms."""
    kinds = {"layer": LayerNorm, "instance": InstanceNorm}
    return kinds[config.norm](channels) if config.norm in kinds else nn.Identity()


def normalize_weights(module: nn.Module) -> None:
    """Applies weight normalisation to every layer of a module."""
    for layer in module.modules():
        if isinstance(layer, EqualizedWeight):
            layer.normalize_weight()
