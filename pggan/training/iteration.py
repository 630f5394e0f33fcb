"""One iteration in eager mode: discriminator step(s), running average, generator step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pggan import ema
from pggan.data.loader import LoadedBatch
from pggan.latents import one_hot
from pggan.objectives.base import Batch
from pggan.training import noise, step
from pggan.training.schedule import Moment
from pggan.training.state import TrainState


class Feed:
    """Makes a step's `Batch` from loaded pictures and addressed noise. `classes` (N,): the data's labels, or None."""

    def __init__(self, state: TrainState, column: int, classes: np.ndarray | None) -> None:
        self.seed, self.device = state.config.seed, state.device
        self.latent_size, self.label_size = state.config.latent_size, state.config.label_size
        self.column = column
        self.known = None if classes is None else classes[classes >= 0]

    def discriminator(self, loaded: LoadedBatch, nimg: int, alpha: Tensor) -> Batch:
        """`nimg`: images seen before this step."""
        reals = self._to_device(torch.from_numpy(loaded.images))
        count = len(reals)
        labels = loaded.labels[:, self.column] if self.label_size else np.zeros(count, np.int64)
        return Batch(
            reals=step.real_images(reals, alpha),
            labels=self._one_hot(labels),
            latents=noise.normal(self.seed, nimg, noise.D_LATENTS, (count, self.latent_size), self.device),
            fake_labels=self._fake_labels(nimg, noise.FAKE_LABELS, count),
            mixing=noise.uniform(self.seed, nimg, noise.MIXING, (count,), self.device),
            noise={},
        )

    def generator(self, like: Batch, nimg: int) -> Batch:
        """Fresh latents and labels for the generator's step."""
        count = len(like.latents)
        latents = noise.normal(self.seed, nimg, noise.G_LATENTS, (count, self.latent_size), self.device)
        return like._replace(latents=latents, fake_labels=self._fake_labels(nimg, noise.G_LABELS, count))

    def _fake_labels(self, nimg: int, purpose: int, count: int) -> Tensor:
        """Labels as frequent as in the data."""
        if self.known is None:
            return torch.zeros(count, 0, device=self.device)
        return self._one_hot(self.known[noise.integers(self.seed, nimg, purpose, len(self.known), count)])

    def _one_hot(self, classes: np.ndarray) -> Tensor:
        if not self.label_size:
            return torch.zeros(len(classes), 0, device=self.device)
        return self._to_device(torch.from_numpy(one_hot(classes, self.label_size)))

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor


def iterate(
    state: TrainState, feed: Feed, batches: Iterator[LoadedBatch], moment: Moment, n_critic: int
) -> dict[str, Tensor]:
    """Trains D `n_critic` times and G once; returns the terms of both as 0-d tensors, still on the device."""
    state.enter(moment)
    alpha = torch.tensor(moment.alpha, dtype=torch.float32, device=state.device)
    terms: dict[str, Tensor] = {}
    for _ in range(n_critic):
        batch = feed.discriminator(next(batches), state.nimg, alpha)
        terms = discriminator_step(state, batch, moment.level, alpha)
        ema.update(state.average, state.generator, state.config.ema_decay)
        state.counters["nimg"] += len(batch.reals)
    batch = feed.generator(batch, state.nimg)
    terms |= generator_step(state, batch, moment.level, alpha)
    state.counters["iteration"] += 1
    return terms


def discriminator_step(state: TrainState, batch: Batch, level: int, alpha: Tensor) -> dict[str, Tensor]:
    """One update of D."""
    parameters, scale = step.live(state.discriminator), state.d_scaler.scale()
    loss, terms = step.d_loss(state.setup, parameters, step.frozen(state.generator), batch, level, alpha, scale)
    found = step.gradients(loss, parameters, scale)
    if _apply(state, state.d_optimizer, parameters, found, state.d_scaler.accept(found)):
        values = {name: value.detach() for name, value in {**terms.losses, **terms.stats}.items()}
        for objective in state.setup.objectives:
            objective.after_d_step(values, state.discriminator)
    return _reported("d_loss", terms)


def generator_step(state: TrainState, batch: Batch, level: int, alpha: Tensor) -> dict[str, Tensor]:
    """One update of G; no gradient of D's weights is computed."""
    parameters, scale = step.live(state.generator), state.g_scaler.scale()
    loss, terms = step.g_loss(state.setup, parameters, step.frozen(state.discriminator), batch, level, alpha, scale)
    found = step.gradients(loss, parameters, scale)
    _apply(state, state.g_optimizer, parameters, found, state.g_scaler.accept(found))
    return _reported("g_loss", terms)


def _apply(
    state: TrainState,
    optimizer: torch.optim.Optimizer,
    parameters: step.Parameters,
    gradients: dict[str, Tensor | None],
    good: bool,
) -> bool:
    if not good:
        state.counters["skipped"] += 1
        return False
    for name, parameter in parameters.items():
        parameter.grad = gradients[name]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return True


def _reported(total: str, terms: step.Terms) -> dict[str, Tensor]:
    values = {total: terms.total(), **terms.losses, **terms.stats}
    return {name: value.detach() for name, value in values.items()}
