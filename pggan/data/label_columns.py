"""Label columns: the named labels of a data set and the order of their classes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pggan.utils.formatting import natural_key

# Numbers above this are names of something else than classes.
MOST_CLASSES = 1000
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class LabelColumn:
    """A named label and the names of its classes, in order."""

    name: str
    classes: tuple[str, ...]


def in_class_order(values: Iterable[Any]) -> tuple[str, ...]:
    """Names of classes in order: whole numbers from 0 with none left out between, else as numbers, else naturally."""
    texts = {str(value) for value in values}
    if not all(_WHOLE.fullmatch(text) for text in texts):  # "007" is a name
        return tuple(sorted(texts, key=lambda text: (natural_key(text), text)))
    numbers = {text: int(text) for text in texts}
    if numbers and min(numbers.values()) >= 0 and max(numbers.values()) <= MOST_CLASSES:
        return tuple(map(str, range(max(numbers.values()) + 1)))
    return tuple(sorted(texts, key=numbers.__getitem__))
