"""The progressive discriminator (Karras et al. 2018, table 2; the reference release's defaults)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pggan.config import DiscriminatorConfig
from pggan.networks.generator import check_level
from pggan.networks.layers import (
    ConvDownscale2d,
    EqualizedConv2d,
    EqualizedLinear,
    at_least_float32,
    consecutive_stddev,
    downscale,
    fade,
    leaky_relu,
    minibatch_stddev,
)


class DiscriminatorOutput(NamedTuple):
    """What a discriminator's heads make; None where it has no such head.

    `score` (N,) is raw, without a sigmoid; `features` (N, F) feed the last layer; `class_logits` (N, K).
    """

    score: Tensor
    features: Tensor
    class_logits: Tensor | None = None


class FromRgb(EqualizedConv2d):
    """Pictures (N, C, R, R) to features (N, width, R, R)."""

    def __init__(self, width: int, config: DiscriminatorConfig) -> None:
        super().__init__(config.channels, width, 1, equalized=config.equalized)
        self.leak = config.leak

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(super().forward(x), self.leak)


class ShrinkBlock(nn.Module):
    """(N, width, 2R, 2R) to (N, outputs, R, R)."""

    def __init__(self, width: int, outputs: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.leak = config.leak
        self.conv0 = EqualizedConv2d(width, width, 3, equalized=config.equalized)
        self.conv1 = ConvDownscale2d(width, outputs, config)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(leaky_relu(self.conv0(x), self.leak))


class ScoreHead(nn.Module):
    """(N, width, 4, 4) to scores and class logits: minibatch statistic, convolution, two dense layers.

    The dense layers compute in float32 at least: the last bias's gradient is a small difference of large sums.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.group, self.leak, equalized = config.stddev_group, config.leak, config.equalized
        self.statistic = minibatch_stddev if config.stddev_form == "official" else consecutive_stddev
        width, hidden = config.fmaps(1), config.fmaps(0)
        self.conv = EqualizedConv2d(width + (self.group > 1), width, 3, equalized=equalized)
        self.dense0 = EqualizedLinear(width * 16, hidden, equalized=equalized)
        self.dense1 = EqualizedLinear(hidden, 1 + config.label_size, 1.0, equalized)

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        if self.group > 1:
            x = self.statistic(x, self.group)
        x = at_least_float32(leaky_relu(self.conv(x), self.leak))
        features = leaky_relu(self.dense0(x.flatten(1)), self.leak)
        out = self.dense1(features)
        return DiscriminatorOutput(out[:, 0], features, out[:, 1:] if out.shape[1] > 1 else None)


class Discriminator(nn.Module):
    """D: pictures (N, C, 2**level, 2**level) to a `DiscriminatorOutput`. Every level exists from the start."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.from_rgb = nn.ModuleDict()
        self.blocks = nn.ModuleDict()
        for level in range(2, config.max_level + 1):
            name, width = f"{2**level}x{2**level}", config.fmaps(level - 1)
            self.from_rgb[name] = FromRgb(width, config)
            if level > 2:
                self.blocks[name] = ShrinkBlock(width, config.fmaps(level - 2), config)
        self.head = ScoreHead(config)

    def forward(
        self, images: Tensor, level: int, alpha: Tensor, dtype: torch.dtype | None = None
    ) -> DiscriminatorOutput:
        """Scores of pictures at `level`; `alpha` (0-d tensor) as in the generator: 0 reads only the level below.

        `dtype`: what the convolutions compute in (default: the images' own type); scores are float32 at least.
        Raises `ValueError` for a level that the network lacks, or pictures of another size.
        """
        check_level(level, self.config.max_level)
        if images.shape[1:] != (self.config.channels, 2**level, 2**level):
            raise ValueError(
                f"level {level} takes images (N, {self.config.channels}, {2**level}, {2**level}), "
                f"got {tuple(images.shape)}"
            )
        images = images.to(dtype or images.dtype)
        from_rgb, blocks = list(self.from_rgb.values()), list(self.blocks.values())
        x = from_rgb[level - 2](images)
        if level > 2:
            x = blocks[level - 3](x)
            if level > 3 or self.config.fades_at_8:
                x = fade(x, from_rgb[level - 3](downscale(images)), alpha)
            for at in range(level - 1, 2, -1):
                x = blocks[at - 3](x)
        return self.head(x)
