"""What a loss or a regulariser sees and returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from pggan.networks.discriminator import Discriminator, DiscriminatorOutput

Critic = Callable[[Tensor], DiscriminatorOutput]


class Batch(NamedTuple):
    """Everything that one step takes from outside, so that a loss is a function of parameters and this alone.

    `reals` (N, C, R, R) in [-1, 1], already faded; `labels` (N, K) of the reals; `latents` (N, Z) and `fake_labels`
    (N, K) of the fakes; `mixing` (N,) in [0, 1); `noise`: further tensors by name, for those that declare them.
    """

    reals: Tensor
    labels: Tensor
    latents: Tensor
    fake_labels: Tensor
    mixing: Tensor
    noise: dict[str, Tensor]

    def part(self, index: int, parts: int) -> Batch:
        """Samples index, index + parts, ...: the minibatch statistic's groups stay whole where `parts` divides their
        number.
        """
        if parts == 1:
            return self
        cut = slice(index, None, parts)
        return Batch(
            self.reals[cut], self.labels[cut], self.latents[cut], self.fake_labels[cut], self.mixing[cut],
            {name: tensor[cut] for name, tensor in self.noise.items()},
        )  # fmt: skip


class DiscriminatorPass(NamedTuple):
    """The discriminator's side of a step. `d`: D of images alone; `scale`: the loss scale (1 if none)."""

    d: Critic
    batch: Batch
    fakes: Tensor
    real: DiscriminatorOutput
    fake: DiscriminatorOutput
    scale: Tensor


class GeneratorPass(NamedTuple):
    """The generator's side of a step."""

    d: Critic
    batch: Batch
    fakes: Tensor
    fake: DiscriminatorOutput


class Terms(NamedTuple):
    """`losses` are added up to a player's loss; `stats` are only reported. All are 0-d tensors by name."""

    losses: dict[str, Tensor]
    stats: dict[str, Tensor]

    def total(self) -> Tensor:
        first, *rest = self.losses.values()
        return sum(rest, start=first)

    def joined(self, other: Terms) -> Terms:
        return Terms({**self.losses, **other.losses}, {**self.stats, **other.stats})


NOTHING = Terms({}, {})


class Objective(nn.Module):
    """A loss or a regulariser. State (running means, balances) lives in buffers: it is checkpointed and moved as such.

    Methods return tensors; only the step takes gradients with respect to parameters.
    """

    def d_terms(self, step: DiscriminatorPass) -> Terms:
        return NOTHING

    def g_terms(self, step: GeneratorPass) -> Terms:
        return NOTHING

    def after_d_step(self, terms: dict[str, Tensor], discriminator: Discriminator) -> None:
        """Called after every update of the discriminator, with that step's losses and stats."""


Regularizer = Objective
