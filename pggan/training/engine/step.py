"""One iteration: discriminator step(s), running average, generator step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pggan.config.schedule import Schedule, ScheduleState
from pggan.data.loading.loader import LoadedBatch
from pggan.losses.base import Batch, Objective
from pggan.networks import ema
from pggan.networks.latents import CodeSpace, one_hot
from pggan.training.engine import loss_functions, rng
from pggan.training.engine.gradients import Gradients, Values
from pggan.training.engine.state import TrainState
from pggan.utils import distributed
from pggan.utils.devices import free_cached, out_of_memory


class BatchBuilder:
    """Makes a step's `Batch` from loaded pictures and addressed noise. `classes` (N,): the data's labels, or None."""

    def __init__(self, state: TrainState, column: int, classes: np.ndarray | None) -> None:
        self.seed, self.device, self.world = state.config.seed, state.device, state.world
        self.latent_size, self.label_size = state.config.latent_size, state.config.label_size
        self.codes = CodeSpace(state.config.categorical, state.config.continuous)
        self.conditional = state.generator.config.label_size > 0
        self.objectives = state.setup.objectives
        # the level of detail of reals varies where the data grow
        self.schedule = Schedule(state.config) if state.config.growth == "data" else None
        self.column = column
        self.known = None if classes is None else classes[classes >= 0]

    def discriminator(self, loaded: LoadedBatch, nimg: int, alpha: Tensor) -> Batch:
        """`nimg`: images seen before this step. Noise is that of the whole minibatch's samples of this process."""
        reals, held_out = self._pictures(loaded.images), loaded.held_out
        count = len(reals) * self.world.size
        labels = loaded.labels[:, self.column] if self.label_size else np.zeros(len(reals), np.int64)
        return Batch(
            reals=self._reals(reals, nimg, alpha),
            labels=self._one_hot(labels),
            latents=self._own(self._latents(nimg, rng.D_LATENTS, "d:codes", count)),
            fake_labels=self._own(self._fake_labels(nimg, rng.FAKE_LABELS, count)),
            mixing=self._own(rng.uniform(self.seed, nimg, rng.MIXING, (count,), self.device)),
            noise=self._noise("d", nimg, count, reals.shape),
            nimg=torch.full((), nimg, dtype=torch.float64, device=self.device),
            held_out=reals.new_zeros(0, dtype=torch.float32)
            if held_out is None
            else self._reals(self._pictures(held_out), nimg, alpha),
        )

    def generator(self, like: Batch, nimg: int) -> Batch:
        """Fresh latents and labels for the generator's step."""
        count = len(like.latents) * self.world.size
        latents = self._latents(nimg, rng.G_LATENTS, "g:codes", count)
        labels = self._own(self._fake_labels(nimg, rng.G_LABELS, count))
        extra = self._noise("g", nimg, count, like.reals.shape)
        seen = torch.full((), nimg, dtype=torch.float64, device=self.device)
        return like._replace(latents=self._own(latents), fake_labels=labels, noise=extra, nimg=seen)

    def _reals(self, images: Tensor, nimg: int, alpha: Tensor) -> Tensor:
        """8-bit pictures as D sees them, with the detail that the schedule gives."""
        reals = loss_functions.real_images(images, alpha)
        if self.schedule is None:
            return reals
        now = self.schedule.at(nimg)
        assert now.detail is not None, "the data grow"
        return loss_functions.blurred(reals, now.detail, now.detail_alpha)

    def _latents(self, nimg: int, purpose: int, codes: str, count: int) -> Tensor:
        """Noise, and structured codes where the run has some: (count, latent_size + code_size)."""
        latents = rng.normal(self.seed, nimg, purpose, (count, self.latent_size), self.device)
        if not self.codes.size:
            return latents
        random = np.random.default_rng(rng.stream_seed(self.seed, nimg, rng.purpose(codes)))
        drawn = torch.from_numpy(self.codes.draw(random, count))
        return torch.cat([latents, self._to_device(drawn)], dim=1)

    def _noise(self, player: str, nimg: int, count: int, shape: torch.Size) -> dict[str, Tensor]:
        """What the objectives ask for, of this process's samples of reals (N, C, R, R)."""
        made: dict[str, Tensor] = {}
        for objective in self.objectives:
            for name, (kind, each) in objective.noise(count, shape[-1], shape[1]).items():
                if name in made:
                    raise ValueError(f"two objectives ask for noise by the name {name}")
                draw = {"normal": rng.normal, "uniform": rng.uniform}[kind]
                stream = rng.purpose(f"{player}:{name}")
                made[name] = self._own(draw(self.seed, nimg, stream, (count, *each), self.device))
        return made

    def _pictures(self, images: Any) -> Tensor:
        """Loaded pictures on the device: a tensor already where it keeps them."""
        return images if isinstance(images, Tensor) else self._to_device(torch.from_numpy(images))

    def _own(self, whole: Tensor) -> Tensor:
        """This process's samples of a minibatch: every `size`-th, as the loader's."""
        return whole if self.world.size == 1 else whole[self.world.rank :: self.world.size].contiguous()

    def _fake_labels(self, nimg: int, purpose: int, count: int) -> Tensor:
        """Labels as frequent as in the data."""
        if self.known is None or not self.conditional:
            return torch.zeros(count, 0, device=self.device)
        return self._one_hot(self.known[rng.integers(self.seed, nimg, purpose, len(self.known), count)])

    def _one_hot(self, classes: np.ndarray) -> Tensor:
        if not self.label_size:
            return torch.zeros(len(classes), 0, device=self.device)
        return self._to_device(torch.from_numpy(one_hot(classes, self.label_size)))

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor


