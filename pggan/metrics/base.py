"""The contract of a metric: begin, feed, end make a mergeable state; two states make numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Tensors by name, on the host. "rows": one row an image, parts are joined; "sums": parts are added.
State = dict[str, Tensor]


class Embedding(Protocol):
    """A network that turns pictures into features. `identity`: what its numbers depend on."""

    identity: str

    def __call__(self, pictures: Tensor) -> Mapping[str, Tensor]:
        """uint8 (N, C, R, R) to "features" (N, D) and, where there are such, "logits" (N, K); float32 on the host."""
        ...


@dataclass(frozen=True)
class Setting:
    """What a metric is made for: pictures (channels, resolution, resolution), and how.

    `seed`: of the random draws (patches, directions, subsets). `embeddings`: by role, "inception" or "embedding".
    """

    resolution: int
    channels: int
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    embeddings: Mapping[str, Embedding] | None = None

    def embedding(self, role: str) -> Embedding:
        return (self.embeddings or {})[role]


class Batch:
    """Pictures on their way to all metrics: uint8 (N, C, R, R), with each one's number; features are made once."""

    def __init__(self, pictures: NDArray[np.uint8] | Tensor, numbers: Sequence[int], setting: Setting) -> None:
        self.host = torch.as_tensor(pictures)
        self.numbers, self.setting = list(numbers), setting
        self._features: dict[str, Mapping[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def pictures(self) -> Tensor:
        """On the device."""
        return self.host.to(self.setting.device)

    def features(self, role: str) -> Mapping[str, Tensor]:
        if role not in self._features:
            self._features[role] = self.setting.embedding(role)(self.pictures)
        return self._features[role]

    def below(self, count: int) -> Batch:
        """The pictures whose number is less than `count`: this batch itself where all are."""
        keep = [at for at, number in enumerate(self.numbers) if number < count]
        if len(keep) == len(self):
            return self
        part = Batch(self.host[keep], [self.numbers[at] for at in keep], self.setting)
        part._features = {
            role: {key: value[keep] for key, value in found.items()} for role, found in self._features.items()
        }
        return part


class Rows:
    """Rows that come in batches, in one tensor that is allocated once."""

    def __init__(self, room: int) -> None:
        self.room, self.filled = room, 0
        self._kept: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        if self._kept is None:
            self._kept = torch.empty((max(self.room, len(rows)), *rows.shape[1:]), dtype=rows.dtype)
        if self.filled + len(rows) > len(self._kept):
            more = torch.empty((len(self._kept) + len(rows), *rows.shape[1:]), dtype=rows.dtype)
            more[: self.filled] = self._kept[: self.filled]
            self._kept = more
        self._kept[self.filled : self.filled + len(rows)] = rows
        self.filled += len(rows)

    def end(self) -> Tensor:
        return torch.zeros(0) if self._kept is None else self._kept[: self.filled]


class Metric(ABC):
    """One metric in one setting: `begin(room)`, `feed(batch)` ..., `end()` gives a state; `result` compares two.

    The state of a whole is `merge` of those of its parts, in any order: every picture carries its number, on which its
    random draws depend.
    """

    name: str
    role = ""  # the embedding that it looks through
    sums = False  # parts are added, not joined

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @property
    def options(self) -> dict[str, Any]:
        """What its statistics depend on beside the pictures, as JSON values."""
        return {"embedding": self.setting.embedding(self.role).identity} if self.role else {}

    @abstractmethod
    def begin(self, room: int) -> None:
        """Starts anew; about `room` pictures will come."""

    @abstractmethod
    def feed(self, batch: Batch) -> None: ...

    @abstractmethod
    def end(self) -> State: ...

    @classmethod
    def merge(cls, states: Sequence[State]) -> State:
        """One state of many parts."""
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
        """Numbers by name. `reals` is empty for a metric of generated pictures alone."""
