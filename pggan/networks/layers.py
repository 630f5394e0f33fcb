"""Layers with the equalized learning rate, pixelnorm and the minibatch statistic (Karras et al. 2018).

Weights are kept in full precision and cast to the input's type at use, so that the input's type decides what a layer
computes in; whatever must not lose precision (statistics, norms) is computed in float32 at least.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pggan.config.train import NetworkConfig

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


class EqualizedWeight(nn.Module):
    """A weight (outputs, ...) from N(0, 1), scaled by `gain / sqrt(fan_in)` at run time. Section 4.1.

    Not equalized: the weight is drawn at that scale instead, and used as it is (He initialisation). `magnitude`
    (outputs,), where `normalize_weight` has made one: the weight's rows count by their directions alone.
    """

    def __init__(self, shape: tuple[int, ...], fan_in: int, gain: float = GAIN, equalized: bool = True) -> None:
        super().__init__()
        scale = gain / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.randn(shape) * (1.0 if equalized else scale))
        self.magnitude: nn.Parameter | None = None
        self.scale = scale if equalized else 1.0

    def normalize_weight(self) -> None:
        """Weight normalisation (Salimans and Kingma 2016): `w = scale * sqrt(fan_in) * magnitude * v / ||v||` a row.

        The magnitudes are near 1 where the weight is equalized, and chosen so that at first the function is the same.
        """
        self.magnitude = nn.Parameter(self._lengths().detach() / math.sqrt(self.weight[0].numel()))

    def _lengths(self) -> Tensor:
        return torch.linalg.vector_norm(self.weight.flatten(1), dim=1)

    def effective_weight(self) -> Tensor:
        """The weight as the layer uses it."""
        if self.magnitude is None:
            return self.weight * self.scale
        length = self.scale * math.sqrt(self.weight[0].numel()) * self.magnitude / self._lengths()
        return self.weight * length.reshape(-1, *(1 for _ in self.weight.shape[1:]))

    @torch.no_grad()
    def set_effective_weight(self, weight: Tensor) -> None:
        """Makes `effective_weight()` this one, of the same shape; for those that act on weights as they are used."""
        self.weight.copy_(weight / self.scale)
        if self.magnitude is not None:
            self.magnitude.copy_(self._lengths() / math.sqrt(self.weight[0].numel()))


class EqualizedLayer(EqualizedWeight):
    """An equalized weight, and a bias from 0."""

    def __init__(
        self, shape: tuple[int, ...], fan_in: int, biases: int, gain: float = GAIN, equalized: bool = True
    ) -> None:
        super().__init__(shape, fan_in, gain, equalized)
        self.bias = nn.Parameter(torch.zeros(biases))


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


class StridedConv2d(EqualizedLayer):
    """4x4 convolution to half the side, (N, inputs, 2H, 2W) to (N, outputs, H, W) (Radford et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, gain: float = GAIN, equalized: bool = True) -> None:
        super().__init__((outputs, inputs, 4, 4), inputs * 16, outputs, gain, equalized)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.effective_weight().to(x.dtype), self.bias.to(x.dtype)
        return F.conv2d(x, weight, bias, stride=2, padding=1)


class TransposedConv2d(EqualizedLayer):
    """4x4 transposed convolution to twice the side, (N, inputs, H, W) to (N, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int, gain: float = GAIN, equalized: bool = True) -> None:
        # an output value meets 2x2 of the 4x4 weights
        super().__init__((outputs, inputs, 4, 4), inputs * 4, outputs, gain, equalized)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.effective_weight().to(x.dtype).transpose(0, 1), self.bias.to(x.dtype)
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)


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
    """3x3 convolution and 2x2 average with bias, normalisation (if any) and leaky ReLU.

    Fused: one strided 4x4 convolution; bias, normalisation and activation after the average. Unfused: before it. Not
    the same function; a model file says which.
    """

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig, norm: nn.Module | None = None) -> None:
        super().__init__(inputs, outputs, 3, equalized=config.equalized)
        self.fused, self.leak = config.fused_scale, config.leak
        self.norm = norm or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return downscale(leaky_relu(self.norm(super().forward(x)), self.leak))
        kernel = _spread(self.effective_weight()) * 0.25
        y = F.conv2d(x, kernel.to(x.dtype), self.bias.to(x.dtype), stride=2, padding=1)
        return leaky_relu(self.norm(y), self.leak)


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
