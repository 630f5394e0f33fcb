"""Checks of values that came from a browser: a wrong one raises `UsageError`, whatever it is. Torch-free."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pggan.utils.errors import UsageError


def integer(value: Any, low: int, high: int, name: str) -> int:
    """Returns an integer from `low` to `high`, both included."""
    if type(value) is not int or not low <= value <= high:
        raise UsageError(f"{name} has to be a whole number from {low} to {high}")
    return value


def number(value: Any, low: float, high: float, name: str) -> float:
    """Returns a finite number from `low` to `high`, both included."""
    if type(value) not in (int, float) or not low <= value <= high:  # NaN is in no range
        raise UsageError(f"{name} has to be a number from {low:g} to {high:g}")
    return float(value)


def text(value: Any, most: int, name: str) -> str:
    """Returns a text of at most `most` characters without control characters, line breaks excepted."""
    if not isinstance(value, str) or len(value) > most:
        raise UsageError(f"{name} has to be a text of at most {most} characters")
    return "".join(character for character in value if character.isprintable() or character == "\n")


def choice(value: Any, names: tuple[str, ...], name: str) -> str:
    """Returns one of `names`."""
    if not isinstance(value, str) or value not in names:
        raise UsageError(f"{name} has to be one of: {', '.join(names)}")
    return value


def entries(value: Any, most: int, name: str) -> list[Any]:
    """Returns a list of at most `most` entries."""
    if not isinstance(value, list) or len(value) > most:
        raise UsageError(f"{name} has to be a list of at most {most} entries")
    return value


def mapping(value: Any, most: int, name: str) -> dict[str, Any]:
    """Returns an object of at most `most` keys, which JSON makes texts."""
    if not isinstance(value, dict) or len(value) > most or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name} has to be an object of at most {most} keys")
    return value


def base64_bytes(value: Any, count: int, name: str) -> bytes:
    """Returns `count` bytes that are written in base64."""
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) and len(value) <= 2 * count + 4 else b""
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != count:
        raise UsageError(f"{name} has to be {count} bytes in base64")
    return data
