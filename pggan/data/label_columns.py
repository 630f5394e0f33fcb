"""Label columns and their classes, and the vectors that a conditional generator takes for them (numpy only)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.networks.latents import one_hot
from pggan.utils.errors import UsageError
from pggan.utils.formatting import natural_key

# One class number a column; None: not asked for, each picture has its own.
Choice = tuple[int | None, ...]
_NAMED = 40
# Most classes of a column: more distinct values are names, not classes.
MAX_CLASSES = 1000
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class LabelColumn:
    """A named label and the names of its classes, in order."""

    name: str
    classes: tuple[str, ...]


def order_classes(values: Iterable[Any]) -> tuple[str, ...]:
    """Returns the distinct values as names of classes in order.

    Whole numbers up to MAX_CLASSES become all numbers from 0 to the largest. Other whole numbers are sorted as numbers,
    other texts naturally ("a2" before "a10").
    """
    texts = {str(value) for value in values}
    if not all(_WHOLE.fullmatch(text) for text in texts):  # "007" is a text
        return tuple(sorted(texts, key=lambda text: (natural_key(text), text)))
    numbers = {text: int(text) for text in texts}
    if numbers and min(numbers.values()) >= 0 and max(numbers.values()) <= MAX_CLASSES:
        return tuple(map(str, range(max(numbers.values()) + 1)))
    return tuple(sorted(texts, key=numbers.__getitem__))


@dataclass(frozen=True)
class LabelSpace:
    """What a model can be asked for: the columns' one-hot vectors side by side are its label vector."""

    columns: tuple[LabelColumn, ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, Any] | None, size: int) -> LabelSpace:
        """From a model file's `labels` (one column's name and classes, or `columns` of those) and its label size.

        Classes that the file does not name, or not all of them, are numbered.
        """
        if not size:
            return cls()
        given = (labels or {}).get("columns") or [labels or {}]
        columns = tuple(
            LabelColumn(str(c.get("name", "class")), tuple(map(str, c.get("classes") or ()))) for c in given
        )
        if sum(len(column.classes) for column in columns) != size:
            columns = (LabelColumn(columns[0].name, tuple(map(str, range(size)))),)
        return cls(columns)

    @property
    def size(self) -> int:
        """Length of the label vector."""
        return sum(len(column.classes) for column in self.columns)

    @property
    def names(self) -> list[str]:
        """Every class as a person asks for it: `blond`, or `hair=blond` where there are several columns."""
        if len(self.columns) == 1:
            return list(self.columns[0].classes)
        return [f"{column.name}={name}" for column in self.columns for name in column.classes]

    def choose(self, label: int | str) -> Choice:
        """What is asked for by a class's name or number, or by `column=class` pairs with commas between them.

        Raises `UsageError` for what the model does not have.
        """
        if not self.columns:
            raise UsageError("this model has no labels; leave the label out")
        text = str(label)
        if len(self.columns) == 1 and (number := _class_number(self.columns[0], text)) is not None:
            return (number,)
        chosen: dict[str, int] = {}
        for part in text.split(","):
            name, _, wanted = part.partition("=")
            column = next((c for c in self.columns if c.name == name.strip()), None)
            number = _class_number(column, wanted.strip()) if column else None
            if column is None or number is None or column.name in chosen:
                raise UsageError(f"unknown label {label!r}; choose one of: {', '.join(self.names[:_NAMED])}")
            chosen[column.name] = number
        return tuple(chosen.get(column.name) for column in self.columns)

    def drawn(self, seed: int, latent_size: int) -> tuple[int, ...]:
        """The classes that a seed has where none is asked for: the draws after the latent's."""
        state = np.random.RandomState(seed)
        state.randn(latent_size)
        return tuple(int(state.randint(len(column.classes))) for column in self.columns)

    def of_seeds(self, seeds: Iterable[int], latent_size: int, label: int | str | None) -> list[tuple[int, ...]]:
        """Class numbers for every seed: as asked for, else its own."""
        asked: Choice = (None,) * len(self.columns) if label is None else self.choose(label)
        if None not in asked:
            return [tuple(n for n in asked if n is not None) for _ in seeds]
        return [
            tuple(own if wanted is None else wanted for own, wanted in zip(self.drawn(seed, latent_size), asked))
            for seed in seeds
        ]

    def of_cells(self, count: int, label: int | str | None) -> list[tuple[int, ...]]:
        """Class numbers for the cells of a grid: as asked for, else the classes in turn."""
        asked: Choice = (None,) * len(self.columns) if label is None else self.choose(label)
        rows = []
        for cell in range(count):
            row = []
            for column, wanted in zip(self.columns, asked):
                if wanted is None:
                    cell, wanted = divmod(cell, len(column.classes))
                row.append(wanted)
            rows.append(tuple(row))
        return rows

    def vectors(self, rows: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        """Label vectors (N, size) of class numbers."""
        parts = [
            one_hot([row[at] for row in rows], len(column.classes)) for at, column in enumerate(self.columns)
        ]  # fmt: skip
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(rows), 0), np.float32)

    def describe(self, row: Choice) -> dict[str, Any] | None:
        """Class numbers for people and metadata: number and name, by column where there are several."""
        found = {
            column.name: {"number": number, "name": column.classes[number]}
            for column, number in zip(self.columns, row)
            if number is not None
        }
        if not found:
            return None
        return next(iter(found.values())) if len(self.columns) == 1 else dict(found)


def _class_number(column: LabelColumn, text: str) -> int | None:
    if text in column.classes:
        return column.classes.index(text)
    return int(text) if text.isdecimal() and len(text) < 10 and int(text) < len(column.classes) else None
