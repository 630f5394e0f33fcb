"""Parameters and arithmetic of the networks, from their configurations alone (torch-free).

Checked against the modules themselves in tests; used by plans, time estimates and batch sizes. Parameters are exact.
The arithmetic is that of the weight layers: activations, normalisations, the minibatch layers' comparisons between
samples and the reference batch of virtual batch norm are left out.
"""

from __future__ import annotations

from typing import NamedTuple

from pggan.config.train import DiscriminatorConfig, GeneratorConfig, NetworkConfig

# Network passes an iteration costs per image: the discriminator's step 12 (reals 3, fakes 3, penalty 6) ...
D_PASSES = 12
# ... and the generator's: one to feed the discriminator, three of its own; its step also passes D twice.
G_PASSES = 1 + 3
D_PASSES_IN_G_STEP = 2


class Layer(NamedTuple):
    """One weight layer: its parameters, its multiply-accumulates and its output values, for one image.

    `outputs`: rows of its weight; `channels`: what a normalisation after it would scale and shift.
    """

    parameters: int
    macs: int
    activations: int
    outputs: int
    channels: int

    def scaled(self) -> Layer:
        """With the parameters of a normalisation after it."""
        return self._replace(parameters=self.parameters + 2 * self.channels)


def _conv(inputs: int, outputs: int, kernel: int, resolution: int, fused_to: int | None = None) -> Layer:
    """A convolution computed at `resolution`, or fused with scaling: 4x4 over the lower of two resolutions."""
    weights = inputs * outputs * kernel * kernel
    if fused_to is None:
        return Layer(weights + outputs, weights * resolution**2, outputs * resolution**2, outputs, outputs)
    low = min(resolution, fused_to)
    return Layer(weights + outputs, inputs * outputs * 16 * low**2, outputs * fused_to**2, outputs, outputs)


def _dense(inputs: int, outputs: int, channels: int | None = None) -> Layer:
    return Layer(inputs * outputs + outputs, inputs * outputs, outputs, outputs, channels or outputs)


def _strided(inputs: int, outputs: int, small: int, large: int) -> Layer:
    """A 4x4 convolution with stride 2, whose lower resolution is `small` and whose result has `large`."""
    weights = inputs * outputs * 16
    return Layer(weights + outputs, weights * small**2, outputs * large**2, outputs, outputs)


def _fc_generator(config: GeneratorConfig) -> list[Layer]:
    hidden = config.fmaps(0)
    return [
        _dense(config.inputs, hidden),
        _dense(hidden, hidden),
        _dense(hidden, config.channels * config.resolution**2),
    ]


def _conv_generator(config: GeneratorConfig) -> list[Layer]:
    side, maps = config.resolution // 8, [*config.baseline_widths, config.channels]
    first = _dense(config.inputs, maps[0] * side**2, maps[0])
    return [first, *(_strided(maps[i], maps[i + 1], side << i, side << (i + 1)) for i in range(3))]


def _progressive_generator(config: GeneratorConfig, level: int) -> list[Layer]:
    width = config.fmaps(1)
    biases = width * (16 if config.dense_bias == "output" else 1)
    weights = config.inputs * width * 16
    layers = [Layer(weights + biases, weights, width * 16, width * 16, width), _conv(width, width, 3, 4)]
    for at in range(3, level + 1):
        before, width, side = config.fmaps(at - 2), config.fmaps(at - 1), 2**at
        if config.fused_scale:
            layers.append(_conv(before, width, 3, side // 2, fused_to=side))
        else:
            layers.append(_conv(before, width, 3, side))
        layers.append(_conv(width, width, 3, side))
    return [*layers, _conv(width, config.channels, 1, 2**level)]


def generator_layers(config: GeneratorConfig, level: int) -> list[Layer]:
    """The layers active at a level, one ToRGB counted."""
    if config.arch == "pggan":
        layers = _progressive_generator(config, level)
    else:
        layers = _fc_generator(config) if config.arch == "fc" else _conv_generator(config)
    if config.norm != "virtual-batch":
        return layers
    return [*(layer.scaled() for layer in layers[:-1]), layers[-1]]


def _progressive_encoder(config: DiscriminatorConfig, level: int) -> tuple[list[Layer], int]:
    """Layers before the last ones, and how many features they end in."""
    layers = [_conv(config.channels, config.fmaps(level - 1), 1, 2**level)]
    for at in range(level, 2, -1):
        width, after, side = config.fmaps(at - 1), config.fmaps(at - 2), 2**at
        layers.append(_conv(width, width, 3, side))
        if config.fused_scale:
            layers.append(_conv(width, after, 3, side, fused_to=side // 2))
        else:
            layers.append(_conv(width, after, 3, side))
    width, hidden = config.fmaps(1), config.hidden_size if config.decodes else config.fmaps(0)
    layers.append(_conv(width + _statistics(config), width, 3, 4))
    return [*_normalized(config, layers), _dense(width * 16, hidden)], hidden


def _baseline_encoder(config: DiscriminatorConfig) -> tuple[list[Layer], int]:
    if config.arch == "fc":
        features = config.fmaps(0)
        layers = [_dense(config.channels * config.resolution**2, features), _dense(features, features)]
    else:
        side, maps = config.resolution // 8, [config.channels, *reversed(config.baseline_widths)]
        layers = [_strided(maps[i], maps[i + 1], side << (2 - i), side << (2 - i)) for i in range(3)]
        features = maps[-1] * side**2
    layers, features = _normalized(config, layers), features + _statistics(config)
    return (
        ([*layers, _dense(features, config.hidden_size)], config.hidden_size) if config.decodes else (layers, features)
    )


def _statistics(config: DiscriminatorConfig) -> int:
    """Inputs that the minibatch statistic adds."""
    return 1 if config.diversity == "stddev" and config.stddev_group > 1 else 0


def _normalized(config: DiscriminatorConfig, layers: list[Layer]) -> list[Layer]:
    """All but the first one, which reads the pictures, are normalised."""
    if config.norm not in ("layer", "instance"):
        return layers
    return [layers[0], *(layer.scaled() for layer in layers[1:])]


def discriminator_layers(config: DiscriminatorConfig, level: int) -> list[Layer]:
    """The layers active at a level, one FromRGB counted (and of an auto-encoder one ToRGB)."""
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
    if isinstance(config, GeneratorConfig):
        return generator_layers(config, level)
    assert isinstance(config, DiscriminatorConfig)
    return discriminator_layers(config, level)


def parameters(config: NetworkConfig, level: int) -> int:
    """Active parameters at a level, one RGB layer counted (the paper's way)."""
    return sum(layer.parameters for layer in layers(config, level))


def iteration_flops(g: GeneratorConfig, d: DiscriminatorConfig, level: int, n_critic: int = 1) -> float:
    """Floating-point operations of one training iteration per image at a level."""
    per_g = 2.0 * sum(layer.macs for layer in layers(g, level))
    per_d = 2.0 * sum(layer.macs for layer in layers(d, level))
    return n_critic * (D_PASSES * per_d + per_g) + (G_PASSES - 1) * per_g + D_PASSES_IN_G_STEP * per_d


def synthesis_bytes(config: GeneratorConfig, level: int, bytes_per_value: int = 4) -> int:
    """Memory of one image's synthesis: a block's inputs, outputs and scratch alive together, per image."""
    largest = max(layer.activations for layer in layers(config, level))
    return bytes_per_value * (4 * largest + 4 * config.channels * 4**level)
