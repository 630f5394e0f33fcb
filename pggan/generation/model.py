"""A trained model to use: `pggan.load(path)`, then pictures from seeds, raw outputs from latents, scores of images."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.generation.batching import IN_FLIGHT, stream
from pggan.generation.generator_runner import MODES, GeneratorRunner
from pggan.generation.labels import LabelSpace
from pggan.generation.to_uint8 import fetch
from pggan.networks.discriminator import DiscriminatorOutput
from pggan.networks.flops import synthesis_bytes
from pggan.networks.latents import CodeSpace, seed_latents
from pggan.networks.model_file import ModelFile, load_model
from pggan.utils.devices import free_memory, full_float32, out_of_memory, pick_device
from pggan.utils.errors import ModelError, OutOfMemoryError, UsageError
from pggan.utils.paths import find_model

# What one batch of synthesis may take of the memory that is free, and how many images at most.
MEMORY_SHARE = 0.25
MAX_BATCH = 256
# 8-bit pictures of a batch, in pinned memory; a GPU is kept busy by fewer pixels.
HOST_BYTES = 64 << 20
# Values that the CPU computes on at once, and images at least: larger batches take up to twice the time an image, as
# measured from 4x4 to 128x128 on two cores.
CPU_BYTES = 96 << 20
CPU_BATCH = 16


def load(
    path: str | Path | None = None,
    device: str = "auto",
    best: bool = False,
    mode: str = "auto",
    note: Callable[[str], None] = lambda message: None,
) -> Model:
    """Loads a model: a file, a run directory (its newest model) or a shipped model's name; None: the shipped one.

    `device`: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1". `best`: of a run, the model that its metric found
    best. `mode`: how pictures of seeds are computed, "eager", "compiled" or "auto": compiled where so many are to be
    made that it pays; `note` is told what compiling took. Raises `ModelError` where it cannot be read, `UsageError`
    for a mode that there is not, or a device that is not there.
    """
    if mode not in MODES:
        raise UsageError(f"unknown mode {mode!r}; choose one of: {', '.join(MODES)}")
    where = pick_device(device)
    found = find_model(path, best)
    return Model(load_model(found, where), where, found, mode, note)


class Model:
    """A generator (and, where the file keeps it, its discriminator) at the level and alpha of its file."""

    def __init__(
        self,
        file: ModelFile,
        device: torch.device,
        path: Path | None = None,
        mode: str = "eager",
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.file = file
        self.device = device
        self.path = path
        self.computing = GeneratorRunner(file.generator, mode, note)

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
        """Images that one batch of synthesis holds within a quarter of the free memory, 1 to 256.

        Fewer on the CPU, whose caches hold no more, and of large pictures, two batches of which wait on the host.
        """
        config, level = self.file.generator.config, level or self.file.level
        shown = config.channels * 4**level
        each = synthesis_bytes(config, level) + IN_FLIGHT.get(self.device.type, 1) * shown
        beside = config.reference_size if config.norm == "virtual-batch" else 0  # goes through the layers with them
        most = min(MAX_BATCH, max(1, HOST_BYTES // shown))
        if self.device.type == "cpu":
            most = min(most, max(CPU_BATCH, CPU_BYTES // each))
        fitting = int(max(1, min(most, MEMORY_SHARE * free_memory(self.device) // each - beside)))
        return 1 << (fitting.bit_length() - 1)  # a power of two: small changes of free memory change nothing

    @torch.inference_mode()
    def synthesize(
        self,
        latents: Tensor | NDArray[Any],
        labels: Tensor | NDArray[Any] | None = None,
        level: int | None = None,
        alpha: float | None = None,
        remaining: int = 0,
    ) -> Tensor:
        """The raw network output, float (N, C, R, R) around [-1, 1], R = 2**level, on the model's device.

        `latents` (N, latent_size + codes.size), `labels` (N, label_size). `level` and `alpha` None: as the file stores
        them; alpha is 1 at another level than the stored one. `remaining`: how many there will be of batches as large as
        this one, these included, which tells whether compiling pays; 0: it is eager. Raises `UsageError` for shapes,
        levels or alphas that do not fit.
        """
        level, share = self._stage(level, alpha)
        fade = self._alpha(share) if share < 1 else None  # nothing is computed that would not show
        z = self._tensor(latents, self.latent_size + self.codes.size, "latents")
        y = self._tensor(labels, self.label_size, "labels") if labels is not None else None
        if y is None and self.label_size:
            raise UsageError(f"this model is conditional: give labels of shape (N, {self.label_size})")
        if y is not None and len(y) != len(z):
            raise UsageError(f"{len(z)} latents but {len(y)} labels")
        with self._enough_memory(len(z)), full_float32(self.device):
            return self.computing(z, level, fade, y, remaining)

    @contextmanager
    def _enough_memory(self, count: int) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise OutOfMemoryError(f"out of memory with {count} pictures at a time; give a smaller batch") from None

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
        level, share = self._stage(level, alpha)
        x = torch.as_tensor(images, device=self.device).to(self._dtype())
        try:
            return self.file.discriminator(x, level, self._alpha(share))
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
        pictures = np.empty((len(wanted), self.resolution, self.resolution, self.channels), np.uint8)
        start = 0
        for part in self.stream(wanted, label, batch, codes):
            pictures[start : start + len(part)] = part  # copied: a GPU's batches lie in pinned memory
            start += len(part)
        return pictures

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
        return stream(self, seeds, label, batch, codes)

    def begin(
        self, latents: NDArray[Any], labels: NDArray[Any] | None = None, remaining: int = 0
    ) -> Callable[[], NDArray[np.uint8]]:
        """Begins to make pictures of latents, as `pictures`; the call that it returns waits for them.

        A GPU still computes when this returns. `remaining` as for `synthesize`.
        """
        with self._enough_memory(len(latents)):
            return fetch(self.synthesize(latents, labels, remaining=remaining))

    def pictures(self, latents: NDArray[Any], labels: NDArray[Any] | None = None) -> NDArray[np.uint8]:
        """8-bit pictures (N, H, W, C) of latents (N, latent_size + codes.size)."""
        return self.begin(latents, labels)()

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

    def _stage(self, level: int | None, alpha: float | None) -> tuple[int, float]:
        chosen = self.file.level if level is None else level
        first, last = self.file.generator.config.min_level, self.file.generator.config.max_level
        if not first <= chosen <= last:
            raise UsageError(f"level {chosen} is not {f'from {first} to {last}' if first < last else last}")
        if alpha is None:
            alpha = self.file.alpha if chosen == self.file.level else 1.0
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha {alpha} is not from 0 to 1")
        return chosen, float(alpha)

    def _alpha(self, alpha: float) -> Tensor:
        # filled in on the device: a copy from the host would wait for what a GPU still computes
        return torch.full((), alpha, dtype=torch.float64, device=self.device)

    def _tensor(self, values: Tensor | NDArray[Any], width: int, what: str) -> Tensor:
        tensor = torch.as_tensor(values)
        if self.device.type == "cuda" and not tensor.is_cuda:
            tensor = tensor.to(self._dtype()).pin_memory()  # other copies wait for what the GPU still computes
        tensor = tensor.to(self.device, self._dtype(), non_blocking=True)
        if tensor.ndim != 2 or tensor.shape[1] != width:
            raise UsageError(f"{what} have shape {tuple(tensor.shape)}, this model takes (N, {width})")
        return tensor
