"""Layers with the equalized learning rate, pixelnorm and the minibatch statistic (Karras et al. 2018).

Weights are kept in full precision and cast to the input's type at use, so that the input's type decides what a layer
computes in; whatever must not lose precision (statistics, norms) is computed in float32 at least.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pggan.config import NetworkConfig

GAIN = math.sqrt(2.0)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or unchanged where it is more precise already."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def leaky_relu(x: Tensor, leak: float) -> Tensor:
    """`x`, or `leak * x` below 0."""
    return F.leaky_relu(x, leak)


def pixel_norm(x: Tensor, epsilon: float) -> Tensor:
    """`x / sqrt(mean over channels of x^2 + epsilon)`; x is (N, C) or (N, C, H, W). Section 4.2."""
    if x.dtype == torch.float16:
        epsilon = max(epsilon, 1e-4)  # 1e-8 is 0 in half precision; the reference release's choice
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + epsilon)


def upscale(x: Tensor) -> Tensor:
    """Nearest neighbour, x2: (N, C, H, W) to (N, C, 2H, 2W)."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def downscale(x: Tensor) -> Tensor:
    """2x2 box filter: (N, C, 2H, 2W) to (N, C, H, W)."""
    return F.avg_pool2d(x, 2)


def fade(fine: Tensor, coarse: Tensor, alpha: Tensor) -> Tensor:
    """alpha 0: only `coarse`, 1: only `fine`, exactly; computed in the inputs' type."""
    share = alpha.to(fine.dtype)
    return fine * share + coarse * (1 - share)


class PixelNorm(nn.Module):
    """`pixel_norm` as a module without weights."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return pixel_norm(x, self.epsilon)


class EqualizedLayer(nn.Module):
    """A weight from N(0, 1), scaled by `gain / sqrt(fan_in)` at run time, and a bias from 0. Section 4.1.

    Not equalized: the weight is drawn at that scale instead, and used as it is (He initialisation).
    """

    def __init__(
        self, shape: tuple[int, ...], fan_in: int, biases: int, gain: float = GAIN, equalized: bool = True
    ) -> None:
        super().__init__()
        scale = gain / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.randn(shape) * (1.0 if equalized else scale))
        self.bias = nn.Parameter(torch.zeros(biases))
        self.scale = scale if equalized else 1.0

    def effective_weight(self) -> Tensor:
        return self.weight * self.scale


class EqualizedLinear(EqualizedLayer):
    """(N, inputs) to (N, outputs)."""

    def __init__(self, inputs: int, outputs: int, gain: float = GAIN, equalized: bool = True) -> None:
        super().__init__((outputs, inputs), inputs, outputs, gain, equalized)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.effective_weight().to(x.dtype), self.bias.to(x.dtype))


class EqualizedConv2d(EqualizedLayer):
    """(N, inputs, H, W) to (N, outputs, H, W), zero-padded."""

    def __init__(self, inputs: int, outputs: int, kernel: int, gain: float = GAIN, equalized: bool = True) -> None:
        super().__init__((outputs, inputs, kernel, kernel), inputs * kernel * kernel, outputs, gain, equalized)
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.effective_weight().to(x.dtype), self.bias.to(x.dtype), padding=self.padding)


def _spread(kernel: Tensor) -> Tensor:
    """3x3 kernels to 4x4: zero-padded by one, the four shifted copies added."""
    padded = F.pad(kernel, (1, 1, 1, 1))
    return padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]


class UpscaleConv2d(EqualizedConv2d):
    """Nearest-neighbour upscale, then 3x3 convolution; fused: the same function as one strided 4x4 convolution."""

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        super().__init__(inputs, outputs, 3, equalized=config.equalized)
        self.fused = config.fused_scale

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return super().forward(upscale(x))
        # a transposed convolution scatters, hence the flip
        kernel = _spread(self.effective_weight().flip(2, 3).transpose(0, 1))
        return F.conv_transpose2d(x, kernel.to(x.dtype), self.bias.to(x.dtype), stride=2, padding=1)


class ConvDownscale2d(EqualizedConv2d):
    """3x3 convolution and 2x2 average with bias and leaky ReLU.

    Fused: one strided 4x4 convolution, bias and activation after the average. Unfused: before it. Not the same
    function; a model file says which.
    """

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        super().__init__(inputs, outputs, 3, equalized=config.equalized)
        self.fused, self.leak = config.fused_scale, config.leak

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return downscale(leaky_relu(super().forward(x), self.leak))
        kernel = _spread(self.effective_weight()) * 0.25
        return leaky_relu(F.conv2d(x, kernel.to(x.dtype), self.bias.to(x.dtype), stride=2, padding=1), self.leak)


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Appends one map that holds the standard deviation over a group of samples, averaged over all else.

    x (N, C, H, W) to (N, C + 1, H, W). Groups have `min(group, N)` members, N / group apart: sample n is in group
    n mod (N / group). Biased variance, in float32 at least. Section 3. Raises `ValueError` where N cannot be grouped.
    """
    n, c, h, w = x.shape
    size = min(group, n)
    if n % size:
        raise ValueError(f"a minibatch of {n} is not divisible by its minibatch-stddev group of {size}")
    y = at_least_float32(x).reshape(size, n // size, c, h, w)
    variance = (y - y.mean(dim=0, keepdim=True)).square().mean(dim=0)
    statistic = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3)).repeat(size)
    return _with_map(x, statistic)


def consecutive_stddev(x: Tensor, group: int) -> Tensor:
    """The statistic in pytorch_GAN_zoo's form, for models that were trained with it; shapes as `minibatch_stddev`.

    Groups are neighbours; a minibatch that they do not divide is one group; unbiased variance; 0 for a single sample.
    """
    n, c, h, w = x.shape
    size = min(group, n)
    size = n if n % size else size
    if size == 1:
        return _with_map(x, torch.zeros(n, device=x.device, dtype=x.dtype))
    y = at_least_float32(x).reshape(n // size, size, c, h, w)
    variance = (y - y.mean(dim=1, keepdim=True)).square().sum(dim=1) / (size - 1)
    statistic = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3)).repeat_interleave(size)
    return _with_map(x, statistic)


def _with_map(x: Tensor, values: Tensor) -> Tensor:
    """Appends a map that holds one value a sample: x (N, C, H, W), values (N,)."""
    n, _, h, w = x.shape
    return torch.cat([x, values.to(x.dtype).reshape(n, 1, 1, 1).expand(n, 1, h, w)], dim=1)
