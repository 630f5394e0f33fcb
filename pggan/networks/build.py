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


def active_parameters(module: torch.nn.Module, level: int) -> int:
    """Parameters in use at a level, one RGB layer counted: the module's own count beside cost.parameters."""
    names = [f"{2**at}x{2**at}" for at in range(2, level + 1)]
    total = 0
    for name, parameter in module.named_parameters():
        part, _, rest = name.partition(".")
        block = rest.partition(".")[0]
        rgb = part in ("to_rgb", "from_rgb")
        if part == "head" or (block == names[-1] if rgb else block in names):
            total += parameter.numel()
    return total
