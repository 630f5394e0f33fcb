"""Label spaces: which labels a conditional model has, how people ask for them, and the label vectors of the generator.

A row is an entry for each column (see data/label_columns.py): a class number, or a number's place between its bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import STEPS, LabelColumn
from pggan.utils.errors import UsageError

# A requested entry for each column; None: each seed or cell has its own.
LabelChoice = tuple[int | None, ...]
# Characters of a name in file names, and words with a meaning of their own there.
MAX_WORD = 40
_TAKEN = r"raw|class\d+|column\d+|code\d.*"
# Classes that an error message lists at most.
LISTED_CLASSES = 40
# Values of a number among the cells of a grid.
CELLS = 5


@dataclass(frozen=True)
class LabelSpace:
    """The label columns of a model. Its label vector is the columns' vectors side by side."""

    columns: tuple[LabelColumn, ...] = ()
    # by column: training images of each class, or quantiles of a number's entries; None: unknown, as in files of before
    counts: tuple[tuple[int, ...] | None, ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, Any] | None, size: int) -> LabelSpace:
        """Reads the `labels` entry of a model file: a column's name, classes and counts, or a list `columns` of those.

        `size` is the model's label size. Where the named classes do not add up to it, classes are numbered instead.
        """
        if not size:
            return cls()
        entries = (labels or {}).get("columns") or [labels or {}]
        columns = tuple(
            LabelColumn(str(entry.get("name", "class")), tuple(map(str, entry.get("classes") or ())), _bounds(entry))
            for entry in entries
        )
        if sum(column.width for column in columns) != size:
            return cls((LabelColumn(columns[0].name, tuple(map(str, range(size)))),))
        return cls(columns, tuple(_distribution(entry, column) for entry, column in zip(entries, columns)))

    @property
    def size(self) -> int:
        """Length of the label vector."""
        return sum(column.width for column in self.columns)

    @property
    def widths(self) -> list[int]:
        """The parts of the label vector, by column."""
        return [column.width for column in self.columns]

    @property
    def names(self) -> list[str]:
        """Every class as `--label` takes it: `blond`, or `hair=blond` where there are several columns.

        Of numbers the bounds: `age=10..80`.
        """
        if len(self.columns) == 1 and not self.columns[0].is_number:
            return list(self.columns[0].classes)
        return [f"{column.name}={name}" for column in self.columns for name in column.names]

    def choose(self, label: int | str) -> LabelChoice:
        """Parses a label: a class's name or number, a number, or `column=value` pairs separated by commas.

        Raises `UsageError` for a class or column that the model does not have, for a class without training images, and
        for a number beyond the bounds.
        """
        choice = self._parse(label)
        for at, number in enumerate(choice):
            if number is not None and not self.columns[at].is_number and number not in (trained := self._trained(at)):
                classes = self.columns[at].classes
                known = ", ".join(classes[k] for k in trained[:LISTED_CLASSES])
                raise UsageError(
                    f"the model was trained without pictures of {self.columns[at].name}={classes[number]}; choose one "
                    f"of: {known}"
                )
        return choice

    def _parse(self, label: int | str) -> LabelChoice:
        """Parses a label, see `choose`."""
        if not self.columns:
            raise UsageError("this model has no labels; leave the label out")
        text = str(label)
        if len(self.columns) == 1 and (number := self.columns[0].parse(text)) is not None:
            return (number,)
        chosen: dict[str, int] = {}
        for part in text.split(","):
            name, _, class_name = part.partition("=")
            column = next((c for c in self.columns if c.name == name.strip()), None)
            number = column.parse(class_name.strip()) if column else None
            if column is not None and column.name in chosen:
                raise UsageError(f"the label {column.name} is there twice in {label!r}; give it once")
            if column is None or number is None:
                raise UsageError(f"unknown label {label!r}; choose one of: {', '.join(self.names[:LISTED_CLASSES])}")
            chosen[column.name] = number
        return tuple(chosen.get(column.name) for column in self.columns)

    def drawn(self, seed: int, latent_size: int) -> tuple[int, ...]:
        """Returns a seed's own classes: the draws that follow its latent in `RandomState(seed)`.

        They are as frequent as in the training data; each class alike where the model file does not say how many
        images its classes have.
        """
        state = np.random.RandomState(seed)
        state.randn(latent_size)
        return tuple(self._draw(at, state) for at in range(len(self.columns)))

    def _draw(self, at: int, state: np.random.RandomState) -> int:
        """Draws an entry of a column."""
        counts = self._counts(at)
        if self.columns[at].is_number:
            points = counts or (0, STEPS)
            return round(float(np.interp(state.random_sample() * (len(points) - 1), range(len(points)), points)))
        if counts is None:
            return int(state.randint(len(self.columns[at].classes)))
        ends = np.cumsum(counts)
        return int(np.searchsorted(ends, state.randint(ends[-1]), side="right"))

    def _counts(self, at: int) -> tuple[int, ...] | None:
        return self.counts[at] if self.counts else None

    def _trained(self, at: int) -> list[int]:
        """Returns the classes of a column that have training images; all where that is unknown. Of a number, CELLS."""
        counts = self._counts(at)
        if self.columns[at].is_number:
            return self.spread(at, CELLS)
        return [k for k in range(len(self.columns[at].classes)) if counts is None or counts[k]]

    def spread(self, at: int, count: int) -> list[int]:
        """Returns entries of a column from the lowest to the highest: all classes with images, or `count` numbers."""
        if not self.columns[at].is_number:
            return self._trained(at)
        return [round(float(step)) for step in np.linspace(0, STEPS, count)]

    def of_seeds(self, seeds: Iterable[int], latent_size: int, label: int | str | None) -> list[tuple[int, ...]]:
        """Returns the class numbers of every seed: those of `label` where it names them, else the seed's own."""
        choice = self._choice(label)
        if None not in choice:
            return [tuple(number for number in choice if number is not None) for _ in seeds]
        return [
            tuple(own if number is None else number for own, number in zip(self.drawn(seed, latent_size), choice))
            for seed in seeds
        ]

    def of_cells(self, count: int, label: int | str | None) -> list[tuple[int, ...]]:
        """Returns the class numbers of `count` grid cells: those of `label`, else all combinations in turn."""
        choice, classes = self._choice(label), [self._trained(at) for at in range(len(self.columns))]
        rows = []
        for cell in range(count):
            row = []
            for number, trained in zip(choice, classes):
                if number is None:
                    cell, at = divmod(cell, len(trained))
                    number = trained[at]
                row.append(number)
            rows.append(tuple(row))
        return rows

    def _choice(self, label: int | str | None) -> LabelChoice:
        return (None,) * len(self.columns) if label is None else self.choose(label)

    def vectors(self, rows: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        """Returns the label vectors (N, size) of rows of class numbers."""
        parts = [column.vectors(np.array([row[i] for row in rows])) for i, column in enumerate(self.columns)]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(rows), 0), np.float32)

    def row_of(self, vector: NDArray[np.floating[Any]]) -> tuple[int, ...]:
        """Returns the row that a label vector (size,) stands for: of classes the largest."""
        parts = np.split(vector, np.cumsum(self.widths)[:-1])
        return tuple(column.entry_of(part) for column, part in zip(self.columns, parts))

    def file_name(self, row: LabelChoice) -> str:
        """Returns the classes for file names: `-blond`, or `-hair-blond` by column where there are several."""
        chosen = [(column, number) for column, number in zip(self.columns, row) if number is not None]
        words = [_number_word(c, n) if c.is_number else _file_word(c.classes, n) for c, n in chosen]
        if len(self.columns) > 1:
            names = [column.name for column in self.columns]
            words = [f"{_file_word(names, names.index(c.name), 'column')}-{w}" for (c, _), w in zip(chosen, words)]
        return "".join(f"-{word}" for word in words)

    def describe(self, row: LabelChoice) -> dict[str, Any] | None:
        """Returns number and name of each class, and each number, for metadata; None for no label.

        By column where there are several.
        """
        chosen = zip(self.columns, row)
        classes = {column.name: column.describe(number) for column, number in chosen if number is not None}
        if not classes:
            return None
        return next(iter(classes.values())) if len(self.columns) == 1 else dict(classes)


