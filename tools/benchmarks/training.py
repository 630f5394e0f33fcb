"""Images a second of training alone, at the one resolution of a configuration."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import torch

from benchmarks.measuring import median, rate
from pggan.config import TrainConfig
from pggan.data.loader import LoadedBatch, Request
from pggan.devices import pick_device, pick_precision, set_precision
from pggan.training.iteration import Feed, iterate
from pggan.training.schedule import Schedule
from pggan.training.state import TrainState


def training_rate(config: TrainConfig, device: str, seconds: float, rounds: int) -> float:
    """The median of `rounds` measurements, each of an iteration at least, after one that is not counted."""
    place = pick_device(device)
    precision = pick_precision(config.precision, place)
    set_precision(precision)
    schedule, state = Schedule(config), TrainState(config, place, precision)
    moment = schedule.at(0)
    shape = (moment.batch, config.channels, moment.resolution, moment.resolution)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    loaded = LoadedBatch(images, np.zeros((moment.batch, 0), np.int32), Request(0, moment.batch, moment.resolution))
    feed, batches = Feed(state, 0, None), repeat(loaded)

    def step() -> int:
        before = state.nimg
        iterate(state, feed, batches, moment, schedule.n_critic)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return state.nimg - before

    step()
    return median([rate(step, seconds).wall for _ in range(rounds)])