def train_step(
    state: TrainState, feed: BatchBuilder, batches: Iterator[LoadedBatch], moment: ScheduleState, n_critic: int
) -> dict[str, Tensor]:
    """Trains D `n_critic` times and G once; returns the terms of both as 0-d tensors, still on the device.

    `batches` hold this process's share of each minibatch.
    """
    state.enter(moment)
    alpha = torch.full((), moment.alpha, dtype=torch.float32, device=state.device)  # copying it there would wait
    terms: dict[str, Tensor] = {}
    for _ in range(n_critic):
        batch = feed.discriminator(next(batches), state.nimg, alpha)
        terms = discriminator_step(state, batch, moment.level, alpha)
        ema.update(state.average, state.generator, state.config.average_decay(moment.batch))
        state.counters["nimg"] += len(batch.reals) * state.world.size
    batch = feed.generator(batch, state.nimg)
    terms |= generator_step(state, batch, moment.level, alpha)
    state.counters["iteration"] += 1
    return terms


def discriminator_step(state: TrainState, batch: Batch, level: int, alpha: Tensor) -> dict[str, Tensor]:
    """One update of D."""
    found, losses, stats = compute_gradients(state, "d", batch, level, alpha, state.d_scaler.scale())
    good = state.d_scaler.check_finite_and_update(found.values())
    optimizer_step(state, state.d_optimizer, loss_functions.parameters_of(state.discriminator), found, good)
    watching = [each for each in state.setup.objectives if type(each).after_d_step is not Objective.after_d_step]
    if watching:
        values = _agreed({**losses, **stats}, state)
        values["images"] = torch.full((), float(len(batch.latents) * state.world.size), device=state.device)
        for objective in watching:
            with _unless_faulty(objective, good):
                objective.after_d_step(values, state.discriminator)
    return {"d_loss": _total(losses), **losses, **stats}


def generator_step(state: TrainState, batch: Batch, level: int, alpha: Tensor) -> dict[str, Tensor]:
    """One update of G; no gradient of D's weights is computed."""
    found, losses, stats = compute_gradients(state, "g", batch, level, alpha, state.g_scaler.scale())
    good = state.g_scaler.check_finite_and_update(found.values())
    optimizer_step(state, state.g_optimizer, loss_functions.parameters_of(state.generator), found, good)
    watching = [each for each in state.setup.objectives if type(each).after_g_step is not Objective.after_g_step]
    if watching:
        values = _agreed({**losses, **stats}, state)
        for objective in watching:
            with _unless_faulty(objective, good):
                objective.after_g_step(values, state.generator)
    return {"g_loss": _total(losses), **losses, **stats}


@contextmanager
def _unless_faulty(objective: Objective, good: Tensor) -> Iterator[None]:
    """What an objective learns within the block is taken back where `good` is 0, without the host waiting for it."""
    before = [buffer.clone() for buffer in objective.buffers()]
    with torch.no_grad():
        yield
        for buffer, old in zip(objective.buffers(), before, strict=True):
            buffer.copy_(torch.where(good > 0, buffer, old))


def _agreed(values: Values, state: TrainState) -> Values:
    """A step's values as means over the processes: what is made of them is then the same in every one."""
    values = {name: value.clone() for name, value in values.items()}
    distributed.all_reduce_mean(list(values.values()), state.world)
    return values


def compute_gradients(
    state: TrainState, player: str, batch: Batch, level: int, alpha: Tensor, scale: Tensor
) -> Gradients:
    """Gradients of the mean loss over the micro-batches of all processes, and this process's losses and stats.

    Where memory does not suffice, the micro-batches are halved, down to one group of the minibatch statistic; then
    activations are computed again.
    """

    def compute(part: Batch) -> Gradients:
        return state.computing(state.setup, player, part, level, alpha, scale)

    while True:
        parts = state.num_micro_batches(level, len(batch.latents))
        try:
            found = accumulate_gradients(batch, parts, compute)
            break
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error) or not state.reduce_memory(level, len(batch.latents)):
                raise
        free_cached(state.device)  # outside the handler, whose traceback holds what did not fit
    distributed.all_reduce_mean([g for g in found.found.values() if g is not None], state.world)
    return found


def accumulate_gradients(batch: Batch, parts: int, compute: Callable[[Batch], Gradients]) -> Gradients:
    if parts == 1:
        return compute(batch)
    sums: dict[str, Tensor | None] = {}
    losses: Values = {}
    stats: Values = {}
    for index in range(parts):
        part = compute(batch.part(index, parts))
        for name, g in part.found.items():
            before = sums.get(name)
            if before is None:
                sums[name] = None if g is None else g.clone()  # the next part may overwrite it
            elif g is not None:
                before.add_(g)
        for into, values in ((losses, part.losses), (stats, part.stats)):
            for name, value in values.items():
                into[name] = into[name] + value / parts if name in into else value / parts
    return Gradients({name: None if g is None else g / parts for name, g in sums.items()}, losses, stats)


def optimizer_step(
    state: TrainState,
    optimizer: torch.optim.Optimizer,
    parameters: loss_functions.Parameters,
    gradients: dict[str, Tensor | None],
    good: Tensor,
) -> None:
    """The optimiser's step, left out where `good` is 0; a fused optimiser looks at that on the device."""
    if state.fused and optimizer.defaults.get("fused"):
        optimizer.found_inf = 1 - good  # type: ignore[attr-defined]
    elif not bool(good):
        return
    for name, parameter in parameters.items():
        parameter.grad = _laid_out_as(parameter, gradients[name])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _laid_out_as(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """A gradient in its weight's memory layout: compilers and libraries choose their own, fused optimisers want one."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def _total(losses: Values) -> Tensor:
    return torch.stack(list(losses.values())).sum()