def _bounds(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    return (float(entry["bounds"][0]), float(entry["bounds"][1])) if entry.get("bounds") else None


def _distribution(entry: Mapping[str, Any], column: LabelColumn) -> tuple[int, ...] | None:
    """Returns how a column's entries are distributed, see `LabelSpace.counts`."""
    if column.is_number:
        points = entry.get("quantiles")
        return tuple(column.entries(np.array(points, np.float64)).tolist()) if points else None
    return tuple(entry["counts"]) if entry.get("counts") else None


def _number_word(column: LabelColumn, entry: int) -> str:
    """Returns a number for file names: `-1_5` for -1.5."""
    return column.text(entry).replace(".", "_").replace("+", "")


def _file_word(names: Sequence[str], number: int, kind: str = "class") -> str:
    """Returns a name's letters, digits, `-` and `_`, 40 at most; `class3` where it has none, or another has the same.

    Words that mean something else in file names give way to numbers, too.
    """
    words = [re.sub(r"[^\w-]+", "_", name).strip("_-")[:MAX_WORD].casefold() for name in names]
    word = re.sub(r"[^\w-]+", "_", names[number]).strip("_-")[:MAX_WORD]
    is_taken = not word or words.count(word.casefold()) > 1 or re.fullmatch(_TAKEN, word, re.IGNORECASE)
    return f"{kind}{number}" if is_taken or word == str(number) else word
