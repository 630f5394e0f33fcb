"""Layers of both networks: equalized learning rate, pixelnorm, minibatch stddev (Karras et al. 2018).

Mixed precision: weights stay in float32 and are cast to the input's dtype at use, so that the input decides the dtype
in which a layer computes. The minibatch statistic is computed in float32 or better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pggan.config.train import NetworkConfig
from pggan.networks.convolution import Geometry, convolution
from pggan.networks.resampling import blur, downscale, spread_kernel, upscale

# Gain of He initialisation, for layers before a (leaky) ReLU.
GAIN = math.sqrt(2.0)


def at_least_float32(x: Tensor) -> Tensor:
    """Converts half precision to float32; leaves float32 and float64 unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def leaky_relu(x: Tensor, leak: float) -> Tensor:
    """Returns `x` where it is positive, `leak * x` elsewhere."""
    return F.leaky_relu(x, leak)


def pixel_norm(x: Tensor, epsilon: float) -> Tensor:
    """Pixelnorm: `x / sqrt(mean over channels of x^2 + epsilon)`; x (N, C) or (N, C, H, W). Section 4.2."""
    if x.dtype == torch.float16:
        epsilon = max(epsilon, 1e-4)  # 1e-8 is 0 in half precision; the reference release's choice
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + epsilon)


class EqualizedWeight(nn.Module):
    """Equalized learning rate: a weight (outputs, ...) from N(0, 1), times `gain / sqrt(fan_in)` at use. Section 4.1.

    If not `equalized`, the weight is drawn at that scale and used as it is (He initialisation). `magnitude` (outputs,)
    exists after `normalize_weight`: it holds the rows' relative lengths, and the weight counts by their directions.

    `prepared_weight` and, where there is a bias, `prepared_bias` are None, but within a `functional_call` that hands
    over `prepared_weights`: what the layer's operator takes, computed once for several passes.
    """

    prepared_weight: Tensor | None
    # learning rate over that of the other layers, where the scale has it as a factor
    rate: float = 1.0

    def __init__(self, shape: tuple[int, ...], fan_in: int, gain: float = GAIN, equalized: bool = True) -> None:
        super().__init__()
        scale = gain / math.sqrt(fan_in)
        weight = torch.empty(shape)
        if not weight.is_meta:  # drawing on the meta device would import torch's compiler, which takes a second
            weight.normal_().mul_(1.0 if equalized else scale)
        self.weight = nn.Parameter(weight)
        self.magnitude: nn.Parameter | None = None
        self.scale = scale if equalized else 1.0
        self.register_buffer("prepared_weight", None, persistent=False)

    def normalize_weight(self) -> None:
        """Applies weight normalisation (Salimans and Kingma 2016): `w = scale * sqrt(fan_in) * magnitude * v / ||v||`.

        w and v are rows of the weight. The first magnitudes leave the layer's function unchanged; with an equalized
        weight they are near 1.
        """
        self.magnitude = nn.Parameter(_lengths(self.weight).detach() / math.sqrt(self.weight[0].numel()))

    def effective_weight(self) -> Tensor:
        """Returns the weight that the layer uses: scaled, and normalised if it has a magnitude."""
        return self.scaled(self.weight, self.magnitude)

    def scaled(self, weight: Tensor, magnitude: Tensor | None) -> Tensor:
        """Returns the effective weight of given parameters."""
        if magnitude is None:
            return weight * self.scale
        length = self.scale * math.sqrt(weight[0].numel()) * magnitude / _lengths(weight)
        return weight * length.reshape(-1, *(1 for _ in weight.shape[1:]))

    def operand(self, effective_weight: Tensor, dtype: torch.dtype) -> Tensor:
        """Returns what the layer's operator takes for an effective weight; `dtype`: in which convolutions compute."""
        return effective_weight

    def weight_operand(self, dtype: torch.dtype) -> Tensor:
        """Returns what the layer's operator takes, prepared or computed now."""
        if self.prepared_weight is not None:
            return self.prepared_weight.to(dtype)
        return self.operand(self.effective_weight(), dtype).to(dtype)

    @torch.no_grad()
    def set_effective_weight(self, weight: Tensor) -> None:
        """Stores a weight so that `effective_weight()` returns it, e.g. after clipping."""
        self.weight.copy_(weight / self.scale)
        if self.magnitude is not None:
            self.magnitude.copy_(_lengths(self.weight) / math.sqrt(self.weight[0].numel()))


