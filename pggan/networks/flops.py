"""Cost model of the networks: parameters and floating-point operations, from their configurations alone (torch-free).

Plans, time estimates and batch sizes use it; tests compare it with the modules. Parameter counts are exact. Operations
are those of the weight layers: activations, normalisations, the comparisons between samples in minibatch layers and the
reference batch of virtual batch norm are left out.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from pggan.config.losses import LAZY
from pggan.config.train import DiscriminatorConfig, GeneratorConfig, NetworkConfig, TrainConfig

# Passes per image of an iteration. D's step passes D 6 times (reals 3, fakes 3), and 6 times for each penalty on its
# gradient, of which the default loss has one ...
D_PASSES_PLAIN, PENALTY_PASSES = 6, 6
D_PASSES = D_PASSES_PLAIN + PENALTY_PASSES
# ... and G once, to make its fakes. G's step passes G three times and D twice.
G_PASSES = 1 + 3
D_PASSES_IN_G_STEP = 2


class Layer(NamedTuple):
    """The cost of one weight layer for one image."""

    parameters: int
    # multiply-accumulates
    macs: int
    # output values
    activations: int
    # rows of the weight
    outputs: int
    # channels that a normalisation after the layer would scale and shift
    channels: int

    def with_affine_norm(self) -> Layer:
        """Adds the scale and shift parameters of a normalisation after the layer."""
        return self._replace(parameters=self.parameters + 2 * self.channels)


def _conv(inputs: int, outputs: int, kernel: int, side: int, strided_from: int | None = None) -> Layer:
    """A convolution to `side` pixels; with `strided_from`, a 4x4 one with stride 2 between these two resolutions."""
    weights = inputs * outputs * kernel**2
    macs = weights * side**2 if strided_from is None else inputs * outputs * 16 * min(side, strided_from) ** 2
    return Layer(weights + outputs, macs, outputs * side**2, outputs, outputs)


def _dense(inputs: int, outputs: int, channels: int | None = None) -> Layer:
    return Layer(inputs * outputs + outputs, inputs * outputs, outputs, outputs, channels or outputs)


def _fc_generator(config: GeneratorConfig) -> list[Layer]:
    maps = [config.inputs, config.fmaps(0), config.fmaps(0), config.channels * config.resolution**2]
    return [_dense(inputs, outputs) for inputs, outputs in pairwise(maps)]


def _conv_generator(config: GeneratorConfig) -> list[Layer]:
    side, maps = config.resolution // 8, [*config.baseline_widths, config.channels]
    first = _dense(config.inputs, maps[0] * side**2, maps[0])
    return [first, *(_conv(maps[i], maps[i + 1], 4, side << (i + 1), strided_from=side << i) for i in range(3))]


def _progressive_generator(config: GeneratorConfig, level: int) -> list[Layer]:
    width = config.fmaps(1)
    biases = width * (16 if config.dense_bias == "output" else 1)
    mapped = [config.inputs] + [config.latent_size] * config.mapping_layers
    weights = config.first_inputs * width * 16
    layers = [_dense(*pair) for pair in pairwise(mapped)]
    layers += [Layer(weights + biases, weights, width * 16, width * 16, width), _conv(width, width, 3, 4)]
    for at in range(3, level + 1):
        before, width, side = config.fmaps(at - 2), config.fmaps(at - 1), 2**at
        upscale = _conv(before, width, 3, side, strided_from=side // 2 if config.fused_scale else None)
        layers += [upscale, _conv(width, width, 3, side)]
    return [*layers, _conv(width, config.channels, 1, 2**level)]


def generator_layers(config: GeneratorConfig, level: int) -> list[Layer]:
    """Returns the layers that are active at a level, with one ToRGB."""
    if config.arch == "pggan":
        layers = _progressive_generator(config, level)
    else:
        layers = _fc_generator(config) if config.arch == "fc" else _conv_generator(config)
    if config.norm != "virtual-batch":
        return layers
    return [*(layer.with_affine_norm() for layer in layers[:-1]), layers[-1]]


def _progressive_encoder(config: DiscriminatorConfig, level: int) -> tuple[list[Layer], int]:
    """Returns the layers up to the features, and the number of features."""
    layers = [_conv(config.channels, config.fmaps(level - 1), 1, 2**level)]
    for at in range(level, 2, -1):
        width, after, side = config.fmaps(at - 1), config.fmaps(at - 2), 2**at
        fused = config.fused_scale
        downscale = _conv(width, after, 3, side // 2, strided_from=side) if fused else _conv(width, after, 3, side)
        layers += [_conv(width, width, 3, side), downscale]
    width, hidden = config.fmaps(1), config.hidden_size if config.decodes else config.fmaps(0)
    layers.append(_conv(width + _statistics(config), width, 3, 4))
    return [*_normalized(config, layers), _dense(width * 16, hidden)], hidden


def _baseline_encoder(config: DiscriminatorConfig) -> tuple[list[Layer], int]:
    """Returns the layers up to the features, and the number of features."""
    if config.arch == "fc":
        features = config.fmaps(0)
        layers = [_dense(config.channels * config.resolution**2, features), _dense(features, features)]
    else:
        side, maps = config.resolution // 8, [config.channels, *reversed(config.baseline_widths)]
        layers = [_conv(maps[i], maps[i + 1], 4, side << (2 - i)) for i in range(3)]
        features = maps[-1] * side**2
    layers, features = _normalized(config, layers), features + _statistics(config)
    if config.decodes:
        return [*layers, _dense(features, config.hidden_size)], config.hidden_size
    return layers, features


def _statistics(config: DiscriminatorConfig) -> int:
    """Returns the number of features that the minibatch statistic adds: 0 or 1."""
    return 1 if config.diversity == "stddev" and config.stddev_group > 1 else 0


def _normalized(config: DiscriminatorConfig, layers: list[Layer]) -> list[Layer]:
    """Adds the normalisation's parameters to all layers but the first, which reads the images."""
    if config.norm not in ("layer", "instance"):
        return layers
    return [layers[0], *(layer.with_affine_norm() for layer in layers[1:])]


