"""The generator: what all architectures share, and the progressive one (Karras et al. 2018, table 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pggan.config.train import GeneratorConfig, NetworkConfig, level_of
from pggan.networks.layers import (
    GAIN,
    EqualizedConv2d,
    EqualizedLayer,
    UpscaleConv2d,
    at_least_float32,
    leaky_relu,
    pixel_norm,
)
from pggan.networks.mapping import MappingNetwork
from pggan.networks.normalization import VirtualBatchNorm
from pggan.networks.resampling import fade, upscale


class NormActivation(nn.Module):
    """Leaky ReLU with a normalisation: virtual batch norm before it, pixelnorm after it, or none."""

    def __init__(self, channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        virtual = config.norm == "virtual-batch"
        self.leak = config.leak
        self.before = VirtualBatchNorm(channels, config.reference_size) if virtual else nn.Identity()
        self.epsilon = config.pixelnorm_epsilon if config.norm == "pixel" else None

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.before(x), self.leak)
        return x if self.epsilon is None else pixel_norm(x, self.epsilon)


class InputBlock(nn.Module):
    """A dense layer and a 3x3 convolution: inputs (N, inputs) to features (N, width, 4, 4)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        inputs, self.width = config.first_inputs, config.fmaps(1)
        self.act0, self.act1 = NormActivation(self.width, config), NormActivation(self.width, config)
        # one bias for each map by default, added after the reshape
        biases = self.width * (16 if config.dense_bias == "output" else 1)
        gain = GAIN if config.gains == "he" else GAIN / 4
        self.dense = EqualizedLayer((self.width * 16, inputs), inputs, biases, gain, config.equalized)
        self.conv = EqualizedConv2d(self.width, self.width, 3, equalized=config.equalized)

    def forward(self, x: Tensor) -> Tensor:
        return self.from_dense(x @ self.dense.weight_operand(x.dtype).t())

    def from_dense(self, y: Tensor) -> Tensor:
        """Computes features (N, width, 4, 4) from the dense layer's output (N, width * 16), its bias not yet added."""
        side = 4 if len(self.dense.bias) > self.width else 1
        y = y.reshape(y.shape[0], self.width, 4, 4) + self.dense.bias.to(y.dtype).reshape(self.width, side, side)
        out: Tensor = self.act1(self.conv(self.act0(y)))
        return out