def _lengths(weight: Tensor) -> Tensor:
    """Returns the lengths of a weight's rows."""
    lengths: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return lengths


class EqualizedLayer(EqualizedWeight):
    """An equalized weight and a bias, initially 0."""

    prepared_bias: Tensor | None

    def __init__(
        self, shape: tuple[int, ...], fan_in: int, biases: int, gain: float = GAIN, equalized: bool = True
    ) -> None:
        super().__init__(shape, fan_in, gain, equalized)
        self.bias = nn.Parameter(torch.zeros(biases))
        self.register_buffer("prepared_bias", None, persistent=False)

    def bias_operand(self, dtype: torch.dtype) -> Tensor:
        """Returns the bias in `dtype`, prepared or converted now."""
        return (self.bias if self.prepared_bias is None else self.prepared_bias).to(dtype)


class EqualizedLinear(EqualizedLayer):
    """Fully connected layer: (N, inputs) to (N, outputs)."""

    def __init__(self, inputs: int, outputs: int, gain: float = GAIN, equalized: bool = True) -> None:
        super().__init__((outputs, inputs), inputs, outputs, gain, equalized)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight_operand(x.dtype), self.bias_operand(x.dtype))


class ConvolutionLayer(EqualizedLayer):
    """What the convolutions share: one operator, with a kernel made of the effective weight."""

    geometry: Geometry

    def kernel(self, effective_weight: Tensor) -> Tensor:
        """Returns the operator's kernel, in the dtype of the effective weight."""
        return effective_weight

    def operand(self, effective_weight: Tensor, dtype: torch.dtype) -> Tensor:
        kernel = self.kernel(effective_weight)
        if effective_weight.is_contiguous():
            return kernel.to(dtype)
        return kernel.to(dtype, memory_format=torch.channels_last)  # as the pictures', so that no pass converts it

    def forward(self, x: Tensor) -> Tensor:
        return convolution(x, self.weight_operand(x.dtype), self.bias_operand(x.dtype), self.geometry)


