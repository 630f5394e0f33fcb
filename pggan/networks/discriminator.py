"""The discriminator: what all architectures share, and the progressive one (Karras et al. 2018, table 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pggan.config.train import DiscriminatorConfig
from pggan.networks.generator import Generator, ProgressiveGenerator, check_level
from pggan.networks.heads import DiscriminatorOutput, ScoreHead
from pggan.networks.layers import (
    ConvDownscale2d,
    EqualizedConv2d,
    EqualizedWeight,
    at_least_float32,
    leaky_relu,
)
from pggan.networks.normalization import discriminator_norm, normalize_weights
from pggan.networks.resampling import downscale, fade

__all__ = ["Discriminator", "DiscriminatorOutput", "ProgressiveDiscriminator"]


class FromRgb(EqualizedConv2d):
    """FromRGB, a 1x1 convolution: images (N, C, R, R) to features (N, width, R, R)."""

    def __init__(self, width: int, config: DiscriminatorConfig) -> None:
        super().__init__(config.channels, width, 1, equalized=config.equalized)
        self.leak = config.leak

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(super().forward(x), self.leak)


class ShrinkBlock(nn.Module):
    """Two 3x3 convolutions, the second with a downscale: (N, width, 2R, 2R) to (N, outputs, R, R)."""

    def __init__(self, width: int, outputs: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.leak = config.leak
        self.conv0 = EqualizedConv2d(width, width, 3, equalized=config.equalized)
        self.norm = discriminator_norm(config, width)
        self.conv1 = ConvDownscale2d(width, outputs, config, discriminator_norm(config, outputs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv1(leaky_relu(self.norm(self.conv0(x)), self.leak))
        return out


class Discriminator(nn.Module):
    """D: images (N, C, 2**level, 2**level) to a `DiscriminatorOutput`. Base class of all architectures."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder: Generator | None = None
        self.make_layers(config)
        if config.norm == "weight":
            normalize_weights(self)

    def make_layers(self, config: DiscriminatorConfig) -> None:
        """Makes all layers, and the `decoder` of an auto-encoder."""
        raise NotImplementedError

    def layers_at(self, level: int) -> dict[str, EqualizedWeight]:
        """Returns the layers that a level uses by name, without those of a decoder."""
        layers = {name: layer for name, layer in self.named_modules() if isinstance(layer, EqualizedWeight)}
        return {name: layer for name, layer in layers.items() if not name.startswith("decoder.")}

    def discriminate(self, images: Tensor, level: int, alpha: Tensor) -> DiscriminatorOutput:
        """Computes all outputs except the score and reconstruction of an auto-encoder, which `forward` adds."""
        raise NotImplementedError

    def forward(
        self, images: Tensor, level: int, alpha: Tensor, dtype: torch.dtype | None = None
    ) -> DiscriminatorOutput:
        """Computes the discriminator's outputs at a level.

        Args:
            images: (N, C, 2**level, 2**level) in [-1, 1].
            level: Log2 of the resolution.
            alpha: Fade, a 0-d tensor in [0, 1]: 0 sees only the level below, 1 only this level.
            dtype: In which the convolutions compute; by default the images' own. Scores are float32 or better.

        Raises `ValueError` for a level that the network lacks, or images of another size.
        """
        check_level(level, self.config)
        if images.shape[1:] != (self.config.channels, 2**level, 2**level):
            raise ValueError(
                f"level {level} takes images (N, {self.config.channels}, {2**level}, {2**level}), "
                f"got {tuple(images.shape)}"
            )
        dtype = dtype or images.dtype
        out = self.discriminate(images.to(dtype), level, alpha)
        if self.decoder is None:
            return out
        reconstruction = self.decoder(out.features, level, alpha, dtype=dtype)
        error = (at_least_float32(images) - reconstruction).abs().mean(dim=(1, 2, 3))
        return out._replace(score=-error, reconstruction=reconstruction)


class ProgressiveDiscriminator(Discriminator):
    """The progressive discriminator: every level exists from the start, growing means choosing the level.

    The decoder of an auto-encoder is a progressive generator and fades like one.
    """

    def make_layers(self, config: DiscriminatorConfig) -> None:
        self.from_rgb = nn.ModuleDict()
        self.blocks = nn.ModuleDict()
        for level in range(2, config.max_level + 1):
            name, width = f"{2**level}x{2**level}", config.fmaps(level - 1)
            self.from_rgb[name] = FromRgb(width, config)
            if level > 2:
                self.blocks[name] = ShrinkBlock(width, config.fmaps(level - 2), config)
        self.head = ScoreHead(config)
        if config.decodes:
            self.decoder = ProgressiveGenerator(config.decoder)

    def layers_at(self, level: int) -> dict[str, EqualizedWeight]:
        used = [f"from_rgb.{2**at}x{2**at}." for at in (level - 1, level)]
        used += [f"blocks.{2**at}x{2**at}." for at in range(3, level + 1)]
        layers = super().layers_at(level)
        return {name: layers[name] for name in layers if f"{name}.".startswith(("head.", *used))}

    def discriminate(self, images: Tensor, level: int, alpha: Tensor) -> DiscriminatorOutput:
        from_rgb, blocks = list(self.from_rgb.values()), list(self.blocks.values())
        x = from_rgb[level - 2](images)
        if level > 2:
            x = blocks[level - 3](x)
            if level > 3 or self.config.fades_at_8:
                x = fade(x, from_rgb[level - 3](downscale(images)), alpha)
            for at in range(level - 1, 2, -1):
                x = blocks[at - 3](x)
        out: DiscriminatorOutput = self.head(x)
        return out
