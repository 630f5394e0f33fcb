"""Snapshots: a sample grid of fixed latents, and a model file with the EMA generator."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.schedule import ScheduleState
from pggan.generation.grid import enlarge, grid_image
from pggan.generation.images import write_png
from pggan.generation.model import Model
from pggan.generation.to_uint8 import to_uint8
from pggan.networks.model_file import ModelFile, save_model
from pggan.training.engine.loss_functions import real_images
from pggan.training.engine.state import TrainState
from pggan.training.run.directory import RunDirectory
from pggan.utils.version import __version__

# Largest sample grid, (width, height) in pixels at the run's last resolution and in tiles.
GRID_PIXELS, GRID_TILES = (2560, 1536), (10, 6)
# Bytes of a generator's weights up to which models keep it beside its average, unasked.
RAW_BYTES = 64 << 20
# Key of what a model file says of a power-function average: its length, and the images that it goes over.
POWER = "power_average"
# Images smaller than this (pixels) are enlarged, so that grids of different stages compare.
SMALLEST_TILE = 64


def grid_shape(config_grid: tuple[int, int] | None, max_resolution: int) -> tuple[int, int]:
    """Returns columns and rows of the sample grid: as configured, or what fits the last resolution."""
    if config_grid is not None:
        return config_grid
    side = max(max_resolution, SMALLEST_TILE)
    columns, rows = (min(tiles, max(2, pixels // side)) for tiles, pixels in zip(GRID_TILES, GRID_PIXELS))
    return columns, rows


def enlarged(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarges images (N, H, W, C) that are smaller than a tile by a whole factor, repeating pixels."""
    return enlarge(images, max(1, SMALLEST_TILE // images.shape[1]))


class Snapshots:
    """Writes samples and models of a run.

    `labels`: name and classes of the label column, None for an unconditional generator; `info`: goes into every model
    file, beside its kimg and versions.
    """

    def __init__(self, run: RunDirectory, state: TrainState, labels: dict[str, Any] | None, info: dict[str, Any]):
        self.run, self.state, self.labels, self.info = run, state, labels, info
        self.columns, self.rows = grid_shape(state.config.grid, state.config.max_res)
        self._reals: NDArray[np.uint8] | None = None  # shown beside an auto-encoder's reconstructions

    def model(self, scheduled: ScheduleState) -> ModelFile:
        """The content of a model file at this moment."""
        origin = {"kimg": scheduled.nimg / 1000, "pggan": __version__, "torch": torch.__version__}
        info = {**self.info, **origin}
        average, discriminator = self.state.average, self.state.discriminator
        trained = self.state.generator if self._keeps_trained() else None
        return ModelFile(average, discriminator, scheduled.level, scheduled.alpha, self.labels, info, trained)

    def picture_model(self, scheduled: ScheduleState) -> Model:
        """Returns what makes this moment's pictures: the average, laid out in memory as `pggan generate` has it.

        Training in half precision keeps weights channels-last. Pictures are in float32 without TF32, for which cuDNN
        has few kernels in that layout, and another layout rounds in another way.
        """
        file = self.model(scheduled)
        if any(not parameter.is_contiguous() for parameter in file.generator.parameters()):
            file = replace(file, generator=copy.deepcopy(file.generator).to(memory_format=torch.contiguous_format))
        return Model(file, self.state.device)

    def _keeps_trained(self) -> bool:
        """Whether models keep the trained generator beside its average."""
        if (choice := self.state.config.raw_models) != "auto":
            return choice == "always"
        return sum(tensor.nbytes for tensor in self.state.generator.state_dict().values()) <= RAW_BYTES

    def grid(self, scheduled: ScheduleState) -> NDArray[np.uint8]:
        """Generates the sample grid: seeds 0, 1, 2, ... row by row, of a conditional run with the classes in turn.

        Where D is an auto-encoder, three rows follow: the first row reconstructed, reals, and reals reconstructed.
        """
        model = self.picture_model(scheduled)
        seeds = range(self.columns * self.rows)
        if model.label_size:
            images = model.images_in_batches(model.seed_latents(seeds), _labels_in_turn(model, len(seeds)))
        else:
            images = model.seed_images(seeds)
        more = self._reconstructions(model, scheduled) if self.state.discriminator.config.decodes else []
        return grid_image(enlarged(np.concatenate([images, *more])), self.columns, self.rows + len(more))

    def _reconstructions(self, model: Model, scheduled: ScheduleState) -> list[NDArray[np.uint8]]:
        """Rows of `columns` images: samples reconstructed by D; reals, and reals reconstructed."""
        seeds = range(self.columns)
        fakes = model.synthesize(model.seed_latents(seeds), _labels_in_turn(model, len(seeds)))
        rows = [self._reconstruct(fakes, scheduled)]
        if self._reals is not None and self._reals.shape[-1] == scheduled.resolution:
            repeated = np.resize(self._reals, (self.columns, *self._reals.shape[1:]))
            alpha = torch.tensor(scheduled.alpha, device=self.state.device)
            reals = real_images(torch.from_numpy(repeated).to(self.state.device), alpha)
            rows += [to_uint8(reals), self._reconstruct(reals, scheduled)]
        return rows

    @torch.no_grad()
    def _reconstruct(self, images: Tensor, scheduled: ScheduleState) -> NDArray[np.uint8]:
        """Encodes and decodes images (N, C, R, R) with D; returns uint8 (N, R, R, C)."""
        d, count = self.state.discriminator, len(images)
        missing = -count % min(d.config.minibatch_group, count)  # D takes whole minibatch-stddev groups
        alpha = torch.tensor(scheduled.alpha, device=self.state.device)
        decoded = d(torch.cat([images, images[:missing]]), scheduled.level, alpha).reconstruction
        assert decoded is not None, "D is an auto-encoder"
        return to_uint8(decoded[:count])

    def exist(self, scheduled: ScheduleState) -> bool:
        """Whether model and sample grid of this moment are written."""
        averages = [self.run.average(length, scheduled.nimg) for length in self.state.power_averages]
        paths = [*averages, self.run.model(scheduled.nimg), self.run.samples / self.name(scheduled)]
        return all(path.exists() for path in paths)

    def write(self, scheduled: ScheduleState, grid: NDArray[np.uint8]) -> None:
        """Writes the model, the power-function averages if the run has them, and the sample grid, uint8 (H, W, C)."""
        for length, average in self.state.power_averages.items():
            model = self.model(scheduled)
            about = {"length": length, "images": self.state.progress.averaged}
            content = replace(
                model, generator=average, discriminator=None, trained=None, info={**model.info, POWER: about}
            )
            save_model(self.run.average(length, scheduled.nimg), content)
        save_model(self.run.model(scheduled.nimg), self.model(scheduled))
        self._write_grid(self.name(scheduled), grid, {"kimg": scheduled.nimg / 1000, "pggan": __version__})

    def reals(self, images: NDArray[np.uint8]) -> None:
        """Writes a grid of real images (N, C, R, R) beside the samples, once per resolution."""
        self._reals = images[: self.columns].copy()
        name = f"reals-{images.shape[-1]}x{images.shape[-1]}.png"
        if not (self.run.samples / name).exists():
            shown = enlarged(images.transpose(0, 2, 3, 1))[: self.columns * self.rows]
            self._write_grid(name, grid_image(shown, self.columns, -(-len(shown) // self.columns)))

    def _write_grid(self, name: str, image: NDArray[np.uint8], about: dict[str, Any] | None = None) -> None:
        """Writes a grid; `about`: metadata of generated images."""
        self.run.samples.mkdir(parents=True, exist_ok=True)  # a person may have removed the folder
        write_png(self.run.samples / name, image, about)

    @staticmethod
    def name(scheduled: ScheduleState) -> str:
        """The file name of a sample grid: images seen, resolution, and the percentage of a fade."""
        side = scheduled.resolution
        fading = f"-fade{round(scheduled.alpha * 100):02d}" if scheduled.alpha < 1 else ""
        return f"{scheduled.nimg:09d}-{side}x{side}{fading}.png"


def _labels_in_turn(model: Model, count: int) -> NDArray[np.float32] | None:
    """Returns the label vectors (count, label_size) of the classes that have training images, in turn."""
    return model.labels.vectors(model.labels.of_cells(count, None)) if model.label_size else None