class EqualizedConv2d(ConvolutionLayer):
    """Convolution with zero padding: (N, inputs, H, W) to (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, gain: float = GAIN, equalized: bool = True) -> None:
        super().__init__((outputs, inputs, kernel, kernel), inputs * kernel * kernel, outputs, gain, equalized)
        self.geometry = Geometry(padding=kernel // 2)


class StridedConv2d(ConvolutionLayer):
    """4x4 convolution with stride 2 (Radford et al. 2016): (N, inputs, 2H, 2W) to (N, outputs, H, W)."""

    geometry = Geometry(stride=2, padding=1)

    def __init__(self, inputs: int, outputs: int, gain: float = GAIN, equalized: bool = True) -> None:
        super().__init__((outputs, inputs, 4, 4), inputs * 16, outputs, gain, equalized)


class TransposedConv2d(ConvolutionLayer):
    """4x4 transposed convolution with stride 2: (N, inputs, H, W) to (N, outputs, 2H, 2W)."""

    geometry = Geometry(stride=2, padding=1, transposed=True)

    def __init__(self, inputs: int, outputs: int, gain: float = GAIN, equalized: bool = True) -> None:
        # fan-in: an output pixel is a sum over 2x2 of the 4x4 weights
        super().__init__((outputs, inputs, 4, 4), inputs * 4, outputs, gain, equalized)

    def kernel(self, effective_weight: Tensor) -> Tensor:
        return effective_weight.transpose(0, 1)


class UpscaleConv2d(EqualizedConv2d):
    """Nearest-neighbour upscale, then 3x3 convolution; fused: the same function as one transposed 4x4 convolution.

    Bilinear resampling blurs the result before the bias is added.
    """

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        super().__init__(inputs, outputs, 3, equalized=config.equalized)
        self.fused, self.bilinear = config.fused_scale, config.resample == "bilinear"
        if self.fused:
            self.geometry = Geometry(stride=2, padding=1, transposed=True)

    def kernel(self, effective_weight: Tensor) -> Tensor:
        # a transposed convolution scatters, hence the kernel turned by 180 degrees
        return spread_kernel(effective_weight, 1.0, True).transpose(0, 1) if self.fused else effective_weight

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.fused else upscale(x)
        if not self.bilinear:
            return super().forward(x)
        y = convolution(x, self.weight_operand(x.dtype), None, self.geometry)
        return blur(y) + self.bias_operand(x.dtype)[:, None, None]


class ConvDownscale2d(EqualizedConv2d):
    """3x3 convolution and 2x2 average, with bias, normalisation (if any) and leaky ReLU.

    Fused: one strided 4x4 convolution, then bias, normalisation and activation. Unfused: these come before the average,
    which is another function. The model file records which. Bilinear resampling blurs the input.
    """

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig, norm: nn.Module | None = None) -> None:
        super().__init__(inputs, outputs, 3, equalized=config.equalized)
        self.fused, self.leak = config.fused_scale, config.leak
        self.bilinear = config.resample == "bilinear"
        self.norm = norm or nn.Identity()
        if self.fused:
            self.geometry = Geometry(stride=2, padding=1)

    def kernel(self, effective_weight: Tensor) -> Tensor:
        return spread_kernel(effective_weight, 0.25) if self.fused else effective_weight

    def forward(self, x: Tensor) -> Tensor:
        y = leaky_relu(self.norm(super().forward(blur(x) if self.bilinear else x)), self.leak)
        return y if self.fused else downscale(y)


def prepared_weights(
    layers: Mapping[str, EqualizedWeight], parameters: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Computes what layers' operators take (scaled, normalised, spread, cast), once for several passes of a step.

    Gradients of the passes add up in it and go through these operations once.

    Args:
        layers: Layers by name.
        parameters: The parameters of the network that holds them, by name.
        dtype: In which convolutions compute.

    Returns:
        Tensors by name, which `torch.func.functional_call` takes beside the parameters.
    """
    prepared = {}
    for name, layer in layers.items():
        weight = layer.scaled(parameters[f"{name}.weight"], parameters.get(f"{name}.magnitude"))
        prepared[f"{name}.prepared_weight"] = layer.operand(weight, dtype)
        if isinstance(layer, ConvolutionLayer):
            prepared[f"{name}.prepared_bias"] = parameters[f"{name}.bias"].to(dtype)
    return prepared


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Minibatch standard deviation (stddev): appends a map of that over a group of samples, averaged over all features.

    x (N, C, H, W) to (N, C + 1, H, W). Groups have `min(group, N)` members, N / group apart: sample n is in group
    n mod (N / group). The variance is biased and computed in float32 or better. Section 3.

    Raises `ValueError` where N cannot be divided into groups.
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
    """Minibatch stddev as in pytorch_GAN_zoo, for models trained with it; shapes as in `minibatch_stddev`.

    Groups are consecutive samples; a minibatch that they do not divide is one group. The variance is unbiased. A single
    sample has 0.
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
    """Appends a map that holds one value of each sample: x (N, C, H, W), values (N,)."""
    n, _, h, w = x.shape
    return torch.cat([x, values.to(x.dtype).reshape(n, 1, 1, 1).expand(n, 1, h, w)], dim=1)
