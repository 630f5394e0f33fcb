"""Thumbnails of many seeds, 16x16, made once for a model and kept in the user's cache folder."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pggan.editing.latents_file import LatentSet
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.model import Model
from pggan.metrics.cache import Cache
from pggan.utils.caching.cache_folders import cache_folder

SEEDS = 2000
SIDE = 16  # of a thumbnail, in pixels


@dataclass(frozen=True)
class SeedBank:
    """Seeds 0 to N - 1 of a model: their latents and thumbnails."""

    latents: LatentSet
    thumbnails: NDArray[np.float32]  # (N, C, 16, 16) in [-1, 1], rounded to 8 bits

    def nearest(self, image: Tensor, count: int) -> list[int]:
        """Returns the seeds whose thumbnails differ least from an image (C, R, R), by mean absolute difference."""
        target = to_thumbnails(image[None].cpu().float()).numpy()
        distances = np.abs(self.thumbnails - target).mean(axis=(1, 2, 3))
        return [int(seed) for seed in np.argsort(distances, kind="stable")[:count]]


def to_thumbnails(images: Tensor) -> Tensor:
    """Averages images (N, C, R, R) to 16x16; smaller ones are repeated to 16x16."""
    images = images.clamp(-1, 1)
    if images.shape[-1] <= SIDE:
        return F.interpolate(images, (SIDE, SIDE), mode="nearest")
    return F.adaptive_avg_pool2d(images, SIDE)


def seed_bank(model: Model, count: int = SEEDS, label: int | str | None = None, task: Task = UNWATCHED) -> SeedBank:
    """Returns the thumbnails of seeds 0 to `count` - 1, from the cache where it has them.

    Args:
        model: The model; one that is in a file is cached.
        count: Number of seeds.
        label: As `Model.generate` takes it; None: each seed's own.
        task: Counts seeds.
    """
    latents = LatentSet.of_seeds(model, range(count), label)
    digest = latents.model.sha256 if model.info.get("tuned") is None else None
    cache = Cache(cache_folder("seeds") if digest else None)
    about = {"sha256": digest, "count": count, "label": None if label is None else str(label), "side": SIDE}
    name = f"{(digest or '')[:24]}-{count}" + ("" if label is None else f"-{zlib.crc32(str(label).encode()):08x}")
    state = cache.load(name, about)
    if state is None or state["thumbnails"].shape != (count, model.channels, SIDE, SIDE):
        state = {"thumbnails": _compute(model, latents, task)}
        cache.save(name, about, state)
    else:
        task.advance(count)
    return SeedBank(latents, (state["thumbnails"].float() / 127.5 - 1).numpy())


def _compute(model: Model, latents: LatentSet, task: Task) -> Tensor:
    size, parts = model.batch_size(), []
    for start in range(0, len(latents), size):
        part = latents.select(range(start, min(start + size, len(latents))))
        thumbnails = to_thumbnails(model.synthesize(part.inputs, part.labels, remaining=len(latents) - start))
        parts.append((thumbnails * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
        task.advance(len(part))
    return torch.cat(parts)
