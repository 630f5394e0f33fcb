"""Historical averaging: a pull towards the mean of past parameters (Salimans et al. 2016, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Parameters, Regularizer
from pggan.networks.discriminator import Discriminator
from pggan.networks.generator import Generator


class History(nn.Module):
    """The running mean of a network's parameters: the first ones and those after every update, `count` in all."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones((), dtype=torch.float64))

    def begin(self, network: nn.Module) -> None:
        """Restarts the mean at the network's parameters."""
        self.count.fill_(1)
        for name, parameter in network.named_parameters():
            self.register_buffer(_key(name), parameter.detach().clone())

    @torch.no_grad()
    def add(self, network: nn.Module) -> None:
        """Takes the network's parameters into the mean."""
        self.count += 1
        for name, parameter in network.named_parameters():
            mean = self.get_buffer(_key(name))
            mean += (parameter - mean) / self.count.to(mean.dtype)

    def distance(self, parameters: Parameters) -> Tensor:
        """Returns `||theta - mean||^2`, 0-d."""
        parts = [(theta - self.get_buffer(_key(name))).square().sum() for name, theta in parameters.items()]
        return torch.stack(parts).sum()


def _key(name: str) -> str:
    return name.replace(".", "/")  # names of buffers must not contain dots


class HistoricalAveraging(Regularizer):
    """d and g each gain `weight * ||theta - mean of past theta||^2`, theta being the player's parameters."""

    def __init__(self, historical_averaging: float) -> None:
        super().__init__()
        self.weight = historical_averaging
        self.d, self.g = History(), History()

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        self.d.begin(discriminator)
        self.g.begin(generator)

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return LossTerms({"history": self.d.distance(step.parameters) * self.weight}, {})

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return LossTerms({"g_history": self.g.distance(step.parameters) * self.weight}, {})

    def after_d_step(self, terms: dict[str, Tensor], discriminator: Discriminator) -> None:
        self.d.add(discriminator)

    def after_g_step(self, terms: dict[str, Tensor], generator: Generator) -> None:
        self.g.add(generator)
