"""What a loss or a regulariser sees and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pggan.networks.discriminator import Discriminator, DiscriminatorOutput
from pggan.networks.generator import Generator

Critic = Callable[[Tensor], DiscriminatorOutput]
Parameters = Mapping[str, Tensor]

NO_PARAMETERS: Parameters = MappingProxyType({})


class Batch(NamedTuple):
    """Everything that one step takes from outside, so that a loss is a function of parameters and this alone.

    `reals` (N, C, R, R) in [-1, 1], already faded; `labels` (N, K) of the reals; `latents` (N, Z) and `fake_labels`
    (N, K) of the fakes; `mixing` (N,) in [0, 1); `noise`: further tensors by name, for those that declare them.
    `latents` (N, Z + codes) end with the structured codes, where the run has some. `nimg`: images seen before this
    step, 0-d float64. `held_out` as `reals`, of pictures that D never learns from; empty where none are held out.
    """

    reals: Tensor
    labels: Tensor
    latents: Tensor
    fake_labels: Tensor
    mixing: Tensor
    noise: dict[str, Tensor]
    nimg: Tensor = torch.zeros((), dtype=torch.float64)
    held_out: Tensor = torch.zeros(0)

    def part(self, index: int, parts: int) -> Batch:
        """Samples index, index + parts, ...: the minibatch statistic's groups stay whole where `parts` divides their
        number.
        """
        if parts == 1:
            return self
        cut = slice(index, None, parts)
        return Batch(
            self.reals[cut], self.labels[cut], self.latents[cut], self.fake_labels[cut], self.mixing[cut],
            {name: tensor[cut] for name, tensor in self.noise.items()}, self.nimg, self.held_out[cut],
        )  # fmt: skip

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """`function` of every tensor."""
        values = {name: function(value) for name, value in self._asdict().items() if name != "noise"}
        return Batch(**values, noise={name: function(tensor) for name, tensor in self.noise.items()})

    def tensors(self) -> list[Tensor]:
        """Every tensor, in one order for batches of one run."""
        return [value for name, value in self._asdict().items() if name != "noise"] + list(self.noise.values())


class DiscriminatorPass(NamedTuple):
    """The discriminator's side of a step. `d`: D of images alone; `scale`: the loss scale (1 if none).

    `batch.reals` and `fakes` are as D sees them: after every objective's `view`. `parameters`: D's own, by name.
    """

    d: Critic
    batch: Batch
    fakes: Tensor
    real: DiscriminatorOutput
    fake: DiscriminatorOutput
    scale: Tensor
    parameters: Parameters = NO_PARAMETERS


class GeneratorPass(NamedTuple):
    """The generator's side of a step. `fakes` are as D sees them, so is `batch.reals` where an objective wants it;
    `parameters`: G's own, by name.
    """

    d: Critic
    batch: Batch
    fakes: Tensor
    fake: DiscriminatorOutput
    parameters: Parameters = NO_PARAMETERS


class LossTerms(NamedTuple):
    """`losses` are added up to a player's loss; `stats` are only reported. All are 0-d tensors by name."""

    losses: dict[str, Tensor]
    stats: dict[str, Tensor]

    def total(self) -> Tensor:
        first, *rest = self.losses.values()
        return sum(rest, start=first)

    def reported(self) -> LossTerms:
        """The same, only told."""
        return LossTerms({}, {**self.losses, **self.stats})

    def joined(self, other: LossTerms) -> LossTerms:
        return LossTerms({**self.losses, **other.losses}, {**self.stats, **other.stats})


NOTHING = LossTerms({}, {})


class Objective(nn.Module):
    """A loss or a regulariser. State (running means, balances) lives in buffers: it is checkpointed and moved as such.

    Methods return tensors; only the step takes gradients with respect to parameters. `view`, `judged`, `d_terms` and
    `g_terms` are functions of parameters, buffers and the batch alone; the `after_` hooks change buffers in place.
    """

    # Whether those functions can be compiled and captured; where not, the run is eager and says so.
    functional: bool = True
    # Whether `g_terms` look at `batch.reals`.
    wants_reals: ClassVar[bool] = False
    # Whether g is these terms instead of the loss's own, which are then only reported.
    replaces_g: bool = False
    # Share of the data's known labels that training is to see; the others measure D's classes (`heldout_accuracy`).
    shown_labels: float = 1.0
    # Share of the pictures whose label training sees: set when the data are known.
    labelled: float = 1.0

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        """Called once the run's networks are there, and again when they take another model's weights.

        `total`: images of the whole run. Here buffers are made that depend on these.
        """

    def noise(self, count: int, resolution: int, channels: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Random tensors that it wants in `batch.noise`: name to ("normal" or "uniform", shape of one sample).

        `count`: samples of the minibatch of all processes. Each name is its own stream, fresh for D's and G's step.
        """
        return {}

    def view(self, images: Tensor, batch: Batch, real: bool) -> Tensor:
        """What D sees of images (N, C, R, R): in d's loss of reals and fakes, in g's of fakes (and of reals, where
        something asks D about them).
        """
        return images

    def judged(self, output: DiscriminatorOutput) -> DiscriminatorOutput:
        """What counts as D's answer."""
        return output

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return NOTHING

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return NOTHING

    def after_d_step(self, terms: dict[str, Tensor], discriminator: Discriminator) -> None:
        """Called after every update of D, with that step's losses and stats, means over all processes."""

    def after_g_step(self, terms: dict[str, Tensor], generator: Generator) -> None:
        """Called after every update of G, as `after_d_step`."""


Regularizer = Objective