class GrowBlock(nn.Module):
    """Two 3x3 convolutions, the first with an upscale: (N, inputs, R, R) to (N, width, 2R, 2R)."""

    def __init__(self, inputs: int, width: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.act0, self.act1 = NormActivation(width, config), NormActivation(width, config)
        self.conv0 = UpscaleConv2d(inputs, width, config)
        self.conv1 = EqualizedConv2d(width, width, 3, equalized=config.equalized)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act1(self.conv1(self.act0(self.conv0(x))))
        return out


class Generator(nn.Module):
    """G: latents and labels to images (N, C, 2**level, 2**level), about [-1, 1]. Base class of all architectures.

    With virtual batch norm the buffer `reference` (R, inputs) holds the reference batch: latents, then labels. It is
    drawn together with the weights and saved with the model. It passes through the layers in front of every minibatch.
    """

    reference: Tensor | None

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.make_layers(config)
        self.mapping = MappingNetwork(config) if config.mapping_layers else None
        virtual = config.norm == "virtual-batch"
        self.register_buffer("reference", _random_inputs(config, config.reference_size) if virtual else None)

    def make_layers(self, config: GeneratorConfig) -> None:
        """Makes all layers."""
        raise NotImplementedError

    def synthesize(self, x: Tensor, level: int, alpha: Tensor | None) -> Tensor:
        """Computes images (N, C, R, R) from inputs (N, inputs), which the reference batch precedes, if any."""
        raise NotImplementedError

    def layer_level(self, name: str) -> int:
        """Returns the level whose layers a parameter belongs to, by its name; the first where all levels share it."""
        return self.config.min_level

    def forward(
        self,
        latents: Tensor,
        level: int,
        alpha: Tensor | None,
        labels: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Computes images (N, C, 2**level, 2**level) at a level.

        Args:
            latents: (N, latent_size + code_size): noise, then categorical codes one-hot, then continuous codes.
            level: Log2 of the resolution.
            alpha: Fade, a 0-d tensor in [0, 1]: 0 shows only the level below, 1 only this level. None is 1, without
                computing the level below's image.
            labels: (N, label_size).
            dtype: In which the layers compute; by default the latents' own. Images are float32 or better.

        Raises `ValueError` for a level that the network lacks, or latents or labels of another size.
        """
        check_level(level, self.config)
        x = self.first_inputs(latents, labels).to(dtype or latents.dtype)
        images = self.synthesize(x, level, alpha)
        return images.tanh() if self.config.output == "tanh" else images

    @torch.no_grad()
    def average_w(self, label_layout: tuple[int, ...] = (), count: int = 4096) -> Tensor:
        """Returns the mean output (latent_size,) of the mapping network over `count` inputs, always the same ones.

        They are noise, codes as in training, and random labels.

        Args:
            label_layout: Classes of each label column, 0 of a number; empty: all labels are classes of one column.
            count: Inputs.
        """
        assert self.mapping is not None, "the generator has no mapping network"
        size, like = self.config.latent_size + self.config.code_size, self.mapping.average
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            inputs = _random_inputs(self.config, count, label_layout).to(like)
        truncation, self.mapping.truncation = self.mapping.truncation, 1.0
        labels = inputs[:, size:] if self.config.label_size else None
        w = self.without_reference(self.mapping(self.normalized_inputs(inputs[:, :size], labels)))
        self.mapping.truncation = truncation
        return w.mean(dim=0)

    def without_reference(self, x: Tensor) -> Tensor:
        """Cuts off the reference batch, which precedes the samples."""
        return x if self.reference is None else x[len(self.reference) :]

    def first_inputs(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Returns what the first block takes: `normalized_inputs`, through the mapping network, if any."""
        x = self.normalized_inputs(latents, labels)
        return x if self.mapping is None else self.mapping(x)

    def normalized_inputs(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Returns (R + N, inputs): noise and labels, normalised together, then codes; R reference rows come first."""
        config = self.config
        latents, labels = self._checked(latents, labels)
        if self.reference is not None:
            reference = self.reference.to(latents.dtype)
            latents = torch.cat([reference[:, : latents.shape[1]], latents])
            labels = None if labels is None else torch.cat([reference[:, latents.shape[1] :], labels])
        noise = latents[:, : config.latent_size] if config.code_size else latents
        x = noise if labels is None else torch.cat([noise, labels], dim=1)
        if config.normalize_latents:
            x = pixel_norm(x, config.pixelnorm_epsilon)
        return torch.cat([x, latents[:, config.latent_size :]], dim=1) if config.code_size else x

    def _checked(self, latents: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        size, classes = self.config.latent_size + self.config.code_size, self.config.label_size
        if latents.ndim != 2 or latents.shape[1] != size:
            raise ValueError(f"latents of shape (N, {size}) are needed, got {tuple(latents.shape)}")
        if labels is None and classes == 0:
            return latents, None
        if labels is None or labels.shape != (latents.shape[0], classes):
            got = "none" if labels is None else tuple(labels.shape)
            raise ValueError(f"labels of shape ({latents.shape[0]}, {classes}) are needed, got {got}")
        return latents, labels.to(latents.dtype) if classes else None


class ProgressiveGenerator(Generator):
    """The progressive generator: every level exists from the start, growing means choosing the level."""

    def make_layers(self, config: GeneratorConfig) -> None:
        self.blocks = nn.ModuleDict()
        self.to_rgb = nn.ModuleDict()
        rgb_gain = GAIN if config.gains == "he" else 1.0
        for level in range(2, config.max_level + 1):
            name, width = f"{2**level}x{2**level}", config.fmaps(level - 1)
            if level == 2:
                self.blocks[name] = InputBlock(config)
            else:
                self.blocks[name] = GrowBlock(config.fmaps(level - 2), width, config)
            self.to_rgb[name] = EqualizedConv2d(width, config.channels, 1, rgb_gain, config.equalized)

    def layer_level(self, name: str) -> int:
        _, _, layer = name.partition(".")  # blocks.8x8.conv0.weight, to_rgb.8x8.bias
        return level_of(int(layer.partition("x")[0])) if name.startswith(("blocks.", "to_rgb.")) else 2

    def synthesize(self, x: Tensor, level: int, alpha: Tensor | None) -> Tensor:
        blocks, to_rgb = list(self.blocks.values()), list(self.to_rgb.values())
        below = x
        for at in range(2, level + 1):
            below, x = x, blocks[at - 2](x)
        images = at_least_float32(to_rgb[level - 2](self.without_reference(x)))
        if level > 2 and alpha is not None:
            coarse = to_rgb[level - 3](self.without_reference(below))
            images = fade(images, upscale(at_least_float32(coarse)), alpha)
        return images


def _random_inputs(config: GeneratorConfig, count: int, label_layout: tuple[int, ...] = ()) -> Tensor:
    """Draws (count, inputs): noise, codes distributed as in training, random labels (layout as in `average_w`)."""

    def classes(values: int) -> Tensor:
        return torch.eye(values)[torch.randint(values, (count,))]

    def numbers(columns: int) -> Tensor:
        return torch.rand(count, columns) * 2 - 1

    parts = [torch.randn(count, config.latent_size), *map(classes, config.categorical), numbers(config.continuous)]
    if config.label_size:
        parts += [classes(size) if size else numbers(1) for size in label_layout or (config.label_size,)]
    return torch.cat(parts, dim=1)


def check_level(level: int, config: NetworkConfig) -> None:
    """Raises `ValueError` for a level that a network lacks."""
    first, last = config.min_level, config.max_level
    if not first <= level <= last:
        raise ValueError(
            f"level {level} is not from {first} ({2**first}x{2**first}) to {last} ({2**last}x{2**last})"
            if first < last
            else f"level {level} is not {last} ({2**last}x{2**last}), the only one of this {config.arch} network"
        )
