"""Iterations without data: a state, and batches of random pictures."""

from __future__ import annotations

import numpy as np
import torch

from pggan.config.train import PerResolution, TrainConfig
from pggan.data.loading.loader import LoadedBatch
from pggan.training.engine.batch_builder import BatchBuilder
from pggan.training.engine.loss_functions import StepInputs
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import train_step
from pggan.training.engine.step_executor import StepExecutor

CLASSES = 3


def tiny(**options) -> TrainConfig:
    values = {
        "max_res": 16, "latent_size": 4, "fmap_base": 32, "fmap_max": 8, "batch": PerResolution(4), "device": "cpu",
        "stable_kimg": PerResolution(0.008), "fade_kimg": PerResolution(0.016), "channels": 1,
    }  # fmt: skip
    if options.get("diversity") == "discrimination":
        values |= {"discrimination_kernels": 3, "discrimination_dim": 2}
    return TrainConfig(**{**values, **options})


def loaded(config: TrainConfig, resolution: int, number: int = 0, batch: int = 4) -> LoadedBatch:
    random = np.random.default_rng(number)
    images = random.integers(0, 256, (batch, config.channels, resolution, resolution), np.uint8)
    labels = random.integers(-1, CLASSES, (batch, 1)).astype(np.int32)
    return LoadedBatch(images, labels, None)


class Player:
    """Iterations of a state on random pictures, which depend on the images seen alone."""

    def __init__(self, config: TrainConfig, precision: str = "fp32", *modes, device: str = "cpu", **executor) -> None:
        self.config = config
        self.state = TrainState(config, torch.device(device), precision)
        self.schedule = self.state.schedule
        self.executor = StepExecutor(self.state, *modes, **executor)
        classes = np.arange(30) % CLASSES if config.label_size else None
        self.builder = BatchBuilder(self.state, 0, classes)

    def inputs(self, player: str, batch, level: int, alpha: float = 1.0) -> StepInputs:
        return StepInputs(player, level, batch, torch.tensor(alpha), torch.ones(()))

    def play(self, iterations: int) -> dict[str, float]:
        for _ in range(iterations):
            terms = self.iterate()
        return {name: float(value) for name, value in terms.items()}

    def iterate(self) -> dict[str, torch.Tensor]:
        """One iteration; its terms stay on the device."""
        scheduled = self.schedule.at(self.state.nimg)
        batches = (
            loaded(self.config, scheduled.resolution, self.state.nimg + i, scheduled.batch)
            for i in range(self.schedule.n_critic)
        )
        return train_step(self.state, self.executor, self.builder, batches, scheduled)
