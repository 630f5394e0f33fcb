"""The neighbour grid: a PNG of the generated images nearest to training images, beside their nearest neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pggan.metrics.base import sort_rows
from pggan.metrics.evaluate import Comparison
from pggan.metrics.image_sets import Images, ImageSet
from pggan.metrics.neighbours import nearest
from pggan.utils.atomic_files import replace_atomically

ROWS = 12  # generated images shown
GAP = 4  # pixels between the groups of columns
LARGEST_TILE, SMALLEST_TILE = 256, 64  # pixels a side


def write_neighbour_grid(path: Path, comparison: Comparison, fakes: ImageSet, reals: ImageSet, k: int = 4) -> list[int]:
    """Writes a PNG with a row for each of the 12 generated images nearest to a real one, the nearest first.

    A row shows the generated image, its k nearest real ones by pixels, then by the embedding's features.

    Args:
        path: The PNG.
        comparison: A comparison of `fakes` and `reals` by "neighbours", "eneighbours" or both.
        fakes: The generated images.
        reals: The real images.
        k: Neighbours shown of each image.

    Returns:
        Numbers of the generated images shown.
    """
    columns: list[torch.Tensor] = []
    order: torch.Tensor | None = None
    numbers = torch.zeros(0)
    for job in comparison.jobs:
        if job.name not in ("neighbours", "eneighbours"):
            continue
        fake_numbers, rows = sort_rows(comparison.fakes[job.name])
        real_rows = sort_rows(comparison.reals.states[job.name])[1]
        distances, indices = nearest(rows, real_rows, k, job.metric.setting.device)
        if order is None:
            order, numbers = distances[:, 0].argsort(stable=True)[:ROWS], fake_numbers
        columns.append(torch.tensor(job.reals)[indices])
    assert order is not None
    shown = [int(numbers[i]) for i in order]
    groups = [fakes.read(shown)[:, None]]
    side = reals.resolution
    for column in columns:
        picks = column[order].flatten().tolist()
        groups.append(reals.read(picks).reshape(len(shown), -1, reals.channels, side, side))
    sheet = _side_by_side([_to_tile_size(group) for group in groups])
    image = Image.fromarray(sheet[:, :, 0] if sheet.shape[2] == 1 else sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
    return shown


def _to_tile_size(images: Images) -> Images:
    """Returns images (rows, columns, C, R, R) shrunk or enlarged to 64 to 256 pixels a side."""
    side = images.shape[-1]
    if side > LARGEST_TILE:
        step = side // LARGEST_TILE
        boxes = images.reshape(*images.shape[:3], LARGEST_TILE, step, LARGEST_TILE, step)
        return np.rint(boxes.mean(axis=(4, 6), dtype=np.float32)).astype(np.uint8)
    factor = max(1, SMALLEST_TILE // side)
    return images.repeat(factor, axis=-1).repeat(factor, axis=-2)


def _side_by_side(groups: list[Images]) -> Images:
    """Returns groups (rows, columns, C, R, R) side by side as one image (H, W, C), with a white gap between them."""
    blocks = []
    for group in groups:
        rows, columns, channels, side, _ = group.shape
        block = group.transpose(0, 3, 1, 4, 2).reshape(rows * side, columns * side, channels)
        blocks += [block, np.full((rows * side, GAP, channels), 255, np.uint8)]
    return np.concatenate(blocks[:-1], axis=1)
