"""The mapping network from latents z to w, and truncation by psi (Karras et al. 2019, sections 2 and B)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from pggan.config.network import GeneratorConfig
from pggan.networks.layers import EqualizedLinear, leaky_relu
from pggan.utils.errors import UsageError

# Learning rate of its layers, over the generator's.
RATE = 0.01


class SlowLinear(EqualizedLinear):
    """A fully connected layer that learns at `RATE` times the rate.

    Parameters are stored 1 / RATE as large and used RATE times as large: Adam's steps do not depend on the scale.
    """

    rate = RATE

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.scale *= RATE
        if not self.weight.is_meta:
            with torch.no_grad():
                self.weight.div_(RATE)

    def bias_operand(self, dtype: torch.dtype) -> Tensor:
        return super().bias_operand(dtype) * RATE


class MappingNetwork(nn.Module):
    """`mapping_layers` layers with leaky ReLU: normalised inputs (N, inputs) to w (N, latent_size).

    `average` (latent_size,) is the mean w, which model files hold. `truncation` below 1 moves every w towards it:
    `average + truncation * (w - average)`.
    """

    average: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        sizes = [config.inputs] + [config.latent_size] * config.mapping_layers
        self.layers = nn.ModuleList(SlowLinear(*pair) for pair in pairwise(sizes))
        self.leak, self.truncation = config.leak, 1.0
        self.register_buffer("average", torch.zeros(config.latent_size))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = leaky_relu(layer(x), self.leak)
        return x if self.truncation == 1 else torch.lerp(self.average.to(x.dtype), x, self.truncation)


def truncate(generator: nn.Module, value: float) -> None:
    """Sets how far w is from its average, 0 to 1: 0 makes the average picture alone, 1 pictures as trained.

    Raises `UsageError` where the generator has no mapping network, and for a value out of range.
    """
    if not 0 <= value <= 1:
        raise UsageError(f"truncation {value} is not from 0 to 1")
    mapping = getattr(generator, "mapping", None)
    if mapping is not None:
        mapping.truncation = float(value)
    elif value != 1:
        raise UsageError(
            "this model has no mapping network, so that no average picture is known to truncate towards; leave "
            "--truncation out, or train a model with --mapping 8"
        )
