"""Baselines to compare the progressive networks with: small networks of one resolution, 8x8 to 64x64.

Fully connected (fc): three layers. Convolutional (dcgan, after Radford et al. 2016): four layers, three of them 4x4
with stride 2. Inputs, outputs and options are those of the progressive networks. Nothing fades: `alpha` is ignored.
"""

from __future__ import annotations

from torch import Tensor

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator, NormActivation
from pggan.networks.heads import DiscriminatorOutput, FlatHead
from pggan.networks.layers import EqualizedLinear, StridedConv2d, TransposedConv2d, at_least_float32, leaky_relu
from pggan.networks.normalization import discriminator_norm


class FcGenerator(Generator):
    """Three fully connected layers; the hidden ones are `fmaps(0)` wide."""

    def make_layers(self, config: GeneratorConfig) -> None:
        hidden, equalized = config.fmaps(0), config.equalized
        self.dense0 = EqualizedLinear(config.inputs, hidden, equalized=equalized)
        self.dense1 = EqualizedLinear(hidden, hidden, equalized=equalized)
        self.dense2 = EqualizedLinear(hidden, config.channels * config.resolution**2, 1.0, equalized)
        self.act0, self.act1 = NormActivation(hidden, config), NormActivation(hidden, config)

    def synthesize(self, x: Tensor, level: int, alpha: Tensor | None) -> Tensor:
        x = self.act1(self.dense1(self.act0(self.dense0(x))))
        side = self.config.resolution
        return at_least_float32(self.dense2(self.without_reference(x))).reshape(-1, self.config.channels, side, side)


class FcDiscriminator(Discriminator):
    """Two fully connected layers, `fmaps(0)` wide, then the head; the first layer is never normalised."""

    def make_layers(self, config: DiscriminatorConfig) -> None:
        hidden, equalized = config.fmaps(0), config.equalized
        self.dense0 = EqualizedLinear(config.channels * config.resolution**2, hidden, equalized=equalized)
        self.dense1 = EqualizedLinear(hidden, hidden, equalized=equalized)
        self.norm = discriminator_norm(config, hidden)
        self.head = FlatHead(hidden, config)
        if config.decodes:
            self.decoder = FcGenerator(config.decoder)

    def discriminate(self, images: Tensor, level: int, alpha: Tensor) -> DiscriminatorOutput:
        x = leaky_relu(self.dense0(images.flatten(1)), self.config.leak)
        out: DiscriminatorOutput = self.head(leaky_relu(self.norm(self.dense1(x)), self.config.leak))
        return out


class ConvGenerator(Generator):
    """A dense layer to an eighth of the resolution, then three transposed convolutions (DCGAN)."""

    def make_layers(self, config: GeneratorConfig) -> None:
        side, (first, second, third), equalized = config.resolution // 8, config.baseline_widths, config.equalized
        self.dense = EqualizedLinear(config.inputs, first * side * side, equalized=equalized)
        self.conv0 = TransposedConv2d(first, second, equalized=equalized)
        self.conv1 = TransposedConv2d(second, third, equalized=equalized)
        self.conv2 = TransposedConv2d(third, config.channels, 1.0, equalized)
        self.act0, self.act1, self.act2 = (NormActivation(width, config) for width in (first, second, third))

    def synthesize(self, x: Tensor, level: int, alpha: Tensor | None) -> Tensor:
        side = self.config.resolution // 8
        x = self.act0(self.dense(x).unflatten(1, (-1, side, side)))
        x = self.act2(self.conv1(self.act1(self.conv0(x))))
        return at_least_float32(self.conv2(self.without_reference(x)))


class ConvDiscriminator(Discriminator):
    """Three strided convolutions to an eighth of the resolution, then the head (DCGAN).

    The first convolution is never normalised.
    """

    def make_layers(self, config: DiscriminatorConfig) -> None:
        side, (last, second, first), equalized = config.resolution // 8, config.baseline_widths, config.equalized
        self.conv0 = StridedConv2d(config.channels, first, equalized=equalized)
        self.conv1 = StridedConv2d(first, second, equalized=equalized)
        self.conv2 = StridedConv2d(second, last, equalized=equalized)
        self.norm1, self.norm2 = discriminator_norm(config, second), discriminator_norm(config, last)
        self.head = FlatHead(last * side * side, config)
        if config.decodes:
            self.decoder = ConvGenerator(config.decoder)

    def discriminate(self, images: Tensor, level: int, alpha: Tensor) -> DiscriminatorOutput:
        leak = self.config.leak
        x = leaky_relu(self.conv0(images), leak)
        x = leaky_relu(self.norm1(self.conv1(x)), leak)
        out: DiscriminatorOutput = self.head(leaky_relu(self.norm2(self.conv2(x)), leak).flatten(1))
        return out
