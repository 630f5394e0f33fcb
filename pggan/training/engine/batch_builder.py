"""Batches of a training step: loaded images on the device, with latents, labels and noise addressed by images seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pggan.data.label_columns import LabelColumn
from pggan.data.loading.loader import BatchRequest, LoadedBatch
from pggan.losses.base import Batch
from pggan.networks.latents import CodeSpace
from pggan.training.engine import loss_functions, rng
from pggan.training.engine.loss_functions import StepInputs
from pggan.training.engine.state import TrainState
from pggan.utils.devices import widest_dtype


class BatchBuilder:
    """Makes a step's `Batch` from loaded images.

    Each process draws the noise of the whole minibatch and takes its own samples of it.
    """

    def __init__(
        self,
        state: TrainState,
        column: int | Sequence[int] = (),
        known: np.ndarray | None = None,
        columns: Sequence[LabelColumn] | None = None,
    ) -> None:
        """Prepares for a run.

        Args:
            state: The run's training state.
            column: Places in the data of the label columns that a conditional run uses.
            known: Entries (N, columns) from which the labels of fakes are drawn; of a single column also (N,), with -1
                for unknown ones. None without labels.
            columns: Their kinds; None: as the run's label layout has them, without names.
        """
        self.seed, self.device, self.world = state.config.seed, state.device, state.world
        self.latent_size, self.label_size = state.config.latent_size, state.config.label_size
        self.codes = CodeSpace(state.config.categorical, state.config.continuous)
        self.conditional = state.generator.config.label_size > 0
        self.objectives = state.context.objectives
        # the level of detail of reals varies where the data grow
        self.schedule = state.schedule if state.config.growth == "data" else None
        self.columns = _unnamed_columns(state.config.label_layout) if columns is None else columns
        self.at = np.atleast_1d(np.asarray(column, np.int64))[: len(self.columns)]
        rows = None if known is None or not self.columns else known.reshape(len(known), len(self.columns))
        self.known = None if rows is None else rows[(rows >= 0).all(axis=1)]

    def d_batch(self, loaded: LoadedBatch, nimg: int, alpha: Tensor) -> Batch:
        """Makes the batch of D's step.

        Args:
            loaded: This process's images of the minibatch.
            nimg: Images seen before this step.
            alpha: How far the level is faded in, 0-d.
        """
        images, held_out = self._images(loaded.images), loaded.held_out
        count = len(images) * self.world.size
        return Batch(
            reals=self._reals(images, nimg, alpha),
            labels=self._vectors(loaded.labels[:, self.at]),
            latents=self._own(self._latents(nimg, rng.D_LATENTS, "d:codes", count)),
            fake_labels=self._own(self._fake_labels(nimg, rng.FAKE_LABELS, count)),
            mixing=self._own(rng.uniform(self.seed, nimg, rng.MIXING, (count,), self.device)),
            noise=self._noise("d", nimg, count, images.shape),
            nimg=self._seen(nimg),
            held_out=images.new_zeros(0, dtype=torch.float32)
            if held_out is None
            else self._reals(self._images(held_out), nimg, alpha),
        )

    def g_batch(self, like: Batch, nimg: int) -> Batch:
        """Makes the batch of G's step: D's, with fresh latents, labels and noise."""
        count = len(like.latents) * self.world.size
        latents = self._latents(nimg, rng.G_LATENTS, "g:codes", count)
        labels = self._own(self._fake_labels(nimg, rng.G_LABELS, count))
        noise = self._noise("g", nimg, count, like.reals.shape)
        return like._replace(latents=self._own(latents), fake_labels=labels, noise=noise, nimg=self._seen(nimg))

    def drawn_labels(self, count: int) -> Tensor:
        """Returns label vectors (count, label_size), as frequent as in the data and the same at every call."""
        return self._fake_labels(0, rng.FAKE_LABELS, count)

    def _seen(self, nimg: int) -> Tensor:
        return torch.full((), nimg, dtype=widest_dtype(self.device), device=self.device)

    def _reals(self, images: Tensor, nimg: int, alpha: Tensor) -> Tensor:
        """Converts 8-bit images to what D sees, with the detail that the schedule gives."""
        reals = loss_functions.real_images(images, alpha)
        if self.schedule is None:
            return reals
        now = self.schedule.at(nimg)
        assert now.detail is not None, "the data grow"
        return loss_functions.blurred(reals, now.detail, now.detail_alpha)

    def _latents(self, nimg: int, purpose: int, codes: str, count: int) -> Tensor:
        """Draws latents, and structured codes where the run has some: (count, latent_size + code_size)."""
        latents = rng.normal(self.seed, nimg, purpose, (count, self.latent_size), self.device)
        if not self.codes.size:
            return latents
        random = np.random.default_rng(rng.stream_seed(self.seed, nimg, rng.purpose(codes)))
        drawn = torch.from_numpy(self.codes.draw(random, count))
        return torch.cat([latents, self._to_device(drawn)], dim=1)

    def _noise(self, player: str, nimg: int, count: int, shape: torch.Size) -> dict[str, Tensor]:
        """Draws the noise that the objectives ask for, for this process's samples; `shape`: of its reals."""
        noise: dict[str, Tensor] = {}
        for objective in self.objectives:
            for name, (kind, sample) in objective.noise(count, shape[-1], shape[1]).items():
                if name in noise:
                    raise ValueError(f"two objectives ask for noise by the name {name}")
                draw = {"normal": rng.normal, "uniform": rng.uniform}[kind]
                stream = rng.purpose(f"{player}:{name}")
                noise[name] = self._own(draw(self.seed, nimg, stream, (count, *sample), self.device))
        return noise

    def _images(self, images: Any) -> Tensor:
        """Moves loaded images to the device; those of a cache on the device are tensors there already."""
        return images if isinstance(images, Tensor) else self._to_device(torch.from_numpy(images))

    def _own(self, whole: Tensor) -> Tensor:
        """Takes this process's samples of a minibatch: every `size`-th, as the loader does."""
        return whole if self.world.size == 1 else whole[self.world.rank :: self.world.size].contiguous()

    def _fake_labels(self, nimg: int, purpose: int, count: int) -> Tensor:
        """Draws labels as frequent as in the data."""
        if self.known is None or not self.conditional:
            return torch.zeros(count, 0, device=self.device)
        return self._vectors(self.known[rng.integers(self.seed, nimg, purpose, len(self.known), count)])

    def _vectors(self, rows: np.ndarray) -> Tensor:
        """Returns the label vectors (N, label_size) of entries (N, columns)."""
        parts = [column.vectors(rows[:, at]) for at, column in enumerate(self.columns)]
        if not parts:
            return torch.zeros(len(rows), 0, device=self.device)
        return self._to_device(torch.from_numpy(np.concatenate(parts, axis=1)))

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def _unnamed_columns(layout: Sequence[int]) -> list[LabelColumn]:
    """Returns label columns of a layout: by the number of classes, 0 for a number."""
    return [
        LabelColumn("", tuple(map(str, range(size)))) if size else LabelColumn("", bounds=(0, 1)) for size in layout
    ]