def discriminator_layers(config: DiscriminatorConfig, level: int) -> list[Layer]:
    """Returns the layers that are active at a level, with one FromRGB (and one ToRGB of an auto-encoder)."""
    layers, features = _progressive_encoder(config, level) if config.arch == "pggan" else _baseline_encoder(config)
    kernels = config.discrimination_kernels if config.diversity == "discrimination" else 0
    if kernels:
        rows = kernels * config.discrimination_dim
        layers.append(Layer(features * rows, features * rows, rows, rows, rows))
    if outputs := config.label_size + (0 if config.decodes else 1):
        layers.append(_dense(features + kernels, outputs))
    if config.code_outputs:
        layers.append(_dense(features, config.code_outputs))
    if config.decodes:
        layers += generator_layers(config.decoder, level)
    if config.norm == "weight":
        layers = [layer._replace(parameters=layer.parameters + layer.outputs) for layer in layers]
    return layers


def layers(config: NetworkConfig, level: int) -> list[Layer]:
    """Returns the layers of either network that are active at a level."""
    if isinstance(config, GeneratorConfig):
        return generator_layers(config, level)
    assert isinstance(config, DiscriminatorConfig)
    return discriminator_layers(config, level)


def parameters(config: NetworkConfig, level: int) -> int:
    """Returns the number of parameters that are active at a level, with one RGB layer, as the paper counts."""
    return sum(layer.parameters for layer in layers(config, level))


def d_passes(config: TrainConfig) -> float:
    """Returns the passes of D in its step, for each image. Of a lazy penalty the share of one step counts."""
    names = config.regularizers()
    penalties = ("gradient-penalty" in names) + sum(name in names for name in LAZY) / config.penalty_every
    return D_PASSES_PLAIN + PENALTY_PASSES * penalties


def iteration_flops(
    g: GeneratorConfig, d: DiscriminatorConfig, level: int, n_critic: int = 1, in_d_step: float = D_PASSES
) -> float:
    """Returns the floating-point operations of a training iteration per image at a level.

    Args:
        g: The generator.
        d: The discriminator.
        level: Log2 of the resolution.
        n_critic: D steps in an iteration.
        in_d_step: See `d_passes`.
    """
    g_pass = 2.0 * sum(layer.macs for layer in layers(g, level))
    d_pass = 2.0 * sum(layer.macs for layer in layers(d, level))
    return n_critic * (in_d_step * d_pass + g_pass) + (G_PASSES - 1) * g_pass + D_PASSES_IN_G_STEP * d_pass


def floor_seconds(
    g: GeneratorConfig, d: DiscriminatorConfig, level: int, flops: float, bandwidth: float, value_bytes: int,
    n_critic: int = 1, in_d_step: float = D_PASSES,
) -> float:  # fmt: skip
    """Returns the least time of training for each image shown to D at a level (a roofline), in seconds.

    Each weight layer takes its arithmetic, or its activations read and written once, whichever takes longer.

    Args:
        g: The generator.
        d: The discriminator.
        level: Log2 of the resolution.
        flops: Operations a second of the chip.
        bandwidth: Bytes a second, read and written together.
        value_bytes: Bytes of an activation.
        n_critic: D steps in an iteration.
        in_d_step: See `d_passes`.
    """
    g_pass = _pass_seconds(layers(g, level), g.latent_size, flops, bandwidth, value_bytes)
    d_pass = _pass_seconds(layers(d, level), d.channels * 4**level, flops, bandwidth, value_bytes)
    return g_pass + in_d_step * d_pass + ((G_PASSES - 1) * g_pass + D_PASSES_IN_G_STEP * d_pass) / n_critic


def _pass_seconds(of: list[Layer], inputs: int, flops: float, bandwidth: float, value_bytes: int) -> float:
    total, before = 0.0, inputs
    for layer in of:
        moved = (before + layer.activations) * value_bytes
        total += max(2.0 * layer.macs / flops, moved / bandwidth)
        before = layer.activations
    return total


def synthesis_bytes(config: GeneratorConfig, level: int, bytes_per_value: int = 4) -> int:
    """Estimates the bytes that synthesis takes per image: a block's inputs, outputs and scratch at the same time."""
    largest = max(layer.activations for layer in layers(config, level))
    pixels: int = 4**level
    return bytes_per_value * (4 * largest + 4 * config.channels * pixels)
