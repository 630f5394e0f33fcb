"""A trained model to use: `pggan.load(path)`, then pictures from seeds, raw outputs from latents, scores of images."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.checkpoints import ModelFile, load_model
from pggan.devices import free_cached, free_memory, full_float32, out_of_memory, pick_device
from pggan.errors import ModelError, OutOfMemoryError, UsageError
from pggan.labels import LabelSpace
from pggan.latents import MAX_SEED, CodeSpace, seed_latents
from pggan.networks.cost import synthesis_bytes
from pggan.networks.discriminator import DiscriminatorOutput
from pggan.places import find_model

# What one batch of synthesis may take of the memory that is free, and how many images at most.
MEMORY_SHARE = 0.25
MAX_BATCH = 256


def load(path: str | Path | None = None, device: str = "auto", best: bool = False) -> Model:
    """Loads a model: a file, a run directory (its newest model) or a shipped model's name; None: the shipped one.

    `device`: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1". `best`: of a run, the model that its metric found
    best. Raises `ModelError` where it cannot be read, `UsageError` for a device that is not there.
    """
    where = pick_device(device)
    found = find_model(path, best)
    return Model(load_model(found, where), where, found)


class Model:
    """A generator (and, where the file keeps it, its discriminator) at the level and alpha of its file."""

    def __init__(self, file: ModelFile, device: torch.device, path: Path | None = None) -> None:
        self.file = file
        self.device = device
        self.path = path

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem if self.path is not None else "model"

    @property
    def resolution(self) -> int:
        """Side of the generated pictures at the stored level."""
        return int(2**self.file.level)

    @property
    def channels(self) -> int:
        return self.file.generator.config.channels

    @property
    def latent_size(self) -> int:
        return self.file.generator.config.latent_size

    @property
    def codes(self) -> CodeSpace:
        """The structured codes that the latents end with (InfoGAN); empty for most models."""
        config = self.file.generator.config
        return CodeSpace(config.categorical, config.continuous)

    @property
    def label_size(self) -> int:
        """Classes of a conditional model, else 0."""
        return self.file.generator.config.label_size

    @property
    def classes(self) -> list[str]:
        """Every class as `--label` takes it, in the order of the label vector; numbers where the file names none."""
        return self.labels.names

    @property
    def labels(self) -> LabelSpace:
        """Label columns and classes of a conditional model."""
        return LabelSpace.of(self.file.labels, self.label_size)

    @property
    def info(self) -> dict[str, Any]:
        """What the file tells of its making: data, attribution, images seen, versions."""
        return self.file.info

    def batch_size(self, level: int | None = None) -> int:
        """Images that one batch of synthesis holds within a quarter of the free memory, 1 to 256."""
        each = synthesis_bytes(self.file.generator.config, level or self.file.level)
        config = self.file.generator.config
        beside = config.reference_size if config.norm == "virtual-batch" else 0  # goes through the layers with them
        fitting = int(max(1, min(MAX_BATCH, MEMORY_SHARE * free_memory(self.device) // each - beside)))
        return 1 << (fitting.bit_length() - 1)  # a power of two: small changes of free memory change nothing

    @torch.inference_mode()
    def synthesize(
        self,
        latents: Tensor | NDArray[Any],
        labels: Tensor | NDArray[Any] | None = None,
        level: int | None = None,
        alpha: float | None = None,
    ) -> Tensor:
        """The raw network output, float (N, C, R, R) around [-1, 1], R = 2**level, on the model's device.

        `latents` (N, latent_size + codes.size), `labels` (N, label_size). `level` and `alpha` None: as the file stores
        them; alpha is 1 at another level than the stored one. Raises `UsageError` for shapes, levels or alphas that do
        not fit.
        """
        level, fade = self._stage(level, alpha)
        z = self._tensor(latents, self.latent_size + self.codes.size, "latents")
        y = self._tensor(labels, self.label_size, "labels") if labels is not None else None
        if y is None and self.label_size:
            raise UsageError(f"this model is conditional: give labels of shape (N, {self.label_size})")
        if y is not None and len(y) != len(z):
            raise UsageError(f"{len(z)} latents but {len(y)} labels")
        try:
            with full_float32(self.device):
                return self.file.generator(z, level, fade, y)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise OutOfMemoryError(f"out of memory with {len(z)} pictures at a time; give a smaller batch") from None

    @torch.inference_mode()
    def discriminator(
        self, images: Tensor | NDArray[Any], level: int | None = None, alpha: float | None = None
    ) -> DiscriminatorOutput:
        """Scores of images (N, C, R, R) in [-1, 1], R = 2**level: `.score` (N,), `.class_logits` (N, K) or None.

        The minibatch statistic makes a score depend on its neighbours; it wants N up to its group (4 by default) or a
        multiple of it. Raises `ModelError` where the file keeps no discriminator, `UsageError` for other images or N.
        """
        if self.file.discriminator is None:
            raise ModelError("this model file keeps no discriminator; use one of a run's models")
        level, fade = self._stage(level, alpha)
        x = torch.as_tensor(images, device=self.device).to(self._dtype())
        try:
            return self.file.discriminator(x, level, fade)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def generate(
        self,
        seeds: int | Iterable[int],
        label: int | str | None = None,
        batch: int | None = None,
        codes: Mapping[int, float] | None = None,
    ) -> NDArray[np.uint8]:
        """Pictures of seeds, uint8 (N, H, W, C). A seed is a picture, whatever the others and the batch.

        `label`: class (number, name, or `column=class` pairs) of a conditional model; None: each seed's own. `codes`:
        value by number of structured codes; the others are each seed's own. Raises `UsageError` for seeds, labels or
        codes out of range.
        """
        wanted = [int(seeds)] if isinstance(seeds, numbers.Integral) else [int(seed) for seed in seeds]  # type: ignore[union-attr]
        pictures = list(self.stream(wanted, label, batch, codes))
        side = self.resolution
        return np.concatenate(pictures) if pictures else np.zeros((0, side, side, self.channels), np.uint8)

    def stream(
        self,
        seeds: Sequence[int],
        label: int | str | None = None,
        batch: int | None = None,
        codes: Mapping[int, float] | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """As `generate`, in batches sized to memory: what files, grids, videos and metrics consume.

        A batch that was not asked for is halved where memory turns out to be short of it.
        """
        for seed in seeds:
            if not 0 <= seed <= MAX_SEED:
                raise UsageError(f"seed {seed} is not from 0 to {MAX_SEED}")
        if batch is not None and batch < 1:
            raise UsageError(f"a batch of {batch} is none; give 1 or more")
        size = batch or self.batch_size()
        start = 0
        while start < len(seeds):
            part = seeds[start : start + size]
            latents, labels = self.seed_latents(part, codes), self.seed_labels(part, label)
            # a batch that was asked for keeps its size to the end: the same seed is then the same to the last bit
            missing = size - len(part) if batch else 0
            if missing:
                latents = np.pad(latents, ((0, missing), (0, 0)))
                labels = None if labels is None else np.pad(labels, ((0, missing), (0, 0)))
            try:
                made = self.pictures(latents, labels)
            except OutOfMemoryError:
                if batch or len(part) == 1:
                    raise
                size = len(part) // 2
                free_cached(self.device)
                continue
            yield made[: len(part)]
            start += len(part)

    def pictures(self, latents: NDArray[Any], labels: NDArray[Any] | None = None) -> NDArray[np.uint8]:
        """8-bit pictures (N, H, W, C) of latents (N, latent_size + codes.size)."""
        return to_uint8(self.synthesize(latents, labels))

    def seed_latents(self, seeds: Sequence[int], codes: Mapping[int, float] | None = None) -> NDArray[np.float32]:
        """What the generator reads for seeds, (N, latent_size + codes.size): noise, then each seed's codes.

        `codes`: value by number, instead of the seeds' own. Raises `UsageError` for one the model lacks.
        """
        if not self.codes.size and not codes:
            return seed_latents(seeds, self.latent_size)
        return np.concatenate([seed_latents(seeds, self.latent_size), self.codes.of_seeds(seeds, codes)], axis=1)

    def seed_classes(self, seeds: Sequence[int], label: int | str | None = None) -> list[tuple[int, ...]]:
        """Class numbers, one a label column, of every seed: as asked for, else the seed's own.

        `label`: a class's name or number, or `column=class` pairs. Raises `UsageError` for one the model lacks.
        """
        return self.labels.of_seeds(seeds, self.latent_size, label)

    def seed_labels(self, seeds: Sequence[int], label: int | str | None = None) -> NDArray[np.float32] | None:
        """Label vectors (N, label_size) for seeds, None for a model without labels."""
        rows = self.seed_classes(seeds, label)
        return self.labels.vectors(rows) if self.label_size else None

    def _dtype(self) -> torch.dtype:
        return next(self.file.generator.parameters()).dtype

    def _stage(self, level: int | None, alpha: float | None) -> tuple[int, Tensor]:
        chosen = self.file.level if level is None else level
        first, last = self.file.generator.config.min_level, self.file.generator.config.max_level
        if not first <= chosen <= last:
            raise UsageError(f"level {chosen} is not {f'from {first} to {last}' if first < last else last}")
        if alpha is None:
            alpha = self.file.alpha if chosen == self.file.level else 1.0
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha {alpha} is not from 0 to 1")
        return chosen, torch.tensor(alpha, dtype=torch.float64, device=self.device)

    def _tensor(self, values: Tensor | NDArray[Any], width: int, what: str) -> Tensor:
        tensor = torch.as_tensor(values, device=self.device).to(self._dtype())
        if tensor.ndim != 2 or tensor.shape[1] != width:
            raise UsageError(f"{what} have shape {tuple(tensor.shape)}, this model takes (N, {width})")
        return tensor


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Network output (N, C, H, W) around [-1, 1] to 8 bits (N, H, W, C): `clip(rint(127.5 x + 127.5), 0, 255)`."""
    scaled = (images * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
