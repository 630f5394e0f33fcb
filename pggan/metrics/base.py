"""The contract of a metric: begin, feed, end turn images into a mergeable state; result turns two states into figures.

A state is what a metric keeps of a set of images: sums, or a row for each image. It can be cached, sent between
processes and merged, so that real images are read once and several processes share the work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Tensors by name, on the CPU: sums, or rows with one row for each image.
State = dict[str, Tensor]


class Embedding(Protocol):
    """A feature network. `identity` names its weights and input scaling: equal identities give equal features."""

    identity: str

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """Maps uint8 (N, C, R, R) to "features" (N, D) and, of some networks, "logits" (N, K): float32 on the CPU."""
        ...


@dataclass(frozen=True)
class Setting:
    """What a metric is made for."""

    resolution: int  # side of the images, in pixels
    channels: int  # 1 or 3
    seed: int = 0  # of the random draws: patches, directions, subsets
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    embeddings: Mapping[str, Embedding] | None = None  # feature networks by role, "inception" or "embedding"

    def embedding(self, role: str) -> Embedding:
        """Returns the feature network of a role."""
        return (self.embeddings or {})[role]


class Batch:
    """A batch that all metrics look at: uint8 images (N, C, R, R) and their numbers. Features are computed once."""

    def __init__(self, images: NDArray[np.uint8] | Tensor, numbers: Sequence[int], setting: Setting) -> None:
        self.host = torch.as_tensor(images)  # as they came, usually on the CPU
        self.numbers, self.setting = list(numbers), setting
        self._features: dict[str, Mapping[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def images(self) -> Tensor:
        """The images on the setting's device."""
        return self.host.to(self.setting.device)

    def features(self, role: str) -> Mapping[str, Tensor]:
        """Returns the outputs of a role's feature network for these images."""
        if role not in self._features:
            self._features[role] = self.setting.embedding(role)(self.images)
        return self._features[role]

    def below(self, count: int) -> Batch:
        """Returns the batch of the images whose number is less than `count`; the batch itself where all are."""
        rows = [row for row, number in enumerate(self.numbers) if number < count]
        if len(rows) == len(self):
            return self
        batch = Batch(self.host[rows], [self.numbers[row] for row in rows], self.setting)
        batch._features = {
            role: {key: values[rows] for key, values in outputs.items()} for role, outputs in self._features.items()
        }
        return batch


class RowBuffer:
    """Collects rows that come in batches in one tensor. Room for `capacity` rows is allocated once, and grows."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.count = capacity, 0
        self._rows: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Appends rows (N, ...)."""
        end = self.count + len(rows)
        if self._rows is None or end > len(self._rows):
            larger = torch.empty((max(self.capacity, end), *rows.shape[1:]), dtype=rows.dtype)
            if self._rows is not None:
                larger[: self.count] = self._rows[: self.count]
            self._rows = larger
        self._rows[self.count : end] = rows
        self.count = end

    def end(self) -> Tensor:
        """Returns all rows so far."""
        return torch.zeros(0) if self._rows is None else self._rows[: self.count]


class Metric(ABC):
    """One metric in one setting.

    `begin(count)`, `feed(batch)` for every batch, and `end()` make the state of a set of images. `result` compares the
    states of generated and real images. `merge` joins states of parts, in any order, into the state of the whole: every
    image carries its number, and all random draws depend on that number alone.

    A metric that can look through several feature networks has a name for each of them.
    """

    names: ClassVar[Mapping[str, str]]  # names in the table of metrics, by role of the feature network ("": pixels)
    sums = False  # whether states are sums, which are added; otherwise rows, which are joined

    def __init__(self, setting: Setting, role: str | None = None) -> None:
        self.setting = setting
        self.role = next(iter(self.names)) if role is None else role
        self.name = self.names[self.role]

    @property
    def prefix(self) -> str:
        """Prefix of figure names over the embedding, which keeps them apart from those over pixels or Inception."""
        return "embedding_" if self.role == "embedding" else ""

    @property
    def options(self) -> dict[str, Any]:
        """What the state depends on besides the images, as JSON values: the key of cached states."""
        return {"embedding": self.setting.embedding(self.role).identity} if self.role else {}

    @abstractmethod
    def begin(self, count: int) -> None:
        """Starts a new state. `count` is how many images will come, about."""

    @abstractmethod
    def feed(self, batch: Batch) -> None:
        """Adds a batch of images to the state."""

    @abstractmethod
    def end(self) -> State:
        """Returns the state of the images since `begin`."""

    @classmethod
    def merge(cls, states: Sequence[State]) -> State:
        """Joins the states of parts into that of the whole."""
        states = [state for state in states if state]
        if not states:
            return {}
        if cls.sums:
            return {key: torch.stack([state[key] for state in states]).sum(0) for key in states[0]}
        if len(states) == 1:
            return states[0]
        filled = [state for state in states if all(len(rows) for rows in state.values())] or states[:1]
        return {key: torch.cat([state[key] for state in filled]) for key in filled[0]}

    @abstractmethod
    def result(self, fakes: State, reals: State) -> dict[str, float]:
        """Returns figures by name. `reals` is empty for a metric of generated images alone."""


class RowMetric(Metric):
    """A metric whose state is a row for each image, with the images' numbers beside them."""

    def begin(self, count: int) -> None:
        self._numbers, self._rows = RowBuffer(count), RowBuffer(count)

    def feed(self, batch: Batch) -> None:
        self._numbers.add(torch.tensor(batch.numbers))
        self._rows.add(self.vectors(batch))

    @abstractmethod
    def vectors(self, batch: Batch) -> Tensor:
        """Returns a row for each image of the batch."""

    def end(self) -> State:
        return {"numbers": self._numbers.end(), "rows": self._rows.end()}


def sort_rows(state: State) -> tuple[Tensor, Tensor]:
    """Returns the numbers and rows of a state in the order of the numbers, however processes shared the images."""
    order = state["numbers"].argsort()
    return state["numbers"][order], state["rows"][order]
