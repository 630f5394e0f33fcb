"""Normalisations with learned scale and shift, between a layer and its activation.

Statistics are computed in float32 at least, whatever the input's type. None of them lets a sample's result depend on
the other samples of its minibatch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pggan.config.train import DiscriminatorConfig
from pggan.networks.layers import EqualizedWeight, at_least_float32

EPSILON = 1e-5


class _Affine(nn.Module):
    """A scale (from 1) and a shift (from 0) of each of the `channels` of (N, channels, ...)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def scaled(self, x: Tensor) -> Tensor:
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        return x * self.weight.reshape(shape) + self.bias.reshape(shape)


def _moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over `dims`, which stay as 1; over no dimension, a value's own: itself and 0."""
    if not dims:
        return x, torch.zeros_like(x)
    mean = x.mean(dim=dims, keepdim=True)
    return mean, (x - mean).square().mean(dim=dims, keepdim=True)


class LayerNorm(_Affine):
    """Each sample by its mean and variance over all channels and places (Ba et al. 2016); (N, C, ...) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        y = at_least_float32(x)
        mean, variance = _moments(y, tuple(range(1, x.ndim)))
        return self.scaled((y - mean) * torch.rsqrt(variance + EPSILON)).to(x.dtype)


class InstanceNorm(_Affine):
    """Each map of each sample by its own mean and variance (Ulyanov et al. 2016); (N, C, H, W) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        y = at_least_float32(x)
        mean, variance = _moments(y, (2, 3))
        return self.scaled((y - mean) * torch.rsqrt(variance + EPSILON)).to(x.dtype)


class VirtualBatchNorm(_Affine):
    """Each sample by the statistics of a reference batch together with its own (Salimans et al. 2016, section 3.4).

    (R + N, C, ...) to the same; the first R samples are the reference, n = R. Of a sample, the mean and the mean
    square of each channel weigh 1 / (n + 1), those of the reference n / (n + 1). The reference itself is normalised
    by its own statistics, so that it depends on the weights alone.
    """

    def __init__(self, channels: int, reference: int) -> None:
        super().__init__(channels)
        self.reference = reference

    def forward(self, x: Tensor) -> Tensor:
        y = at_least_float32(x)
        places = tuple(range(2, x.ndim))
        reference, own = y[: self.reference], y[self.reference :]
        known, spread = _moments(reference, (0, *places))
        mean, variance = _moments(own, places)
        # mean squares less the squared mean, without the cancellation
        share, apart = 1 / (self.reference + 1), mean - known
        variance = (1 - share) * spread + share * variance + share * (1 - share) * apart.square()
        mean = known + share * apart
        normalized = [
            (reference - known) * torch.rsqrt(spread + EPSILON),
            (own - mean) * torch.rsqrt(variance + EPSILON),
        ]
        return self.scaled(torch.cat(normalized)).to(x.dtype)


def discriminator_norm(config: DiscriminatorConfig, channels: int) -> nn.Module:
    """What stands before the activation of a discriminator's hidden layer."""
    kinds = {"layer": LayerNorm, "instance": InstanceNorm}
    return kinds[config.norm](channels) if config.norm in kinds else nn.Identity()


def normalize_weights(module: nn.Module) -> None:
    """Weight normalisation of every layer in a module."""
    for layer in module.modules():
        if isinstance(layer, EqualizedWeight):
            layer.normalize_weight()
