"""Label columns: the named labels of a data set and the order of their classes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.utils.formatting import natural_key

# Most classes of a column: more distinct values are names, not classes.
MAX_CLASSES = 1000
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class LabelColumn:
    """A named label and the names of its classes, in order."""

    name: str
    classes: tuple[str, ...]


def read_class_numbers(data: bytes, count: int, width: int) -> NDArray[np.int32]:
    """Reads class numbers, int32 (count, width), from the bytes of a .npy file. Nothing is allocated for them.

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


def are_classes(numbers: NDArray[np.int32], columns: Sequence[LabelColumn]) -> bool:
    """Whether numbers (N, columns) are classes of their columns, or -1 (unknown)."""
    tops = np.array([len(column.classes) for column in columns], np.int64)
    return bool(((numbers >= -1) & (numbers < tops)).all())


def empty_classes(labels: NDArray[np.int32], columns: Sequence[LabelColumn]) -> dict[str, list[str]]:
    """Returns the names of the classes that no image has, by column. `labels`: class numbers (N, columns)."""
    empty = {}
    for at, column in enumerate(columns):
        used = set(np.unique(labels[:, at]).tolist())
        if names := [name for number, name in enumerate(column.classes) if number not in used]:
            empty[column.name] = names
    return empty


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
