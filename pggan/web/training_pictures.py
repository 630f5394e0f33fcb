"""The training pictures nearest to one, by pixels at 32x32 as the metric `neighbours` measures them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.data.store.store import Store, is_store
from pggan.generation.grid import Images
from pggan.generation.images import encode_png
from pggan.metrics.neighbours import PIXEL_SIDE, QUERIES, nearest
from pggan.training.run.directory import RunDirectory, is_run
from pggan.utils.errors import PgganError, UsageError
from pggan.web.rendering.jobs import Job

# Bytes of all pictures' pixels in memory; of larger sets every second, third, ... picture is compared.
MOST_BYTES = 256 << 20
SHOWN, SHOWN_SIDE = 6, 128
CHUNK = 256


@dataclass
class _Index:
    store: Store
    numbers: list[int]  # of the pictures that are compared
    rows: Tensor  # uint8 (N, C * R * R)
    side: int
    usual: float  # median distance of a training picture to the nearest other one


def data_of_run(run: Path | None) -> str | None:
    """Returns the store that a run trained on, None where it is unknown or gone."""
    if run is None or not is_run(run):
        return None
    try:
        config, _ = RunDirectory(run).read_options()
    except PgganError:
        return None
    named = [Path(config.data), run / config.data] if config.data else []
    for path in (*named, RunDirectory(run).data):
        if is_store(path):
            return str(path)
    return None


class TrainingPictures:
    """The pictures of a store; they are read when the first question comes."""

    def __init__(self, data: str | None) -> None:
        self.data = data
        self._index: _Index | None = None

    def near(self, image: Images, job: Job) -> dict[str, Any]:
        """Finds the nearest training pictures of a picture (R, R, C).

        Returns:
            `near`: their numbers, distances as shares of the usual one between training pictures, and PNGs in base64.

        Raises:
            UsageError: The data are not known.
            DataError: They cannot be read.
        """
        if self.data is None:
            raise UsageError("the training pictures are not known: start with --data STORE")
        if self._index is None:
            self._index = self._build(job)
        index = self._index
        if image.shape[2] != index.store.channels:
            raise UsageError(f"the pictures of {self.data} have {index.store.channels} channels, the model's others")
        distances, order = nearest(_rows(image[None], index.side), index.rows, SHOWN, torch.device("cpu"))
        numbers = [index.numbers[at] for at in order[0].tolist()]
        side = min(SHOWN_SIDE, index.store.max_resolution)
        pictures = index.store.read(side, numbers).transpose(0, 2, 3, 1)
        usual = index.usual or 1.0
        near = [
            {"number": number, "ratio": distance / usual, "png": base64.b64encode(encode_png(picture)).decode()}
            for number, distance, picture in zip(numbers, distances[0].tolist(), pictures)
        ]
        return {"near": near, "count": len(index.store), "compared": len(index.numbers)}

    def _build(self, job: Job) -> _Index:
        store = Store(str(self.data))
        side = min(PIXEL_SIDE, store.max_resolution)
        step = -(-len(store) * store.channels * side * side // MOST_BYTES) or 1
        numbers = list(range(0, len(store), step))
        parts = []
        for start in range(0, len(numbers), CHUNK):
            part = store.read(side, numbers[start : start + CHUNK])
            parts.append(torch.from_numpy(part).flatten(1))
            job.step(0.8 * start / len(numbers), doing="reading the training pictures")
        rows = torch.cat(parts)
        queries = torch.arange(0, len(rows), max(1, len(rows) // QUERIES))[:QUERIES]
        distances, found = nearest(rows[queries], rows, 2, torch.device("cpu"))
        own = found == queries[:, None]
        usual = torch.where(own[:, 0], distances[:, -1], distances[:, 0]).median()
        return _Index(store, numbers, rows, side, float(usual))


def _rows(images: Images, side: int) -> Tensor:
    """Returns pictures (N, R, R, C) as rows of bytes at a side, R a multiple of it or a part."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    factor = pixels.shape[-1] // side
    small = F.avg_pool2d(pixels, factor) if factor > 1 else F.interpolate(pixels, size=side, mode="nearest")
    return small.round().to(torch.uint8).flatten(1)
