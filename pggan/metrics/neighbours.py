"""Nearest neighbours: whether generated images copy training images (memorisation) or each other (mode collapse)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.metrics.base import Batch, RowMetric, State, sort_rows

PIXEL_SIDE = 32  # pixels are compared at this side at most
QUERIES = 1000  # real images whose nearest other real image is looked for
CHUNK_ROWS = 2048  # rows compared with as many others at once: bounds the memory
# An image nearer than this share of the reals' usual nearest distance is a copy.
COPY_SHARE = 0.5


class Neighbours(RowMetric):
    """Nearest neighbours of generated images, by pixels at 32x32 (`neighbours`) or by features (`eneighbours`).

    Figures:
        nearest_ratio: Median distance of a generated image to the nearest real one, as a share of the usual distance
            of a real image to the nearest other real one. About 1 for a model that generalises, towards 0 for copies.
        copied: Share of generated images nearer to a real one than half the usual distance.
        duplicates: Share of generated images as near as that to another generated one (mode collapse).
        duplicate_pairs: Share of pairs of generated images as near as that.
    """

    names: ClassVar = {"": "neighbours", "embedding": "eneighbours"}

    def vectors(self, batch: Batch) -> Tensor:
        if self.role:
            return batch.features(self.role)["features"].float()
        factor = max(1, batch.host.shape[-1] // PIXEL_SIDE)
        return F.avg_pool2d(batch.host.float(), factor).round().to(torch.uint8).flatten(1)

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        device = self.setting.device
        a, b = sort_rows(fakes)[1], sort_rows(reals)[1]
        step = max(1, len(b) // QUERIES)
        queries = torch.arange(0, len(b), step)[:QUERIES]
        to_real = nearest(a, b, 1, device)[0][:, 0]
        distances, indices = nearest(b[queries], b, 2, device)
        is_itself = indices == queries[:, None]  # an image is no neighbour of itself; an equal one elsewhere is
        usual = float(torch.where(is_itself[:, 0], distances[:, 1], distances[:, 0]).median())
        threshold = COPY_SHARE * usual
        duplicates, duplicate_pairs = _pairs_within(a, threshold, device)
        figures = {
            "nearest_ratio": float(to_real.median()) / usual if usual else float("nan"),
            "copied": float((to_real <= threshold).double().mean()),
            "duplicates": duplicates,
            "duplicate_pairs": duplicate_pairs,
        }
        return {self.prefix + key: value for key, value in figures.items()}


def _centred(rows: Tensor, device: torch.device) -> Tensor:
    """Returns rows as float32, bytes shifted to be centred at 0: float32 then holds their products with few errors."""
    return rows.to(device).float() - (128 if rows.dtype == torch.uint8 else 0)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Returns squared distances (A, B) between rows."""
    products = torch.addmm((b * b).sum(1)[None], a, b.T, alpha=-2)
    return products.add_((a * a).sum(1)[:, None]).clamp_min_(0)


def nearest(a: Tensor, b: Tensor, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Finds the k rows of `b` nearest to each row of `a`.

    Args:
        a: Rows (A, D).
        b: Rows (B, D).
        k: Neighbours of each row.
        device: Where distances are computed.

    Returns:
        Distances and indices into `b`, (A, k) each, the nearest first, on the CPU.
    """
    if len(a) > CHUNK_ROWS:
        chunks = [nearest(chunk, b, k, device) for chunk in a.split(CHUNK_ROWS)]
        return torch.cat([distances for distances, _ in chunks]), torch.cat([indices for _, indices in chunks])
    queries = _centred(a, device)
    best = torch.full((len(a), 0), 0.0, device=device)
    best_indices = torch.zeros((len(a), 0), dtype=torch.int64, device=device)
    for start in range(0, len(b), CHUNK_ROWS):
        squared = _squared_distances(queries, _centred(b[start : start + CHUNK_ROWS], device))
        indices = torch.arange(start, start + squared.shape[1], device=device).expand(len(a), -1)
        candidates, candidate_indices = torch.cat((best, squared), 1), torch.cat((best_indices, indices), 1)
        best, order = candidates.topk(min(k, candidates.shape[1]), dim=1, largest=False)
        best_indices = candidate_indices.gather(1, order)
    return best.sqrt().cpu(), best_indices.cpu()


def _pairs_within(rows: Tensor, distance: float, device: torch.device) -> tuple[float, float]:
    """Returns the share of rows with another row within a distance, and the share of such pairs."""
    rows_with_pair, pairs, squared = 0, 0, distance * distance
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = _centred(rows[start : start + CHUNK_ROWS], device)
        counts = torch.zeros(len(chunk), dtype=torch.int64, device=device)
        for other in range(0, len(rows), CHUNK_ROWS):
            is_near = _squared_distances(chunk, _centred(rows[other : other + CHUNK_ROWS], device)) <= squared
            if other == start:
                is_near.fill_diagonal_(False)
            counts += is_near.sum(1)
        rows_with_pair += int((counts > 0).sum())
        pairs += int(counts.sum())
    return rows_with_pair / len(rows), pairs / max(1, len(rows) * (len(rows) - 1))
