"""The interface of losses and regularizers: what they get from a training step, and the terms that they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pggan.config.resolution import PerResolution
from pggan.networks.discriminator import Discriminator, DiscriminatorOutput
from pggan.networks.generator import Generator

Critic = Callable[[Tensor], DiscriminatorOutput]
Parameters = Mapping[str, Tensor]

NO_PARAMETERS: Parameters = MappingProxyType({})


class Batch(NamedTuple):
    """The inputs of one step. With the parameters they determine its losses completely."""

    # (N, C, R, R) in [-1, 1], already faded
    reals: Tensor
    # (N, K), labels of the reals
    labels: Tensor
    # (N, Z + codes), latents of the fakes; they end with the structured codes, if the run has some
    latents: Tensor
    # (N, K), labels of the fakes
    fake_labels: Tensor
    # (N,) in [0, 1): shares of the fakes in the images at which the gradient penalty is taken
    mixing: Tensor
    # the tensors that objectives ask for in `Objective.noise`, by name
    noise: dict[str, Tensor]
    # 0-d float64: images seen before this step
    nimg: Tensor = torch.zeros((), dtype=torch.float64)
    # like `reals`, images that D never learns from; empty if none are held out
    held_out: Tensor = torch.zeros(0)

    def part(self, index: int, parts: int) -> Batch:
        """Returns micro-batch `index` of `parts`: samples index, index + parts, ...

        Groups of the minibatch statistic stay whole if `parts` divides their number.
        """
        if parts == 1:
            return self
        return self.map(lambda tensor: tensor[index::parts] if tensor.ndim else tensor)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Applies a function to every tensor."""
        values = {name: function(value) for name, value in self._asdict().items() if name != "noise"}
        return Batch(**values, noise={name: function(tensor) for name, tensor in self.noise.items()})

    def tensors(self) -> list[Tensor]:
        """Returns all tensors, in the same order for all batches of a run."""
        return [value for name, value in self._asdict().items() if name != "noise"] + list(self.noise.values())


class DiscriminatorPass(NamedTuple):
    """What the objectives get in a discriminator step."""

    # D as a function of images
    d: Critic
    # its `reals` are augmented
    batch: Batch
    # generated images, augmented
    fakes: Tensor
    # D's outputs for the reals and for the fakes
    real: DiscriminatorOutput
    fake: DiscriminatorOutput
    # loss scale of mixed precision, 0-d (1 without)
    scale: Tensor
    # D's parameters by name
    parameters: Parameters = NO_PARAMETERS
    # whether `torch.func` differentiates the loss: then gradients within it are `torch.func`'s, too
    functional: bool = False


class GeneratorPass(NamedTuple):
    """What the objectives get in a generator step."""

    # D as a function of images
    d: Critic
    # its `reals` are augmented if an objective `needs_reals`
    batch: Batch
    # generated images, augmented
    fakes: Tensor
    # D's output for the fakes
    fake: DiscriminatorOutput
    # G's parameters by name
    parameters: Parameters = NO_PARAMETERS


class LossTerms(NamedTuple):
    """The terms of a player's loss, 0-d tensors by name."""

    # added up to the loss
    losses: dict[str, Tensor]
    # logged, not optimized
    stats: dict[str, Tensor]

    def total(self) -> Tensor:
        """Adds up the losses."""
        first, *rest = self.losses.values()
        return sum(rest, start=first)

    def as_stats(self) -> LossTerms:
        """Returns the same terms as statistics: logged, not optimized."""
        return LossTerms({}, {**self.losses, **self.stats})

    def merged(self, other: LossTerms) -> LossTerms:
        """Returns the terms of both."""
        return LossTerms({**self.losses, **other.losses}, {**self.stats, **other.stats})


NOTHING = LossTerms({}, {})


class Objective(nn.Module):
    """A loss or a regularizer. Its state (running means, balances) lives in buffers, which checkpoints save.

    `augment`, `transform_output`, `d_terms` and `g_terms` depend on parameters, buffers and the batch alone and return
    tensors; the training step takes the gradients. The hooks `after_d_step` and `after_g_step` update buffers in place.
    """

    # whether these functions can be compiled and captured as CUDA graphs; if not, steps are eager
    compilable: bool = True
    # whether `g_terms` uses `batch.reals`
    needs_reals: ClassVar[bool] = False
    # whether its `d_terms`, which use no outputs of D from elsewhere, are those that --penalty-every takes seldom
    lazy: ClassVar[bool] = False
    # whether `d_terms` uses `fakes`, where it is lazy
    needs_fakes: ClassVar[bool] = False
    # whether its terms wait for the other processes, so that one of them alone cannot compute them again
    all_reduces: bool = False
    # whether `g_terms` replaces the terms of the loss, which then become statistics
    replaces_g: bool = False
    # share of the known labels that training sees; the others measure D's classes (`heldout_accuracy`)
    shown_labels: float = 1.0
    # the columns in the label vector (`TrainConfig.label_layout`): classes of each, 0 of a number; set by the state
    label_layout: tuple[int, ...] = ()
    # share of the images whose label training sees; set when the data are known
    labelled: float = 1.0

    def attach(self, generator: Generator, discriminator: Discriminator, total: int) -> None:
        """Makes the buffers that depend on the networks or on `total`, the images of the whole run.

        Called when the networks have been made, and again when they have loaded another model's weights.
        """

    def acts_at(self, resolution: int) -> bool:
        """Whether it has terms at a resolution."""
        return True

    def noise(self, count: int, resolution: int, channels: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Declares the random tensors that it needs in `batch.noise`.

        Args:
            count: Samples of the minibatch over all processes.
            resolution: Side of the images.
            channels: Channels of the images.

        Returns:
            Name to ("normal" or "uniform", shape for one sample). Each name is a random stream of its own, which gives
            new numbers to every step of D and of G.
        """
        return {}

    def augment(self, images: Tensor, batch: Batch, real: bool) -> Tensor:
        """Transforms images (N, C, R, R), `real` or generated, before D sees them; G learns through it."""
        return images

    def transform_output(self, output: DiscriminatorOutput) -> DiscriminatorOutput:
        """Transforms D's output before any objective sees it."""
        return output

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        """Returns its terms of the discriminator's loss."""
        return NOTHING

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        """Returns its terms of the generator's loss."""
        return NOTHING

    def after_d_step(self, terms: dict[str, Tensor], discriminator: Discriminator) -> None:
        """Called after D's update by its loss, not after one by lazy penalties alone.

        `terms`: that step's losses and statistics, means over all processes, and "images", their number.
        """

    def after_g_step(self, terms: dict[str, Tensor], generator: Generator) -> None:
        """Called after G's update, like `after_d_step`."""


Regularizer = Objective


def current_value(
    value: PerResolution, resolution: int, nimg: Tensor, total: int, dtype: torch.dtype
) -> Tensor | float:
    """Returns an option's number at a resolution.

    Where it changes over the run, that is a 0-d tensor made of the images seen, which captured and compiled steps read
    anew each time.

    Args:
        value: The option.
        resolution: Side of the images.
        nimg: Images seen, 0-d float64 (`Batch.nimg`).
        total: Images of the whole run.
        dtype: Of the tensor.
    """
    start, end = value.at(resolution), value.end
    if end is None:
        return start
    return (start + (end - start) * (nimg / total).clamp(0, 1)).to(dtype)
