"""The neighbour grid: a PNG of the generated images nearest to training images, beside their nearest neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pggan.generation.grid import enlarge, grid_image, shrink
from pggan.metrics.base import sort_rows
from pggan.metrics.evaluate import Comparison
from pggan.metrics.image_sets import Images, ImageSet
from pggan.metrics.neighbours import nearest
from pggan.utils.atomic_files import replace_atomically

ROWS = 12  # generated images shown
GAP = 4  # pixels between the groups of columns
LARGEST_TILE, SMALLEST_TILE = 256, 64  # pixels a side


def write_neighbour_grid(path: Path, comparison: Comparison, fakes: ImageSet, reals: ImageSet, k: int) -> list[int]:
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
    neighbours: list[torch.Tensor] = []  # numbers of real images (rows, k), by job
    order, numbers = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    for job in comparison.jobs:
        if job.name in ("neighbours", "eneighbours"):
            fake_numbers, rows = sort_rows(comparison.fakes[job.name])
            real_rows = sort_rows(comparison.reals.states[job.name])[1]
            distances, indices = nearest(rows, real_rows, k, job.metric.setting.device)
            if not neighbours:
                order, numbers = distances[:, 0].argsort(stable=True)[:ROWS], fake_numbers
            neighbours.append(torch.tensor(job.reals)[indices])
    shown: list[int] = numbers[order].tolist()
    blocks = [fakes.read(shown), *(reals.read(picks[order].flatten().tolist()) for picks in neighbours)]
    sheet = _side_by_side(blocks, len(shown))
    image = Image.fromarray(sheet[:, :, 0] if sheet.shape[2] == 1 else sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
    return shown


def _side_by_side(blocks: list[Images], rows: int) -> Images:
    """Returns blocks of images (rows * columns, C, R, R), 64 to 256 pixels a side, as one image with white gaps."""
    parts = []
    for images in blocks:
        side = images.shape[-1]
        smaller = shrink(images.transpose(0, 2, 3, 1), max(1, side // LARGEST_TILE))
        block = grid_image(enlarge(smaller, max(1, SMALLEST_TILE // side)), len(images) // rows, rows)
        parts += [block, np.full((len(block), GAP, block.shape[2]), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)
