"""One iteration in eager mode: discriminator step(s), running average, generator step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from pggan import distributed, ema
from pggan.data.loader import LoadedBatch
from pggan.devices import free_cached, out_of_memory
from pggan.latents import one_hot
from pggan.objectives.base import Batch, Objective
from pggan.training import noise, step
from pggan.training.schedule import Moment
from pggan.training.state import TrainState


class Feed:
    """Makes a step's `Batch` from loaded pictures and addressed noise. `classes` (N,): the data's labels, or None."""

    def __init__(self, state: TrainState, column: int, classes: np.ndarray | None) -> None:
        self.seed, self.device, self.world = state.config.seed, state.device, state.world
        self.latent_size, self.label_size = state.config.latent_size, state.config.label_size
        self.column = column
        self.known = None if classes is None else classes[classes >= 0]

    def discriminator(self, loaded: LoadedBatch, nimg: int, alpha: Tensor) -> Batch:
        """`nimg`: images seen before this step. Noise is that of the whole minibatch's samples of this process."""
        images = loaded.images  # a tensor where the device keeps the pictures
        reals = images if isinstance(images, Tensor) else self._to_device(torch.from_numpy(images))
        count = len(reals) * self.world.size
        labels = loaded.labels[:, self.column] if self.label_size else np.zeros(len(reals), np.int64)
        return Batch(
            reals=step.real_images(reals, alpha),
            labels=self._one_hot(labels),
            latents=self._own(noise.normal(self.seed, nimg, noise.D_LATENTS, (count, self.latent_size), self.device)),
            fake_labels=self._own(self._fake_labels(nimg, noise.FAKE_LABELS, count)),
            mixing=self._own(noise.uniform(self.seed, nimg, noise.MIXING, (count,), self.device)),
            noise={},
        )

    def generator(self, like: Batch, nimg: int) -> Batch:
        """Fresh latents and labels for the generator's step."""
        count = len(like.latents) * self.world.size
        latents = noise.normal(self.seed, nimg, noise.G_LATENTS, (count, self.latent_size), self.device)
        labels = self._own(self._fake_labels(nimg, noise.G_LABELS, count))
        return like._replace(latents=self._own(latents), fake_labels=labels)

    def _own(self, whole: Tensor) -> Tensor:
        """This process's samples of a minibatch: every `size`-th, as the loader's."""
        return whole if self.world.size == 1 else whole[self.world.rank :: self.world.size].contiguous()

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
    """Trains D `n_critic` times and G once; returns the terms of both as 0-d tensors, still on the device.

    `batches` hold this process's share of each minibatch.
    """
    state.enter(moment)
    alpha = torch.tensor(moment.alpha, dtype=torch.float32, device=state.device)
    terms: dict[str, Tensor] = {}
    for _ in range(n_critic):
        batch = feed.discriminator(next(batches), state.nimg, alpha)
        terms = discriminator_step(state, batch, moment.level, alpha)
        ema.update(state.average, state.generator, state.config.ema_decay)
        state.counters["nimg"] += len(batch.reals) * state.world.size
    batch = feed.generator(batch, state.nimg)
    terms |= generator_step(state, batch, moment.level, alpha)
    state.counters["iteration"] += 1
    return terms


def discriminator_step(state: TrainState, batch: Batch, level: int, alpha: Tensor) -> dict[str, Tensor]:
    """One update of D."""
    parameters, scale = step.live(state.discriminator), state.d_scaler.scale()
    constants = step.frozen(state.generator)

    def loss_of(part: Batch) -> tuple[Tensor, step.Terms]:
        return step.d_loss(state.setup, parameters, constants, part, level, alpha, scale)

    found, losses, stats = _gradients(state, batch, level, parameters, loss_of, scale)
    good = state.d_scaler.judge(found.values())
    _apply(state, state.d_optimizer, parameters, found, good)
    watching = [each for each in state.setup.objectives if type(each).after_d_step is not Objective.after_d_step]
    if watching and bool(good):
        values = {**losses, **stats}
        distributed.average(list(values.values()), state.world)  # their state is the same in every process
        for objective in watching:
            objective.after_d_step(values, state.discriminator)
    return {"d_loss": _total(losses), **losses, **stats}


def generator_step(state: TrainState, batch: Batch, level: int, alpha: Tensor) -> dict[str, Tensor]:
    """One update of G; no gradient of D's weights is computed."""
    parameters, scale = step.live(state.generator), state.g_scaler.scale()
    constants = step.frozen(state.discriminator)

    def loss_of(part: Batch) -> tuple[Tensor, step.Terms]:
        return step.g_loss(state.setup, parameters, constants, part, level, alpha, scale)

    found, losses, stats = _gradients(state, batch, level, parameters, loss_of, scale)
    _apply(state, state.g_optimizer, parameters, found, state.g_scaler.judge(found.values()))
    return {"g_loss": _total(losses), **losses, **stats}


Values = dict[str, Tensor]


def _gradients(
    state: TrainState,
    batch: Batch,
    level: int,
    parameters: step.Parameters,
    loss_of: Callable[[Batch], tuple[Tensor, step.Terms]],
    scale: Tensor,
) -> tuple[dict[str, Tensor | None], Values, Values]:
    """Gradients of the mean loss over the micro-batches of all processes, and this process's losses and stats.

    Where memory does not suffice, the micro-batches are halved, down to one group of the minibatch statistic.
    """
    while True:
        parts = state.parts_of(level, len(batch.latents))
        try:
            found, losses, stats = _over_parts(batch, parts, parameters, loss_of, scale)
            break
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error) or not state.halve(level, len(batch.latents)):
                raise
        free_cached(state.device)  # outside the handler, whose traceback holds what did not fit
    distributed.average([g for g in found.values() if g is not None], state.world)
    return found, losses, stats


def _over_parts(
    batch: Batch,
    parts: int,
    parameters: step.Parameters,
    loss_of: Callable[[Batch], tuple[Tensor, step.Terms]],
    scale: Tensor,
) -> tuple[dict[str, Tensor | None], Values, Values]:
    sums: dict[str, Tensor | None] = {}
    losses: Values = {}
    stats: Values = {}
    for index in range(parts):
        loss, terms = loss_of(batch.part(index, parts))
        found = step.gradients(loss, parameters, scale)
        if parts == 1:
            return found, _detached(terms.losses), _detached(terms.stats)
        for name, g in found.items():
            before = sums.get(name)
            sums[name] = g if before is None else before if g is None else before.add_(g)
        for into, values in ((losses, terms.losses), (stats, terms.stats)):
            for name, value in values.items():
                into[name] = into[name] + value.detach() / parts if name in into else value.detach() / parts
    return {name: None if g is None else g / parts for name, g in sums.items()}, losses, stats


def _apply(
    state: TrainState,
    optimizer: torch.optim.Optimizer,
    parameters: step.Parameters,
    gradients: dict[str, Tensor | None],
    good: Tensor,
) -> None:
    """The optimiser's step, left out where `good` is 0; a fused optimiser looks at that on the device."""
    if state.fused:
        optimizer.found_inf = 1 - good  # type: ignore[attr-defined]
    elif not bool(good):
        return
    for name, parameter in parameters.items():
        parameter.grad = gradients[name]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _detached(values: Values) -> Values:
    return {name: value.detach() for name, value in values.items()}


def _total(losses: Values) -> Tensor:
    return torch.stack(list(losses.values())).sum()
