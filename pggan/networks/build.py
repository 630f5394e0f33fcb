"""Networks from configurations."""

from __future__ import annotations

import torch

from pggan.config import DiscriminatorConfig, GeneratorConfig
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator


def build(generator: GeneratorConfig, discriminator: DiscriminatorConfig, seed: int) -> tuple[Generator, Discriminator]:
    """A pair drawn from one seed, in float32 on the CPU; torch's global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(generator), Discriminator(discriminator)
