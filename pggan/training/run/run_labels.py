"""The label columns that a conditional run uses, and what its models say of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.train import TrainConfig
from pggan.data.label_columns import LabelColumn, choose_columns
from pggan.data.store.store import Store
from pggan.utils.errors import DataError


@dataclass(frozen=True)
class RunLabels:
    """The columns of `--labels`; none of an unconditional run."""

    at: tuple[int, ...]  # numbers of the columns in the data
    columns: tuple[LabelColumn, ...]
    known: NDArray[np.int32]  # entries (N, columns) of the images of which all are known
    about: dict[str, Any] | None  # for model files: the column, or `columns`; with how their entries are distributed

    @classmethod
    def of(cls, store: Store, config: TrainConfig) -> RunLabels:
        """Reads the labels of a run's data. Raises `DataError` where a column is not there, or known of no image."""
        if config.labels is None:
            return cls((), (), np.zeros((0, 0), np.int32), None)
        at = tuple(choose_columns(config.labels, store.manifest.labels))
        columns = tuple(store.manifest.labels[n] for n in at)
        entries = store.labels[:, list(at)]
        known = entries[(entries >= 0).all(axis=1)]
        if not len(known):
            raise DataError(f"no picture of the data has a known {config.labels!r}; train without --labels")
        described = [{**c.to_json(), **c.distribution(entries[:, n])} for n, c in enumerate(columns)]
        return cls(at, columns, known, described[0] if len(described) == 1 else {"columns": described})
