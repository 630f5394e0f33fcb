"""A trained model to use: `pggan.load(path)`, then images of seeds, raw outputs of latents, scores of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.content.channels import straight
from pggan.generation.batching import largest_batch, stream_batches, translate_out_of_memory
from pggan.generation.generator_runner import MODES, GeneratorRunner
from pggan.generation.grid import Images, image_grid
from pggan.generation.labels import LabelSpace
from pggan.generation.seeds import check_seeds
from pggan.generation.to_uint8 import PendingImages, start_to_uint8
from pggan.networks.discriminator import DiscriminatorOutput
from pggan.networks.latents import CodeSpace, seed_latents
from pggan.networks.mapping import truncate
from pggan.networks.model_file import ModelFile, load_model
from pggan.utils.devices import full_float32, pick_device, widest_dtype
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.paths import find_model

# A last batch is padded to the compiled batch size where it has at least this share of it; a smaller one is eager.
PAD_FROM = 0.25


def load(
    path: str | Path | None = None,
    device: str = "auto",
    best: bool = False,
    mode: str = "auto",
    note: Callable[[str], None] = lambda message: None,
    truncation: float = 1.0,
    raw: bool = False,
) -> Model:
    """Loads a model.

    Args:
        path: A model file, a run directory (its newest model), a shipped model's name, or None: the first that ships.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda", "cuda:1", "mps" or "xpu".
        best: Of a run directory, load the model with the best figure of the run's metric instead.
        mode: How images are computed: "eager", "compiled", or "auto", which compiles where enough images are to come.
        note: Receives messages, such as how long compiling took.
        truncation: See `Model.truncation`.
        raw: Use the trained generator itself instead of its average (EMA).

    Raises:
        ModelError: The model cannot be read, or keeps no generator but the average.
        UsageError: No such mode or device, or the model cannot truncate.
    """
    if mode not in MODES:
        raise UsageError(f"unknown mode {mode!r}; choose one of: {', '.join(MODES)}")
    torch_device = pick_device(device)
    file = find_model(path, best)
    contents = load_model(file, torch_device)
    model = Model(contents.without_average() if raw else contents, torch_device, file, mode, note)
    model.truncation = truncation
    return model


class Model:
    """A generator, and the discriminator where the file has it, at the resolution and fade-in alpha of its file."""

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
        self.runner = GeneratorRunner(file.generator, mode, note)

    def _repr_png_(self) -> bytes:  # what a notebook shows
        return image_grid(self.generate(range(8)), columns=4)._repr_png_()

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem if self.path is not None else "model"

    @property
    def resolution(self) -> int:
        """Side of the generated images in pixels, at the stored level."""
        return int(2**self.file.level)

    @property
    def channels(self) -> int:
        return self.file.generator.config.channels

    @property
    def latent_size(self) -> int:
        return self.file.generator.config.latent_size

    @property
    def codes(self) -> CodeSpace:
        """The structured codes at the end of each latent (InfoGAN); empty for most models."""
        config = self.file.generator.config
        return CodeSpace(config.categorical, config.continuous)

    @property
    def label_size(self) -> int:
        """Length of the label vector of a conditional model, else 0."""
        return self.file.generator.config.label_size

    @property
    def truncation(self) -> float:
        """How far pictures are from the average one, 0 to 1 (as trained). Setting it raises what `truncate` does."""
        mapping = self.file.generator.mapping
        return 1.0 if mapping is None else mapping.truncation

    @truncation.setter
    def truncation(self, value: float) -> None:
        truncate(self.file.generator, value)

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
        """The file's notes on its origin: data, attribution, images seen, versions."""
        return self.file.info

    def batch_size(self) -> int:
        """Returns how many images one batch of synthesis holds: see `largest_batch`."""
        return largest_batch(self.file.generator.config, self.file.level, self.device)

    @torch.inference_mode()
    def synthesize(
        self,
        latents: Tensor | NDArray[Any],
        labels: Tensor | NDArray[Any] | None = None,
        level: int | None = None,
        alpha: float | None = None,
        remaining: int = 0,
    ) -> Tensor:
        """Computes the raw network output.

        Args:
            latents: (N, latent_size + codes.size).
            labels: (N, label_size), of a conditional model.
            level: Output is 2**level pixels a side; None: the stored level.
            alpha: Fade-in, 0 to 1; None: the stored alpha at the stored level, 1 at another.
            remaining: Images still to come in batches of this size, these included: whether compiling pays. 0: eager.

        Returns:
            Float (N, C, R, R) around [-1, 1] on the model's device.

        Raises:
            UsageError: Shapes, level or alpha do not fit.
            OutOfMemoryError: The batch does not fit the memory.
        """
        level, alpha = self._level_and_alpha(level, alpha)
        fade = self._to_scalar(alpha) if alpha < 1 else None  # at 1 the lower resolution is not computed at all
        z = self._to_device(latents, self.latent_size + self.codes.size, "latents")
        y = self._to_device(labels, self.label_size, "labels") if labels is not None else None
        if y is None and self.label_size:
            raise UsageError(f"this model is conditional: give labels of shape (N, {self.label_size})")
        if y is not None and len(y) != len(z):
            raise UsageError(f"{len(z)} latents but {len(y)} labels")
        with translate_out_of_memory(len(z)), full_float32(self.device):
            return self.runner(z, level, fade, y, remaining)

    @torch.inference_mode()
    def discriminator(self, images: Any, level: int | None = None, alpha: float | None = None) -> DiscriminatorOutput:
        """Scores images.

        The minibatch statistic makes a score depend on the other images of its group.

        Args:
            images: (N, C, R, R) in [-1, 1], R = 2**level; N is at most the group size (4 by default) or a multiple.
            level: As for `synthesize`.
            alpha: As for `synthesize`.

        Returns:
            Its `.score` is (N,), its `.class_logits` (N, K) or None.

        Raises:
            ModelError: The file has no discriminator.
            UsageError: The images' shape or number does not fit.
        """
        if self.file.discriminator is None:
            raise ModelError("this model file keeps no discriminator; use one of a run's models")
        level, alpha = self._level_and_alpha(level, alpha)
        x = torch.as_tensor(images).to(self._dtype()).to(self.device)
        try:
            output: DiscriminatorOutput = self.file.discriminator(x, level, self._to_scalar(alpha))
        except ValueError as error:
            raise UsageError(str(error)) from None
        return output

    def generate(
        self, seeds: int | Iterable[int], label: int | str | None = None, batch: int | None = None,
        codes: Mapping[int, float] | None = None,
    ) -> Images:  # fmt: skip
        """Generates images. A seed gives the same image whatever the other seeds; its batch changes rounding alone.

        Args:
            seeds: One or more, 0 to 2**32 - 1.
            label: Of a conditional model, as `--label`: a class's number or name, or `age=30,hair=red`; None: each
                seed's own.
            batch: Images computed at once; None: what fits the memory, halved if memory runs out.
            codes: Values of structured codes by number; the others are each seed's own.

        Returns:
            uint8 (N, H, W, C); RGBA as PNG files have it, not multiplied by alpha.

        Raises:
            UsageError: A seed, label or code is out of range.
        """
        return straight(self.seed_images(seeds, label, batch, codes))

    def seed_images(
        self, seeds: int | Iterable[int], label: int | str | None = None, batch: int | None = None,
        codes: Mapping[int, float] | None = None,
    ) -> Images:  # fmt: skip
        """Generates images as `generate` does, RGBA premultiplied, as grids, videos and metrics take it."""
        numbers: list[Any] = [seeds] if isinstance(seeds, Integral) else [*cast(Iterable[int], seeds)]
        check_seeds(numbers)
        numbers = list(map(int, numbers))
        images = np.empty((len(numbers), self.resolution, self.resolution, self.channels), np.uint8)
        start = 0
        for part in self.stream(numbers, label, batch, codes):
            images[start : start + len(part)] = part  # copied: a GPU's batches are in pinned memory
            start += len(part)
        return images

    def stream(
        self, seeds: Sequence[int], label: int | str | None = None, batch: int | None = None,
        codes: Mapping[int, float] | None = None,
    ) -> Iterator[Images]:  # fmt: skip
        """Yields what `seed_images` returns, in batches; a GPU computes the next one while the caller uses the last."""
        check_seeds(seeds)
        if batch is not None and batch < 1:
            raise UsageError(f"a batch of {batch} is none; give 1 or more")

        def start_batch(part: Sequence[int], size: int, remaining: int) -> PendingImages:
            latents, labels = self.seed_latents(part, codes), self.seed_labels(part, label)
            # a batch size that the user chose is the size of every batch, computed in one mode: a seed then gives the
            # same image to the last bit
            fills_compiled = size == self.runner.batch and len(part) >= PAD_FROM * size
            if batch is not None or fills_compiled:
                padding = ((0, size - len(part)), (0, 0))
                latents = np.pad(latents, padding)
                labels = None if labels is None else np.pad(labels, padding)
            if batch is not None and self.runner.mode == "auto":
                remaining, self.runner.why = 0, "a batch that was asked for is computed in one way"
            return self.start_images(latents, labels, remaining)

        return stream_batches(
            seeds, start_batch, batch or self._stream_batch_size(len(seeds)), self.device, is_fixed=batch is not None
        )

    def _stream_batch_size(self, count: int) -> int:
        """Returns the batch size for `count` images: the compiled one where that is more than half the largest."""
        largest = min(self.batch_size(), max(1, count))
        return self.runner.batch if 2 * self.runner.batch > largest else largest

    def start_images(
        self, latents: NDArray[Any], labels: NDArray[Any] | None = None, remaining: int = 0
    ) -> PendingImages:
        """Starts to compute images; the returned call waits for them. Arguments are those of `synthesize`.

        Raises `ModelError`, here or in that call, where a file's weights are too large to compute with.
        """
        # a run that trains has no path: it sees for itself when it diverges, and goes back
        refuse = self._refuse_overflow if self.path is not None else None
        with translate_out_of_memory(len(latents)):
            return start_to_uint8(self.synthesize(latents, labels, remaining=remaining), refuse)

    def _refuse_overflow(self) -> None:
        raise ModelError(
            f"{self.path} makes pictures with values that are not finite: its weights are too large to compute with, "
            "as after a training that diverged; use an earlier model of the run"
        )

    def images(self, latents: NDArray[Any], labels: NDArray[Any] | None = None) -> Images:
        """Returns the images uint8 (N, H, W, C) of latents (N, latent_size + codes.size), as one batch."""
        return self.start_images(latents, labels)()

    def images_in_batches(self, latents: NDArray[Any], labels: NDArray[Any] | None = None) -> Images:
        """Returns the images of any number of latents, computed in batches that fit the memory."""
        size = self.batch_size()
        batches = [slice(start, start + size) for start in range(0, len(latents), size)]
        return np.concatenate([self.images(latents[b], None if labels is None else labels[b]) for b in batches])

    def seed_latents(self, seeds: Sequence[int], codes: Mapping[int, float] | None = None) -> NDArray[np.float32]:
        """Returns the latents of seeds, (N, latent_size + codes.size): noise, then each seed's codes.

        `codes` are values by number instead of the seeds' own. Raises `UsageError` for a code the model lacks.
        """
        if not self.codes.size and not codes:
            return seed_latents(seeds, self.latent_size)
        return np.concatenate([seed_latents(seeds, self.latent_size), self.codes.of_seeds(seeds, codes)], axis=1)

    def seed_entries(self, seeds: Sequence[int], label: int | str | None = None) -> list[tuple[int, ...]]:
        """Returns label entries of seeds, one for each label column: those of `label`, else the seed's own.

        Raises `UsageError` for a label the model lacks.
        """
        return self.labels.of_seeds(seeds, self.latent_size, label)

    def seed_labels(self, seeds: Sequence[int], label: int | str | None = None) -> NDArray[np.float32] | None:
        """Returns the label vectors (N, label_size) of seeds, None for a model without labels."""
        rows = self.seed_entries(seeds, label)
        return self.labels.vectors(rows) if self.label_size else None

    def _dtype(self) -> torch.dtype:
        return next(self.file.generator.parameters()).dtype

    def _level_and_alpha(self, level: int | None, alpha: float | None) -> tuple[int, float]:
        chosen = self.file.level if level is None else level
        first, last = self.file.generator.config.min_level, self.file.generator.config.max_level
        if not first <= chosen <= last:
            raise UsageError(f"level {chosen} is not {f'from {first} to {last}' if first < last else last}")
        if alpha is None:
            alpha = self.file.alpha if chosen == self.file.level else 1.0
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha {alpha} is not from 0 to 1")
        return chosen, float(alpha)

    def _to_scalar(self, alpha: float) -> Tensor:
        # filled in on the device: a copy from the host would wait for the GPU's work in flight
        return torch.full((), alpha, dtype=widest_dtype(self.device), device=self.device)

    def _to_device(self, values: Tensor | NDArray[Any], width: int, name: str) -> Tensor:
        tensor = torch.as_tensor(values).to(self._dtype())  # before: a device may have no float64
        if self.device.type == "cuda" and not tensor.is_cuda:
            tensor = tensor.pin_memory()  # copies from other memory wait for the GPU's work in flight
        tensor = tensor.to(self.device, non_blocking=self.device.type == "cuda")
        if tensor.ndim != 2 or tensor.shape[1] != width:
            raise UsageError(f"{name} have shape {tuple(tensor.shape)}, this model takes (N, {width})")
        return tensor
