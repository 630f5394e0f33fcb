"""The progressive generator (Karras et al. 2018, table 2; the reference release's defaults)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pggan.config import GeneratorConfig
from pggan.networks.layers import (
    GAIN,
    EqualizedConv2d,
    EqualizedLayer,
    UpscaleConv2d,
    at_least_float32,
    fade,
    leaky_relu,
    pixel_norm,
    upscale,
)


class InputBlock(nn.Module):
    """Latents (N, inputs) to the 4x4 stage (N, width, 4, 4)."""

    def __init__(self, inputs: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        # one bias a map, not one an output: it is added after the reshape
        self.dense = EqualizedLayer((width * 16, inputs), inputs, width, gain=GAIN / 4)
        self.conv = EqualizedConv2d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.dense.effective_weight().to(x.dtype).t()
        y = y.reshape(x.shape[0], len(self.dense.bias), 4, 4) + self.dense.bias.to(x.dtype)[:, None, None]
        y = pixel_norm(leaky_relu(y), self.epsilon)
        return pixel_norm(leaky_relu(self.conv(y)), self.epsilon)


class GrowBlock(nn.Module):
    """(N, inputs, R, R) to (N, width, 2R, 2R)."""

    def __init__(self, inputs: int, width: int, fused: bool, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.conv0 = UpscaleConv2d(inputs, width, fused)
        self.conv1 = EqualizedConv2d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = pixel_norm(leaky_relu(self.conv0(x)), self.epsilon)
        return pixel_norm(leaky_relu(self.conv1(x)), self.epsilon)


class Generator(nn.Module):
    """G: latents (N, latent_size) and labels (N, label_size) to pictures (N, C, 2**level, 2**level) around [-1, 1].

    Every level exists from the start; growing is choosing the level. There is no activation at the output.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        epsilon = config.pixelnorm_epsilon
        self.blocks = nn.ModuleDict()
        self.to_rgb = nn.ModuleDict()
        for level in range(2, config.max_level + 1):
            name, width = f"{2**level}x{2**level}", config.fmaps(level - 1)
            if level == 2:
                self.blocks[name] = InputBlock(config.latent_size + config.label_size, width, epsilon)
            else:
                self.blocks[name] = GrowBlock(config.fmaps(level - 2), width, config.fused_scale, epsilon)
            self.to_rgb[name] = EqualizedConv2d(width, config.channels, 1, gain=1.0)

    def forward(
        self,
        latents: Tensor,
        level: int,
        alpha: Tensor,
        labels: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Pictures at `level`, faded with the level below by `alpha` (0-d tensor; 0 only below, 1 only this).

        `dtype`: what the layers compute in (default: the latents' own type). The pictures are float32 at least.
        Raises `ValueError` for a level that the network lacks, or labels of another size than it was made for.
        """
        check_level(level, self.config.max_level)
        x = pixel_norm(self._joined(latents, labels), self.config.pixelnorm_epsilon).to(dtype or latents.dtype)
        blocks, to_rgb = list(self.blocks.values()), list(self.to_rgb.values())
        below = x
        for at in range(2, level + 1):
            below, x = x, blocks[at - 2](x)
        picture = at_least_float32(to_rgb[level - 2](x))
        if level == 2:
            return picture
        return fade(picture, upscale(at_least_float32(to_rgb[level - 3](below))), alpha)

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