def example_inputs(state: TrainState, level: int, images: int) -> dict[str, StepInputs]:
    """Makes inputs of both players' steps as a run of this state has them, on images of noise.

    With lazy penalties their step is a third one, "penalties".

    Args:
        state: Decides the shapes, the noise and the device; nothing of it changes.
        level: log2 of the resolution.
        images: Images of this process.
    """
    config, side = state.config, 2**level
    random = np.random.default_rng(0)
    shape = (images, config.channels, side, side)
    reals, held_out = (random.integers(0, 256, shape, np.uint8) for _ in range(2))
    columns = _unnamed_columns(config.label_layout)
    labels = np.zeros((images, len(columns)), np.int32)
    builder = BatchBuilder(state, range(len(columns)), labels if columns else None, columns)
    loaded = LoadedBatch(reals, labels, BatchRequest(0, images, side), held_out if config.held_out else None)
    half, one = (torch.full((), value, device=state.device) for value in (0.5, 1.0))
    batch = builder.d_batch(loaded, 0, half)
    batches = {"d": batch, "g": builder.g_batch(batch, 0)}
    inputs = {player: StepInputs(player, level, batch, half, one) for player, batch in batches.items()}
    if loss_functions.lazy_objectives(state.context, level):
        inputs["penalties"] = replace(inputs["d"], penalties_only=True)
    return inputs
