"""Reads JSON of someone else: bounded, of finite numbers, of the kinds that are asked for (torch-free)."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

# Levels of lists and objects in one another, and the largest number of either sign: counters and sizes are below.
MAX_DEPTH, MAX_NUMBER = 16, 2**63


def parse_json(text: str | bytes, most: int) -> Any:
    """Parses JSON. Raises `ValueError` for more than `most` bytes, deep nesting, NaN, infinity or huge numbers."""
    if len(text) > most:
        raise ValueError(f"it is larger than {most} bytes")
    try:
        value = json.loads(text, parse_int=_whole_number, parse_float=_number, parse_constant=_number)
    except (RecursionError, MemoryError):
        raise ValueError("it is nested too deeply, or too large") from None
    _check_depth(value)
    return value


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _whole_number(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) > MAX_NUMBER:
        raise ValueError(f"the number {text[:20]}... is too large")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _contents(outer)]
    if level:
        raise ValueError("it is nested too deeply")


def _contents(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def is_kind(value: Any, annotation: Any) -> bool:
    """Whether a parsed JSON value is of an annotated type: lists stand for tuples, whole numbers for floats, too.

    Understands int, float, bool, str, None, Any, unions, lists, tuples and mappings of those.
    """
    if annotation is Any:
        return True
    if annotation is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return any(is_kind(value, part) for part in parts)
    if origin is list or (origin is tuple and parts[-1] is Ellipsis):
        return isinstance(value, (list, tuple)) and all(is_kind(inner, parts[0]) for inner in value)
    if origin is tuple:
        fits = isinstance(value, (list, tuple)) and len(value) == len(parts)
        return fits and all(is_kind(inner, part) for inner, part in zip(value, parts))
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(
            is_kind(key, parts[0]) and is_kind(inner, parts[1]) for key, inner in value.items()
        )
    return value is None if annotation in (None, types.NoneType) else type(value) is annotation
