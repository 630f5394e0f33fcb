"""Parameters and arithmetic of the networks, from their configurations alone (torch-free).

Checked against the modules themselves in tests; used by plans, time estimates and batch sizes.
"""

from __future__ import annotations

from typing import NamedTuple

from pggan.config import DiscriminatorConfig, GeneratorConfig, NetworkConfig

# Network passes an iteration costs per image: the discriminator's step 12 (reals 3, fakes 3, penalty 6) ...
D_PASSES = 12
# ... and the generator's: one to feed the discriminator, three of its own; its step also passes D twice.
G_PASSES = 1 + 3
D_PASSES_IN_G_STEP = 2


class Layer(NamedTuple):
    """One weight layer: its parameters, its multiply-accumulates and its output values, for one image."""

    parameters: int
    macs: int
    activations: int


def _conv(inputs: int, outputs: int, kernel: int, resolution: int, fused_to: int | None = None) -> Layer:
    """A convolution computed at `resolution`, or fused with scaling: 4x4 over the lower of two resolutions."""
    weights = inputs * outputs * kernel * kernel
    if fused_to is None:
        return Layer(weights + outputs, weights * resolution**2, outputs * resolution**2)
    low = min(resolution, fused_to)
    return Layer(weights + outputs, inputs * outputs * 16 * low**2, outputs * fused_to**2)


def generator_layers(config: GeneratorConfig, level: int) -> list[Layer]:
    """The layers active at a level, one ToRGB counted."""
    width = config.fmaps(1)
    inputs = config.latent_size + config.label_size
    biases = width * (16 if config.dense_bias == "output" else 1)
    layers = [Layer(inputs * width * 16 + biases, inputs * width * 16, width * 16), _conv(width, width, 3, 4)]
    for at in range(3, level + 1):
        before, width, side = config.fmaps(at - 2), config.fmaps(at - 1), 2**at
        if config.fused_scale:
            layers.append(_conv(before, width, 3, side // 2, fused_to=side))
        else:
            layers.append(_conv(before, width, 3, side))
        layers.append(_conv(width, width, 3, side))
    return [*layers, _conv(width, config.channels, 1, 2**level)]


def discriminator_layers(config: DiscriminatorConfig, level: int) -> list[Layer]:
    """The layers active at a level, one FromRGB counted."""
    layers = [_conv(config.channels, config.fmaps(level - 1), 1, 2**level)]
    for at in range(level, 2, -1):
        width, after, side = config.fmaps(at - 1), config.fmaps(at - 2), 2**at
        layers.append(_conv(width, width, 3, side))
        if config.fused_scale:
            layers.append(_conv(width, after, 3, side, fused_to=side // 2))
        else:
            layers.append(_conv(width, after, 3, side))
    width, hidden, outputs = config.fmaps(1), config.fmaps(0), 1 + config.label_size
    statistic = 1 if config.stddev_group > 1 else 0
    layers.append(_conv(width + statistic, width, 3, 4))
    layers.append(Layer(width * 16 * hidden + hidden, width * 16 * hidden, hidden))
    return [*layers, Layer(hidden * outputs + outputs, hidden * outputs, outputs)]


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
