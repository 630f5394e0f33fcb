"""The progressive generator (Karras et al. 2018, table 2; the reference release's defaults)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pggan.config import GeneratorConfig
from pggan.networks.layers import (
    GAIN,
    EqualizedConv2d,
    EqualizedLayer,
    PixelNorm,
    UpscaleConv2d,
    at_least_float32,
    fade,
    leaky_relu,
    pixel_norm,
    upscale,
)


def _norm(config: GeneratorConfig) -> nn.Module:
    """What follows every activation."""
    return PixelNorm(config.pixelnorm_epsilon) if config.norm == "pixel" else nn.Identity()


class InputBlock(nn.Module):
    """Latents (N, inputs) to the 4x4 stage (N, width, 4, 4)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        inputs, self.width = config.latent_size + config.label_size, config.fmaps(1)
        self.leak, self.norm = config.leak, _norm(config)
        # one bias a map, not one an output: it is added after the reshape
        biases = self.width * (16 if config.dense_bias == "output" else 1)
        self.dense = EqualizedLayer((self.width * 16, inputs), inputs, biases, GAIN / 4, config.equalized)
        self.conv = EqualizedConv2d(self.width, self.width, 3, equalized=config.equalized)

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.dense.effective_weight().to(x.dtype).t()
        side = 4 if len(self.dense.bias) > self.width else 1
        y = y.reshape(x.shape[0], self.width, 4, 4) + self.dense.bias.to(x.dtype).reshape(self.width, side, side)
        y = self.norm(leaky_relu(y, self.leak))
        return self.norm(leaky_relu(self.conv(y), self.leak))


class GrowBlock(nn.Module):
    """(N, inputs, R, R) to (N, width, 2R, 2R)."""

    def __init__(self, inputs: int, width: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.leak, self.norm = config.leak, _norm(config)
        self.conv0 = UpscaleConv2d(inputs, width, config)
        self.conv1 = EqualizedConv2d(width, width, 3, equalized=config.equalized)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(leaky_relu(self.conv0(x), self.leak))
        return self.norm(leaky_relu(self.conv1(x), self.leak))


class Generator(nn.Module):
    """G: latents (N, latent_size) and labels (N, label_size) to pictures (N, C, 2**level, 2**level) around [-1, 1].

    Every level exists from the start; growing is choosing the level. By default there is no activation at the output.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleDict()
        self.to_rgb = nn.ModuleDict()
        for level in range(2, config.max_level + 1):
            name, width = f"{2**level}x{2**level}", config.fmaps(level - 1)
            if level == 2:
                self.blocks[name] = InputBlock(config)
            else:
                self.blocks[name] = GrowBlock(config.fmaps(level - 2), width, config)
            self.to_rgb[name] = EqualizedConv2d(width, config.channels, 1, 1.0, config.equalized)

    def forward(
        self,
        latents: Tensor,
        level: int,
        alpha: Tensor | None,
        labels: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Pictures at `level`, faded with the level below by `alpha` (0-d tensor; 0 only below, 1 only this).

        `alpha` None is 1 without computing what would not show.
        `dtype`: what the layers compute in (default: the latents' own type). The pictures are float32 at least.
        Raises `ValueError` for a level that the network lacks, or labels of another size than it was made for.
        """
        check_level(level, self.config.max_level)
        x = self._joined(latents, labels)
        if self.config.normalize_latents:
            x = pixel_norm(x, self.config.pixelnorm_epsilon)
        x = x.to(dtype or latents.dtype)
        blocks, to_rgb = list(self.blocks.values()), list(self.to_rgb.values())
        below = x
        for at in range(2, level + 1):
            below, x = x, blocks[at - 2](x)
        picture = at_least_float32(to_rgb[level - 2](x))
        if level > 2 and alpha is not None:
            picture = fade(picture, upscale(at_least_float32(to_rgb[level - 3](below))), alpha)
        return picture.tanh() if self.config.output == "tanh" else picture

    def _joined(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Latents and labels side by side: they are normalised together."""
        size = self.config.label_size
        if labels is None and size == 0:
            return latents
        if labels is None or labels.shape != (latents.shape[0], size):
            got = "none" if labels is None else tuple(labels.shape)
            raise ValueError(f"labels of shape ({latents.shape[0]}, {size}) are needed, got {got}")
        return torch.cat([latents, labels.to(latents.dtype)], dim=1)


def check_level(level: int, max_level: int) -> None:
    if not 2 <= level <= max_level:
        raise ValueError(f"level {level} is not from 2 (4x4) to {max_level} ({2**max_level}x{2**max_level})")
