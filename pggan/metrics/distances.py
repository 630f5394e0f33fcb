"""Distances between features of two sets of pictures: Frechet, kernel, precision and recall; and the inception score.

Each exists over torch-fidelity's Inception and, most of them, over a network of the user's.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from pggan.metrics.base import Batch, Metric, Rows, State
from pggan.utils.errors import UsageError

SUBSETS, SUBSET = 100, 1000
BALLS = 3  # neighbours whose distance is a ball's radius (Kynkaanniemi et al. 2019)


class Frechet(Metric):
    """Heusel et al. 2017: |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)). The state is sums: merging loses nothing."""

    sums = True

    def begin(self, room: int) -> None:
        self._count = 0
        self._total: Tensor | None = None
        self._outer: Tensor | None = None

    def feed(self, batch: Batch) -> None:
        features = batch.features(self.role)["features"].double()
        if self._total is None or self._outer is None:
            self._total = torch.zeros(features.shape[1], dtype=torch.float64)
            self._outer = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
        self._count += len(features)
        self._total += features.sum(0)
        self._outer.addmm_(features.T, features)

    def end(self) -> State:
        if self._total is None or self._outer is None:
            return {}
        count = torch.tensor(float(self._count), dtype=torch.float64)
        return {"count": count, "total": self._total, "outer": self._outer}

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        return {self.name: frechet_distance(*moments(fakes), *moments(reals))}


def moments(state: State) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) out of sums. Raises `UsageError` for fewer than 2 pictures."""
    count = float(state["count"]) if state else 0
    if count < 2:
        raise UsageError(f"a Frechet distance wants 2 pictures at least on each side, there are {count:g}")
    mean = state["total"] / count
    return mean, (state["outer"] - count * torch.outer(mean, mean)) / (count - 1)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Between two Gaussians, float64 (D,) and (D, D); never below 0.

    tr sqrt(S1 S2) is that of the symmetric sqrt(S1) S2 sqrt(S1): no complex numbers, and exact zeros for few pictures.
    """
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    inner = root @ cov2 @ root
    between = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp_min(0).sqrt().sum()
    gap = mean1 - mean2
    return max(0.0, float(gap @ gap + cov1.trace() + cov2.trace() - 2 * between))


class _Kept(Metric):
    """Keeps one of the embedding's outputs for every picture."""

    output = "features"

    def begin(self, room: int) -> None:
        self._numbers, self._rows = Rows(room), Rows(room)

    def feed(self, batch: Batch) -> None:
        found = batch.features(self.role)
        if self.output not in found:
            raise UsageError(f"{self.name} wants {self.output}, which this network does not give")
        self._numbers.add(torch.tensor(batch.numbers))
        self._rows.add(found[self.output].float())

    def end(self) -> State:
        return {"numbers": self._numbers.end(), "rows": self._rows.end()}

    @staticmethod
    def in_order(state: State) -> Tensor:
        """Rows by their pictures' numbers, so that random subsets do not depend on how the work was shared."""
        return state["rows"][state["numbers"].argsort()]


class Kernel(_Kept):
    """Binkowski et al. 2018: squared MMD of the polynomial kernel, over 100 subsets of 1000; can be below 0."""

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        fidelity("metric_kid")
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

        size = min(SUBSET, len(fakes["rows"]), len(reals["rows"]))
        found = kid_features_to_metric(
            self.in_order(fakes),
            self.in_order(reals),
            kid_subsets=SUBSETS,
            kid_subset_size=size,
            rng_seed=self.setting.seed,
            verbose=False,
        )
        return {self.name: found[KEY_METRIC_KID_MEAN], f"{self.name}_std": found[KEY_METRIC_KID_STD]}


class PrecisionRecall(_Kept):
    """Kynkaanniemi et al. 2019: shares of fakes within the reals' balls, and of reals within the fakes'."""

    prefix = ""

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        fidelity("metric_prc")
        from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

        if min(len(fakes["rows"]), len(reals["rows"])) <= BALLS:
            raise UsageError(f"precision and recall want more than {BALLS} pictures on each side")
        found = prc_features_to_metric(
            self.in_order(fakes),
            self.in_order(reals),
            prc_neighborhood=BALLS,
            prc_batch_size=1000,
            save_cpu_ram=True,
            verbose=False,
        )
        precision, recall = found[KEY_METRIC_PRECISION], found[KEY_METRIC_RECALL]
        return {f"{self.prefix}precision": precision, f"{self.prefix}recall": recall}


class InceptionScore(_Kept):
    """Salimans et al. 2016, over 10 parts in a random order."""

    name = "is"
    role = "inception"
    output = "logits"

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        fidelity("metric_isc")
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

        rows = self.in_order(fakes)
        found = isc_features_to_metric(rows, splits=min(10, len(rows)), rng_seed=self.setting.seed)
        return {"is": found[KEY_METRIC_ISC_MEAN], "is_std": found[KEY_METRIC_ISC_STD]}


class FID(Frechet):
    name = "fid"
    role = "inception"


class KID(Kernel):
    name = "kid"
    role = "inception"


class InceptionPR(PrecisionRecall):
    name = "pr"
    role = "inception"


class FD(Frechet):
    name = "fd"
    role = "embedding"


class KD(Kernel):
    name = "kd"
    role = "embedding"


class EmbeddingPR(PrecisionRecall):
    name = "epr"
    role = "embedding"
    prefix = "embedding_"


def fidelity(module: str) -> None:
    """Raises `UsageError` unless torch-fidelity is there."""
    try:
        importlib.import_module(f"torch_fidelity.{module}")
    except ImportError:
        raise UsageError("fid, kid, is, pr, kd and epr need torch-fidelity: pip install 'pggan[metrics]'") from None
