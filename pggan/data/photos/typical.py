"""Leaves the least typical faces out: small networks spend less on what they cannot learn from few examples.

DeVries et al. 2020 ("Instance Selection for GANs") drop the images that are least likely under a Gaussian fitted to
their features. So does this, in a random projection of the features, which preserves distances and keeps memory small.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.aligned import AlignedSource, crop_square
from pggan.data.sources.base import BadImage, Reader, Ref, bytes_carried
from pggan.data.sources.face_table import ATYPICAL
from pggan.utils.process_pool import ordered_map

# Side of the faces that features are computed of, pixels.
SIDE = 128
# Values that are stored of each face's features.
PROJECTED = 64
# Share of the mean variance that is added to each direction: few faces tell little of the directions they lack.
SHRINKAGE = 0.1
SHAPES = "the shape of their landmarks (features need pip install 'pggan[metrics]')"


# Name of an image, which of its faces, and what describes that; None: it cannot be read.
_Described = tuple[str, int, NDArray[np.float64] | None]


class Features(Protocol):
    """A feature network for one image at a time; picklable. `name` says which."""

    name: str

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Maps an image (H, W, 3) to features (D,)."""
        ...


def keep_typical(
    source: AlignedSource, share: float, features: Features | None, workers: int = 1, limit: int | None = None
) -> AlignedSource:
    """Returns the source without its least typical faces, so that `share` of them remains.

    Args:
        source: The aligned faces.
        share: To keep, above 0, up to 1.
        features: Network that says how faces look; None: the shape of their landmarks stands in.
        workers: Processes, each with a network of its own.
        limit: Number of faces, the first ones; None: all.
    """
    faces, rows = [], []
    describe = _Describe(source.reader(SIDE, 0), features) if features is not None else _Shapes(source)
    results = ordered_map(describe, islice(source.refs(), limit), workers if features is not None else 1, weigh=_weigh)
    with closing(results):
        for name, number, row in results:
            if row is not None:
                faces.append((name, number))
                rows.append(row)
    order = np.argsort(distances(np.array(rows)), kind="stable") if rows else np.empty(0, int)
    left_out = [faces[index] for index in order[max(1, round(share * len(rows))) :]]
    by = SHAPES if features is None else f"{features.name}'s features"
    return source.without(left_out, ATYPICAL, f"{len(left_out)} least typical faces are left out, by {by}")


def distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns how far each row (N, D) lies from the mean, in standard deviations of a Gaussian fit; squared."""
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred / len(rows)
    covariance += (SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    result: NDArray[np.float64] = (centred * np.linalg.solve(covariance, centred.T).T).sum(1)
    return result


def _weigh(ref: Ref) -> int:
    return bytes_carried(ref.payload)


@dataclass(frozen=True)
class _Describe:
    """Computes the projected features of one face; an instance lives in each worker process."""

    reader: Reader
    features: Features

    def __call__(self, ref: Ref) -> _Described:
        inner, number = ref.payload
        try:
            values = self.features(self.reader.read(ref, 3).image).astype(np.float64)
        except (BadImage, MemoryError):  # the conversion will report it
            return inner.name, number, None
        projection = np.random.default_rng(0).standard_normal((len(values), PROJECTED))
        return inner.name, number, values @ projection / np.sqrt(PROJECTED)


@dataclass(frozen=True)
class _Shapes:
    """Returns where a face's eyes and mouth corners lie in its crop."""

    source: AlignedSource

    def __call__(self, ref: Ref) -> _Described:
        inner, number = ref.payload
        try:
            points = self.source.points(ref)
            square = crop_square(points)
        except BadImage:
            return inner.name, number, None
        steps = (points - square.centre) / square.side
        return inner.name, number, np.concatenate([steps @ square.x_axis, steps @ square.y_axis])
