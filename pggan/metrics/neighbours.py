"""Are generated pictures copies of training pictures, or of each other? Nearest neighbours, by pixels or features."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.metrics.base import Batch, Metric, Rows, State

SIDE = 32  # pictures are compared at this size at most
QUERIES = 1000
ROWS = 2048  # rows compared with as many at once: bounds the memory
# Nearer than this share of the reals' usual nearest distance: a copy, whatever the pictures are.
NEAR = 0.5


class Neighbours(Metric):
    """`nearest_ratio`: median distance of a generated picture to the nearest real one, as a share of that of a real
    picture to the nearest other real one (about 1 where the model generalises, towards 0 where it copies).
    `copied`: share of generated pictures that are nearer to a real one than half that usual distance.
    `duplicates`: share of generated pictures that are as near to another generated one (mode collapse);
    `duplicate_pairs`: share of such pairs.
    """

    prefix = ""

    def begin(self, room: int) -> None:
        self._numbers, self._rows = Rows(room), Rows(room)

    def feed(self, batch: Batch) -> None:
        self._numbers.add(torch.tensor(batch.numbers))
        self._rows.add(self.vectors(batch))

    def vectors(self, batch: Batch) -> Tensor:
        """A row for each picture."""
        raise NotImplementedError

    def end(self) -> State:
        return {"numbers": self._numbers.end(), "rows": self._rows.end()}

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        device = self.setting.device
        a, b = ordered(fakes)[1], ordered(reals)[1]
        step = max(1, len(b) // QUERIES)
        queries = torch.arange(0, len(b), step)[:QUERIES]
        to_real = nearest(a, b, 1, device)[0][:, 0]
        among = nearest(b[queries], b, 2, device)
        own = among[1] == queries[:, None]  # itself is no neighbour; an equal picture elsewhere is one
        usual = float(torch.where(own[:, 0], among[0][:, 1], among[0][:, 0]).median())
        near = NEAR * usual
        close, pairs = _pairs_within(a, near, device)
        found = {
            "nearest_ratio": float(to_real.median()) / usual if usual else float("nan"),
            "copied": float((to_real <= near).double().mean()),
            "duplicates": close,
            "duplicate_pairs": pairs,
        }
        return {self.prefix + key: value for key, value in found.items()}


class PixelNeighbours(Neighbours):
    """By the pixels at 32x32, as bytes."""

    name = "neighbours"

    def vectors(self, batch: Batch) -> Tensor:
        pictures = batch.host
        factor = max(1, pictures.shape[-1] // SIDE)
        small = torch.nn.functional.avg_pool2d(pictures.float(), factor).round().to(torch.uint8)
        return small.flatten(1)


class EmbeddingNeighbours(Neighbours):
    """By the features of the chosen embedding."""

    name = "eneighbours"
    role = "embedding"
    prefix = "embedding_"

    def vectors(self, batch: Batch) -> Tensor:
        return batch.features(self.role)["features"].float()


def ordered(state: State) -> tuple[Tensor, Tensor]:
    """Numbers and rows of a state, by the numbers."""
    order = state["numbers"].argsort()
    return state["numbers"][order], state["rows"][order]


def _centred(rows: Tensor, device: torch.device) -> Tensor:
    """Bytes about 0: their products stay small enough for float32."""
    return rows.to(device).float() - (128 if rows.dtype == torch.uint8 else 0)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (A, B) of rows."""
    products = torch.addmm((b * b).sum(1)[None], a, b.T, alpha=-2)
    return products.add_((a * a).sum(1)[:, None]).clamp_min_(0)


def nearest(a: Tensor, b: Tensor, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Distances and indices (A, k) of the k rows of `b` nearest to each row of `a`, the nearest first; on the host."""
    if len(a) > ROWS:
        parts = [nearest(part, b, k, device) for part in a.split(ROWS)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    queries = _centred(a, device)
    best = torch.full((len(a), 0), 0.0, device=device)
    where = torch.zeros((len(a), 0), dtype=torch.int64, device=device)
    for start in range(0, len(b), ROWS):
        part = _squared(queries, _centred(b[start : start + ROWS], device))
        at = torch.arange(start, start + part.shape[1], device=device).expand(len(a), -1)
        both, places = torch.cat((best, part), 1), torch.cat((where, at), 1)
        best, order = both.topk(min(k, both.shape[1]), dim=1, largest=False)
        where = places.gather(1, order)
    return best.sqrt().cpu(), where.cpu()


def _pairs_within(rows: Tensor, distance: float, device: torch.device) -> tuple[float, float]:
    """Share of rows with another row within a distance, and share of such pairs."""
    having, pairs = 0, 0
    for start in range(0, len(rows), ROWS):
        part = _centred(rows[start : start + ROWS], device)
        counts = torch.zeros(len(part), dtype=torch.int64, device=device)
        for other in range(0, len(rows), ROWS):
            near = _squared(part, _centred(rows[other : other + ROWS], device)) <= distance * distance
            if other == start:
                near.fill_diagonal_(False)
            counts += near.sum(1)
        having += int((counts > 0).sum())
        pairs += int(counts.sum())
    return having / len(rows), pairs / max(1, len(rows) * (len(rows) - 1))
