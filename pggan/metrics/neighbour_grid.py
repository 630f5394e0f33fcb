"""A picture of the most suspicious generated pictures beside the training pictures nearest to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pggan.metrics.evaluate import Comparison
from pggan.metrics.image_sets import Images, Pictures
from pggan.metrics.neighbours import nearest, ordered
from pggan.utils.atomic_files import replace_atomically

SHOWN = 12
GAP = 4
LARGEST, SMALLEST = 256, 64


def write_gallery(path: Path, found: Comparison, fakes: Pictures, reals: Pictures, k: int = 4) -> list[int]:
    """Writes a PNG: a row for each of the 12 generated pictures nearest to a real one, the nearest first.

    In a row: the generated picture, its k nearest by pixels, then by the embedding where that was looked through.
    Returns the generated pictures' numbers. `found` has "neighbours", "eneighbours" or both.
    """
    columns: list[torch.Tensor] = []
    order: torch.Tensor | None = None
    names = torch.zeros(0)
    for job in found.jobs:
        if job.name not in ("neighbours", "eneighbours"):
            continue
        numbers, rows = ordered(found.fakes[job.name])
        distances, where = nearest(rows, ordered(found.reals.states[job.name])[1], k, job.metric.setting.device)
        if order is None:
            order, names = distances[:, 0].argsort(stable=True)[:SHOWN], numbers
        columns.append(torch.tensor(job.reals)[where])
    assert order is not None
    shown = [int(names[at]) for at in order]
    left = [each[:, None] for each in (fakes.read(shown),)]
    side = reals.resolution
    for column in columns:
        picked = column[order].flatten().tolist()
        left.append(reals.read(picked).reshape(len(shown), -1, reals.channels, side, side))
    sheet = _sheet([_tile(part) for part in left])
    image = Image.fromarray(sheet[:, :, 0] if sheet.shape[2] == 1 else sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
    return shown


def _tile(pictures: Images) -> Images:
    """Pictures (rows, columns, C, R, R) at 64 to 256 pixels a side."""
    side = pictures.shape[-1]
    if side > LARGEST:
        step = side // LARGEST
        boxes = pictures.reshape(*pictures.shape[:3], LARGEST, step, LARGEST, step)
        return np.rint(boxes.mean(axis=(4, 6), dtype=np.float32)).astype(np.uint8)
    factor = max(1, SMALLEST // side)
    return pictures.repeat(factor, axis=-1).repeat(factor, axis=-2)


def _sheet(parts: list[Images]) -> Images:
    """Groups of columns side by side as (H, W, C), with a gap between the groups."""
    blocks = []
    for part in parts:
        rows, columns, channels, side, _ = part.shape
        block = part.transpose(0, 3, 1, 4, 2).reshape(rows * side, columns * side, channels)
        blocks += [block, np.full((rows * side, GAP, channels), 255, np.uint8)]
    return np.concatenate(blocks[:-1], axis=1)
