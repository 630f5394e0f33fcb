"""Feature distances between two sets of images: FID/FD, KID/KD, precision and recall; and the inception score.

Each distance exists over torch-fidelity's Inception and over the network of `--embedding`: one class, two roles.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import torch
from torch import Tensor

from pggan.metrics.base import Batch, Metric, RowMetric, State, sort_rows
from pggan.utils.errors import UsageError

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
NEIGHBOURS = 3  # the distance to this neighbour is the radius of an image's ball (Kynkaanniemi et al. 2019)
SPLITS = 10  # of the inception score


class FrechetDistance(Metric):
    """FID or FD, Heusel et al. 2017: |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)). The state is sums of the moments."""

    names: ClassVar = {"inception": "fid", "embedding": "fd"}
    sums = True

    def begin(self, count: int) -> None:
        self._state: State = {}

    def feed(self, batch: Batch) -> None:
        features = batch.features(self.role)["features"].double()
        if not self._state:
            width = features.shape[1]
            shapes = {"count": (), "total": (width,), "outer": (width, width)}
            self._state = {key: torch.zeros(shape, dtype=torch.float64) for key, shape in shapes.items()}
        self._state["count"] += len(features)
        self._state["total"] += features.sum(0)
        self._state["outer"].addmm_(features.T, features)

    def end(self) -> State:
        return self._state

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        return {self.name: frechet_distance(*mean_and_covariance(fakes), *mean_and_covariance(reals))}


def mean_and_covariance(state: State) -> tuple[Tensor, Tensor]:
    """Returns mean (D,) and covariance (D, D) from sums. Raises `UsageError` for fewer than 2 images."""
    count = float(state["count"]) if state else 0
    if count < 2:
        raise UsageError(f"a Frechet distance wants 2 pictures at least on each side, there are {count:g}")
    mean = state["total"] / count
    return mean, (state["outer"] - count * torch.outer(mean, mean)) / (count - 1)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Returns the Frechet distance of two Gaussians, float64 (D,) and (D, D); at least 0.

    The trace of sqrt(S1 S2) is that of sqrt(sqrt(S1) S2 sqrt(S1)), which is symmetric: no complex numbers arise, and
    the singular covariances of few images are no trouble.
    """
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    inner = root @ cov2 @ root
    cross_trace = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp_min(0).sqrt().sum()
    gap = mean1 - mean2
    return max(0.0, float(gap @ gap + cov1.trace() + cov2.trace() - 2 * cross_trace))


class FeatureRows(RowMetric):
    """A metric that keeps one output of its feature network for every image, and compares with torch-fidelity."""

    output = "features"

    def vectors(self, batch: Batch) -> Tensor:
        outputs = batch.features(self.role)
        if self.output not in outputs:
            raise UsageError(f"{self.name} wants {self.output}, which this network does not give")
        return outputs[self.output].float()


class KernelDistance(FeatureRows):
    """KID or KD, Binkowski et al. 2018: squared MMD of a polynomial kernel over 100 subsets of 1000; can be below 0."""

    names: ClassVar = {"inception": "kid", "embedding": "kd"}

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        kid = _torch_fidelity("metric_kid")
        a, b = sort_rows(fakes)[1], sort_rows(reals)[1]
        figures = kid.kid_features_to_metric(
            a, b, kid_subsets=KID_SUBSETS, kid_subset_size=min(KID_SUBSET_SIZE, len(a), len(b)),
            rng_seed=self.setting.seed, verbose=False,
        )  # fmt: skip
        return {self.name: figures[kid.KEY_METRIC_KID_MEAN], f"{self.name}_std": figures[kid.KEY_METRIC_KID_STD]}


class PrecisionRecall(FeatureRows):
    """Precision and recall, Kynkaanniemi et al. 2019: share of fakes inside the reals' balls, and the reverse."""

    names: ClassVar = {"inception": "pr", "embedding": "epr"}

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        prc = _torch_fidelity("metric_prc")
        a, b = sort_rows(fakes)[1], sort_rows(reals)[1]
        if min(len(a), len(b)) <= NEIGHBOURS:
            raise UsageError(f"precision and recall want more than {NEIGHBOURS} pictures on each side")
        figures = prc.prc_features_to_metric(
            a, b, prc_neighborhood=NEIGHBOURS, prc_batch_size=1000, save_cpu_ram=True, verbose=False
        )
        precision, recall = figures[prc.KEY_METRIC_PRECISION], figures[prc.KEY_METRIC_RECALL]
        return {f"{self.prefix}precision": precision, f"{self.prefix}recall": recall}


class InceptionScore(FeatureRows):
    """Inception score, Salimans et al. 2016, over 10 splits in a random order."""

    names: ClassVar = {"inception": "is"}
    output = "logits"

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        isc, rows = _torch_fidelity("metric_isc"), sort_rows(fakes)[1]
        figures = isc.isc_features_to_metric(rows, splits=min(SPLITS, len(rows)), rng_seed=self.setting.seed)
        return {"is": figures[isc.KEY_METRIC_ISC_MEAN], "is_std": figures[isc.KEY_METRIC_ISC_STD]}


def _torch_fidelity(module: str) -> Any:
    """Imports a module of torch-fidelity. Raises `UsageError` where that is not installed."""
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ImportError:
        raise UsageError("fid, kid, is, pr, kd and epr need torch-fidelity: pip install 'pggan[metrics]'") from None
