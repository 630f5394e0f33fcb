"""What a run leaves at every snapshot: a sample grid of fixed latents and a model file of the running average."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import pggan
from pggan.config.schedule import ScheduleState
from pggan.generation.grid import enlarge, grid_image
from pggan.generation.images import write_png
from pggan.generation.model import Model
from pggan.generation.to_uint8 import to_uint8
from pggan.networks.model_file import ModelFile, save_model
from pggan.training.engine.loss_functions import real_images
from pggan.training.engine.state import TrainState
from pggan.training.run.directory import RunDirectory

# Sample grids fill about this many pixels at the run's last resolution, in at most this many tiles.
GRID_PIXELS, GRID_TILES = (2560, 1536), (10, 6)
# Small stages are shown enlarged, so that grids through time compare; large ones as they are.
SMALLEST_TILE = 64


def grid_shape(config_grid: tuple[int, int] | None, max_resolution: int) -> tuple[int, int]:
    """Columns and rows of the sample grid: as asked, or what fits the last resolution."""
    if config_grid is not None:
        return config_grid
    side = max(max_resolution, SMALLEST_TILE)
    columns, rows = (min(tiles, max(2, pixels // side)) for tiles, pixels in zip(GRID_TILES, GRID_PIXELS))
    return columns, rows


def enlarged(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (N, H, W, C) smaller than a tile, each pixel repeated by a whole factor."""
    return enlarge(pictures, max(1, SMALLEST_TILE // pictures.shape[1]))


class Snapshots:
    """Writes samples and models of a run. `labels`: name and classes of a conditional run's label column."""

    def __init__(self, run: RunDirectory, state: TrainState, labels: dict[str, Any] | None, info: dict[str, Any]):
        self.run, self.state, self.labels, self.info = run, state, labels, info
        self.columns, self.rows = grid_shape(state.config.grid, state.config.max_res)
        self._reals: NDArray[np.uint8] | None = None  # those that an auto-encoder's work is shown by

    def model(self, moment: ScheduleState) -> ModelFile:
        made = {"kimg": moment.nimg / 1000, "pggan": pggan.__version__, "torch": torch.__version__}
        return ModelFile(
            self.state.average, self.state.discriminator, moment.level, moment.alpha, self.labels, {**self.info, **made}
        )

    def grid(self, moment: ScheduleState) -> NDArray[np.uint8]:
        """The same seeds at every snapshot: the row-by-row seeds 0, 1, 2, ...

        Below them, where D is an auto-encoder: what it makes of the first row, reals, and what it makes of those.
        """
        model = Model(self.model(moment), self.state.device)
        pictures = model.generate(range(self.columns * self.rows))
        more = self._decoded(model, moment) if self.state.discriminator.config.decodes else []
        return grid_image(enlarged(np.concatenate([pictures, *more])), self.columns, self.rows + len(more))

    def _decoded(self, model: Model, moment: ScheduleState) -> list[NDArray[np.uint8]]:
        """Rows of `columns` pictures: samples as D decodes them; reals, and so them."""
        seeds = range(self.columns)
        fakes = model.synthesize(model.seed_latents(seeds), model.seed_labels(seeds))
        rows = [self._reconstructed(fakes, moment)]
        if self._reals is not None and self._reals.shape[-1] == moment.resolution:
            repeated = np.resize(self._reals, (self.columns, *self._reals.shape[1:]))
            alpha = torch.tensor(moment.alpha, device=self.state.device)
            reals = real_images(torch.from_numpy(repeated).to(self.state.device), alpha)
            rows += [to_uint8(reals), self._reconstructed(reals, moment)]
        return rows

    @torch.no_grad()
    def _reconstructed(self, images: Tensor, moment: ScheduleState) -> NDArray[np.uint8]:
        """Images (N, C, R, R) as the auto-encoder gives them back, uint8 (N, R, R, C)."""
        d, count = self.state.discriminator, len(images)
        missing = -count % min(d.config.minibatch_group, count)  # to whole groups of the minibatch statistic
        alpha = torch.tensor(moment.alpha, device=self.state.device)
        found = d(torch.cat([images, images[:missing]]), moment.level, alpha).reconstruction
        assert found is not None, "it is an auto-encoder"
        return to_uint8(found[:count])

    def write(self, moment: ScheduleState) -> NDArray[np.uint8]:
        """Writes the model and its sample grid; returns the grid, uint8 (H, W, C)."""
        save_model(self.run.model(moment.nimg), self.model(moment))
        image = self.grid(moment)
        write_png(self.run.samples / self.name(moment), image)
        return image

    def reals(self, pictures: NDArray[np.uint8]) -> None:
        """Beside the samples: real pictures (N, C, R, R) of the same resolution, once a resolution."""
        self._reals = pictures[: self.columns].copy()
        name = f"reals-{pictures.shape[-1]}x{pictures.shape[-1]}.png"
        if not (self.run.samples / name).exists():
            shown = enlarged(pictures.transpose(0, 2, 3, 1))[: self.columns * self.rows]
            write_png(self.run.samples / name, grid_image(shown, self.columns, -(-len(shown) // self.columns)))

    @staticmethod
    def name(moment: ScheduleState) -> str:
        side = moment.resolution
        fading = f"-fade{round(moment.alpha * 100):02d}" if moment.alpha < 1 else ""
        return f"{moment.nimg:09d}-{side}x{side}{fading}.png"
