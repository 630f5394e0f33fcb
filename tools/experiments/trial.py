"""Two players and a loss of the product on data that fit in memory: its own losses, steps and optimizers, no run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pggan.config.losses import OBJECTIVES, OptimizerDefaults, regularizers_of, with_implied
from pggan.config.losses import optimizers as default_optimizers
from pggan.config.option import AUTO
from pggan.config.train import AUTO_GAMMA
from pggan.losses.base import Batch, Objective
from pggan.training.engine import loss_functions
from pggan.training.engine.state import make_optimizer

ONE = torch.ones(())
# Reals (N, C, R, R) and their labels (N, K), K 0 where there are none, by count from a random state.
Data = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
Found = dict[str, Tensor]
T = TypeVar("T")


class Trial:
    """Steps of D and G by turns, with the registry's loss `loss` and its `options` (as for `pggan train`).

    `generator` and `discriminator` are called as the product's: (latents, level, alpha, labels, dtype) and (images,
    level, alpha, dtype). `optimizers`: G's and D's; None: the loss's own. `total`: images of the whole trial, over
    which what is annealed is annealed. `labelled`: share of pictures that carry a label.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: str,
        data: Data,
        *,
        latent_size: int,
        level: int = 2,
        batch: int = 64,
        seed: int = 0,
        total: int = 10**9,
        options: dict[str, Any] | None = None,
        optimizers: tuple[OptimizerDefaults, OptimizerDefaults] | None = None,
        classes: int = 0,
        labelled: float = 1.0,
    ) -> None:
        options = with_implied(loss, options or {})
        gamma = AUTO_GAMMA * 4**level / batch
        options = {name: gamma if value == AUTO else value for name, value in options.items()}
        self.generator: Any = generator
        self.discriminator: Any = discriminator
        self.data, self.latent_size, self.level, self.batch = data, latent_size, level, batch
        self.random = torch.Generator().manual_seed(seed)
        self.n_critic, self.nimg = OBJECTIVES[loss].n_critic, 0
        objectives = loss_functions.make_objectives(loss, classes > 0, options)
        for objective in objectives:
            objective.attach(self.generator, self.discriminator, total)
            objective.labelled = labelled
        self.context = loss_functions.StepContext(self.generator, self.discriminator, objectives)
        g, d = optimizers or default_optimizers(loss, regularizers_of(loss, classes > 0, options))
        self.g_optimizer, self.d_optimizer = make_optimizer(generator, g, None), make_optimizer(discriminator, d, None)

    def draw(self, count: int | None = None, random: torch.Generator | None = None) -> Batch:
        """All that a step takes from outside."""
        count, random = count or self.batch, random or self.random
        reals, labels = self.data(count, random)
        noise: Found = {}
        for objective in self.context.objectives:
            for name, (kind, shape) in objective.noise(count, reals.shape[-1], reals.shape[1]).items():
                noise[name] = {"normal": torch.randn, "uniform": torch.rand}[kind](count, *shape, generator=random)
        return Batch(
            reals=reals,
            labels=labels,
            latents=torch.randn(count, self.latent_size, generator=random),
            fake_labels=torch.zeros(count, 0),
            mixing=torch.rand(count, generator=random),
            noise=noise,
            nimg=torch.tensor(self.nimg, dtype=torch.float64),
        )

    def _inputs(self, player: str, batch: Batch) -> loss_functions.StepInputs:
        return loss_functions.StepInputs(player, self.level, batch, ONE, ONE)

    def d_gradient(self, batch: Batch, only: tuple[str, ...] = ()) -> tuple[Any, loss_functions.LossTerms]:
        """Gradients by parameter and the terms of D's loss; `only`: of these terms alone."""
        parameters = loss_functions.parameters_of(self.discriminator)
        constants = loss_functions.detached_parameters_of(self.generator)
        loss, terms = loss_functions.d_loss(self.context, parameters, constants, self._inputs("d", batch))
        if only:
            loss = torch.stack([terms.losses[name] for name in only]).sum()
        return loss_functions.parameter_gradients(loss, parameters, ONE), terms

    def g_gradient(self, batch: Batch) -> tuple[Any, loss_functions.LossTerms]:
        """Gradients by parameter and the terms of G's loss."""
        parameters = loss_functions.parameters_of(self.generator)
        constants = loss_functions.detached_parameters_of(self.discriminator)
        loss, terms = loss_functions.g_loss(self.context, parameters, constants, self._inputs("g", batch))
        return loss_functions.parameter_gradients(loss, parameters, ONE), terms

    def d_step(self, only: tuple[str, ...] = ()) -> Found:
        """One update of D; its terms."""
        gradients, terms = self.d_gradient(self.draw(), only)
        found = _apply(self.d_optimizer, self.discriminator, gradients, terms)
        self.nimg += self.batch
        told = {**found, "images": torch.tensor(float(self.batch))}
        for objective in self.context.objectives:
            objective.after_d_step(told, self.discriminator)
        return found

    def g_step(self) -> Found:
        """One update of G; its terms."""
        gradients, terms = self.g_gradient(self.draw())
        found = _apply(self.g_optimizer, self.generator, gradients, terms)
        for objective in self.context.objectives:
            objective.after_g_step(found, self.generator)
        return found

    def iterate(self) -> Found:
        """D as often as the loss asks for, then G."""
        found: Found = {}
        for _ in range(self.n_critic):
            found = self.d_step()
        return {**found, **self.g_step()}

    def train(
        self, iterations: int, measures: int, measure: Callable[[int], T], step: Callable[[], Found] | None = None
    ) -> tuple[list[int], list[T]]:
        """Iterates, and measures at even distances, the last time at the end.

        Args:
            iterations: How many.
            measures: How many, one after the last iteration.
            measure: Is called with the number of iterations done.
            step: One iteration; by default `iterate`.

        Returns:
            The iterations after which it measured, and what `measure` returned then.
        """
        at, figures = [iterations * (n + 1) // measures for n in range(measures)], []
        for iteration in range(1, iterations + 1):
            (step or self.iterate)()
            if iteration in at:
                figures.append(measure(iteration))
        return at, figures

    @torch.no_grad()
    def generate(self, count: int, random: torch.Generator) -> Tensor:
        """Generated samples (N, C, R, R)."""
        latents = torch.randn(count, self.latent_size, generator=random)
        return self.generator(latents, self.level, ONE, torch.zeros(count, 0))

    @torch.no_grad()
    def judge(self, images: Tensor) -> Any:
        """D's answer to images, as the objectives take it."""
        return loss_functions.discriminate(
            self.context, loss_functions.detached_parameters_of(self.discriminator), images, self.level, ONE
        )

    @property
    def loss(self) -> Objective:
        return self.context.objectives[0]


def _apply(
    optimizer: torch.optim.Optimizer, network: nn.Module, gradients: Any, terms: loss_functions.LossTerms
) -> Found:
    for name, parameter in network.named_parameters():
        parameter.grad = gradients[name]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {name: value.detach() for name, value in {**terms.losses, **terms.stats}.items()}


def d_total(found: Found) -> float:
    """The loss's own d without penalties: what the theory speaks of."""
    names = {"wasserstein"} if "wasserstein" in found else {"real", "fake"}
    return sum(float(found[name].detach()) for name in names)


def norm(gradients: dict[str, Tensor | None]) -> float:
    """The length of all gradients together."""
    return float(torch.stack([g.square().sum() for g in gradients.values() if g is not None]).sum().sqrt())
