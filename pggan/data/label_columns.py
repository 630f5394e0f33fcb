"""Label columns: the named labels of a data set and the order of their classes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pggan.utils.formatting import natural_key

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
