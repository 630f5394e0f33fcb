"""Label columns: the named labels of a data set, and their two kinds: classes in order, and numbers within bounds.

This is the one place that knows the kinds. Everything else handles *entries*: an entry is what a store, a source or a
model has for an image in a column, an int32. Of classes it is the class number. Of a number it is a position between
the bounds in STEPS steps, finer than float32. -1 is unknown in both.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.networks.latents import one_hot
from pggan.utils.errors import DataError, UsageError
from pggan.utils.formatting import natural_key

# Most classes of a column: more distinct values are names, not classes.
MAX_CLASSES = 1000
# Classes of truth values, and of attributes of -1 and 1.
NO_YES = ("no", "yes")
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_NEGATIVE = re.compile(r"-[1-9][0-9]*")


# Steps between the bounds of a number.
STEPS = 1 << 30
# Points of a number's distribution that a model keeps, evenly spaced in probability.
QUANTILES = 33
# Largest magnitude of a number.
MAX_NUMBER = 1e30


@dataclass(frozen=True)
class LabelColumn:
    """A named label with its classes in order, or with the bounds of a number."""

    name: str
    classes: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None  # of a number: lowest and highest value; None: classes

    @classmethod
    def of_values(cls, name: str, values: NDArray[np.float64]) -> LabelColumn:
        """Returns the column of numbers (N,), of which NaN are unknown. Raises `DataError` where there is no range."""
        known = values[np.isfinite(values)]
        if not len(known) or not known.min() < known.max():
            raise DataError(f"the label {name!r} has no two different numbers, so that nothing can be learnt from it")
        if np.abs(known).max() > MAX_NUMBER:
            raise DataError(f"the label {name!r} has numbers beyond {MAX_NUMBER:g}; mend them, or leave it out")
        return cls(name, bounds=(float(known.min()), float(known.max())))

    @property
    def is_number(self) -> bool:
        return self.bounds is not None

    @property
    def layout(self) -> int:
        """The column in a configuration's `label_layout`: its number of classes, 0 of a number."""
        return len(self.classes)

    @property
    def width(self) -> int:
        """Inputs of the generator, and outputs of the discriminator: one for each class, one for a number."""
        return 1 if self.is_number else len(self.classes)

    @property
    def limit(self) -> int:
        """Entries are below this."""
        return STEPS + 1 if self.is_number else len(self.classes)

    @property
    def summary(self) -> str:
        """The classes, or the bounds, for people."""
        return "{:g} to {:g}".format(*self.bounds) if self.bounds else ", ".join(self.classes)

    @property
    def names(self) -> list[str]:
        """What a person can ask for: the classes; of a number its bounds as `10..80`."""
        return ["{:g}..{:g}".format(*self.bounds)] if self.bounds else list(self.classes)

    def value(self, entry: int) -> float:
        """Returns the number of an entry."""
        low, high = self.bounds or (0.0, float(STEPS))
        return low + (high - low) * entry / STEPS

    def entries(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        """Returns the entries of numbers (...); -1 for NaN. Values beyond the bounds become the bounds."""
        low, high = self.bounds or (0.0, float(STEPS))
        shares = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
        return np.where(np.isfinite(values), np.rint(shares * STEPS), -1).astype(np.int32)

    def text(self, entry: int) -> str:
        """Returns an entry for people and tables: the class's name, or the number; "" for an unknown one."""
        if entry < 0:
            return ""
        return f"{self.value(entry):.7g}" if self.is_number else self.classes[entry]

    def exact_text(self, entry: int) -> str:
        """Returns an entry for files that are read again: `text`, but of a number as many digits as tell the entry."""
        if entry < 0 or not self.is_number:
            return self.text(entry)
        texts = [f"{self.value(entry):.{digits}g}" for digits in range(7, 18)]
        return next((text for text in texts if self.entries(np.float64(text)) == entry), texts[-1])

    def chip(self, entry: int) -> str:
        """Returns an entry as a short text beside others: the class's name, or `age 30.5`."""
        return f"{self.name} {self.value(entry):.3g}" if self.is_number else self.classes[entry]

    def describe(self, entry: int) -> dict[str, Any]:
        """Returns an entry for the metadata of pictures."""
        if self.is_number:
            return {"value": float(self.text(entry))}
        return {"number": entry, "name": self.classes[entry]}

    def parse(self, text: str) -> int | None:
        """Returns the entry that a person's text means, None where it means none.

        Raises `UsageError` for a number beyond the bounds.
        """
        if not self.bounds:
            if text in self.classes:
                return self.classes.index(text)
            return int(text) if text.isdecimal() and len(text) < 10 and int(text) < len(self.classes) else None
        try:
            value = float(text)
        except ValueError:
            return None
        low, high = self.bounds
        slack = 1e-6 * (high - low)  # of numbers that were printed
        if not low - slack <= value <= high + slack:
            raise UsageError(f"{self.name} is a number from {low:g} to {high:g} in the training data, not {text}")
        return int(self.entries(np.float64(value)))

    def vectors(self, entries: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the networks' form of entries (N,): (N, width).

        Classes are one-hot, an unknown one is zeros. A number goes from -1 to 1, an unknown one is NaN.
        """
        entries = np.asarray(entries, np.int64)
        if self.is_number:
            values = entries * (2 / STEPS) - 1
            return np.where(entries < 0, np.nan, values).astype(np.float32)[:, None]
        return one_hot(entries, len(self.classes))

    def entry_of(self, vector: NDArray[np.floating[Any]]) -> int:
        """Returns the entry that a vector (width,) of the networks stands for."""
        if self.is_number:
            return int(np.clip(np.rint((float(vector[0]) + 1) * (STEPS / 2)), 0, STEPS))
        return int(vector.argmax())

    def distribution(self, entries: NDArray[np.int32]) -> dict[str, Any]:
        """Returns how entries (N,) are distributed, as a model file has it: `counts` of classes, or `quantiles`."""
        known = entries[entries >= 0]
        if not len(known):
            return {}
        if self.is_number:
            points = np.quantile(known, np.linspace(0, 1, QUANTILES))
            return {"quantiles": [self.value(int(point)) for point in points]}
        return {"counts": np.bincount(known, minlength=len(self.classes)).tolist()}

    def to_json(self) -> dict[str, Any]:
        """Returns the column as a manifest and a model file have it."""
        if self.bounds:
            return {"name": self.name, "bounds": list(self.bounds)}
        return {"name": self.name, "classes": list(self.classes)}

    def renumbering(self, merged: LabelColumn) -> Callable[[int], int]:
        """Returns what turns entries of this column into those of a column that it became a part of."""
        if self.is_number:
            return lambda entry: entry if entry < 0 else int(merged.entries(np.float64(self.value(entry))))
        numbers = {name: number for number, name in enumerate(merged.classes)}
        table = [*(numbers[name] for name in self.classes), -1]
        return table.__getitem__

    @classmethod
    def merged(cls, columns: Sequence[LabelColumn]) -> LabelColumn:
        """Joins columns of one name and kind: all their classes, or the bounds that hold all numbers."""
        bounds = [column.bounds for column in columns if column.bounds]
        if bounds:
            return cls(columns[0].name, bounds=(min(low for low, _ in bounds), max(high for _, high in bounds)))
        return cls(columns[0].name, tuple(dict.fromkeys(name for column in columns for name in column.classes)))


def has_numbers(columns: Sequence[LabelColumn]) -> bool:
    """Whether a column is of numbers, which older versions do not know."""
    return any(column.is_number for column in columns)


def choose_columns(names: str, columns: Sequence[LabelColumn]) -> list[int]:
    """Returns the places of the columns that `--labels` names: one, or several with commas between them.

    Raises `DataError` for one that is not there, or is named twice.
    """
    known = [column.name for column in columns]
    asked = [names] if names in known else [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in known:
            raise DataError(f"the data has no labels {name!r}; it has: {', '.join(known) or 'none'}")
    if len(set(asked)) < len(asked):
        raise DataError(f"--labels {names} names a column twice; name each once")
    return [known.index(name) for name in asked]


def read_entries(data: bytes, count: int, width: int) -> NDArray[np.int32]:
    """Reads label entries, int32 (count, width), from the bytes of a .npy file. Nothing is allocated for them.

    Raises `ValueError` for an array of another kind or shape, and for more or fewer bytes than it needs.
    """
    file = io.BytesIO(data)
    version = tuple(data[6:8])
    if not data.startswith(np.lib.format.MAGIC_PREFIX) or version not in _HEADER_READERS:
        raise ValueError("no .npy file of a known version")
    file.seek(8)
    shape, in_columns, dtype = _HEADER_READERS[version](file)
    if dtype != np.int32 or shape != (count, width) or in_columns:
        raise ValueError(f"{dtype} of shape {shape}"[:160])
    start = file.tell()
    if len(data) - start != 4 * count * width:
        raise ValueError(f"{len(data) - start} bytes for {count} x {width} numbers")
    return np.frombuffer(data, np.int32, offset=start).reshape(count, width)


def are_entries(numbers: NDArray[np.int32], columns: Sequence[LabelColumn]) -> bool:
    """Whether numbers (columns,) or (N, columns) are entries of their columns, or -1 (unknown)."""
    tops = np.array([column.limit for column in columns], np.int64)
    return bool(((numbers >= -1) & (numbers < tops)).all())


def empty_classes(labels: NDArray[np.int32], columns: Sequence[LabelColumn]) -> dict[str, list[str]]:
    """Returns the names of the classes that no image has, by column. `labels`: class numbers (N, columns)."""
    empty = {}
    for at, column in enumerate(columns):
        used = set(np.unique(labels[:, at]).tolist())
        if names := [name for number, name in enumerate(column.classes) if number not in used]:
            empty[column.name] = names
    return empty


def without_unknown(values: Iterable[Any]) -> set[Any]:
    """Returns the distinct values of a column without -1, which is unknown where no other value is negative."""
    distinct = set(values)
    others = {value for value in distinct if str(value) != "-1"}
    return distinct if any(_NEGATIVE.fullmatch(str(value)) for value in others) else others


def order_classes(values: Iterable[Any], are_numbers: bool = True) -> tuple[str, ...]:
    """Returns the distinct values as names of classes in order.

    Whole numbers are sorted as numbers, other texts naturally ("a2" before "a10").

    Args:
        values: The values.
        are_numbers: Whole numbers up to MAX_CLASSES are class numbers: the classes are all numbers from 0 to the
            largest. False: they are names, such as years, and only those that occur are classes.
    """
    texts = {str(value) for value in values}
    if not all(_WHOLE.fullmatch(text) for text in texts):  # "007" is a text
        return tuple(sorted(texts, key=lambda text: (natural_key(text), text)))
    numbers = {text: int(text) for text in texts}
    if are_numbers and numbers and min(numbers.values()) >= 0 and max(numbers.values()) <= MAX_CLASSES:
        return tuple(map(str, range(max(numbers.values()) + 1)))
    return tuple(sorted(texts, key=numbers.__getitem__))
