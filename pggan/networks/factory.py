"""Makes generators and discriminators from configurations."""

from __future__ import annotations

import torch

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.baselines import ConvDiscriminator, ConvGenerator, FcDiscriminator, FcGenerator
from pggan.networks.discriminator import Discriminator, ProgressiveDiscriminator
from pggan.networks.generator import Generator, ProgressiveGenerator

# Classes by architecture.
GENERATORS: dict[str, type[Generator]] = {"pggan": ProgressiveGenerator, "fc": FcGenerator, "dcgan": ConvGenerator}
DISCRIMINATORS: dict[str, type[Discriminator]] = {
    "pggan": ProgressiveDiscriminator, "fc": FcDiscriminator, "dcgan": ConvDiscriminator,
}  # fmt: skip


def make_generator(config: GeneratorConfig) -> Generator:
    """Makes the generator of a configuration, with weights from torch's global random state."""
    return GENERATORS[config.arch](config)


def make_discriminator(config: DiscriminatorConfig) -> Discriminator:
    """Makes the discriminator of a configuration, with weights from torch's global random state."""
    return DISCRIMINATORS[config.arch](config)


def build(generator: GeneratorConfig, discriminator: DiscriminatorConfig, seed: int) -> tuple[Generator, Discriminator]:
    """Makes both networks from one seed, in float32 on the CPU; leaves torch's global random state unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_generator(generator), make_discriminator(discriminator)
