"""Texts of lists from outside (CSV, JSON, attribute lists): bounds of their size, and which values are measures."""

from __future__ import annotations

import math
from collections.abc import Collection

from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_LIST_BYTES, MAX_LIST_VALUES


def decode_list(data: bytes, where: str) -> str:
    """Decodes a list's content. Raises `DataError` if it is above MAX_LIST_BYTES, or not in UTF-8."""
    if len(data) > MAX_LIST_BYTES:
        raise DataError(f"{where} is above the limit of {MAX_LIST_BYTES >> 20} MiB for lists; give a smaller one")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where} is no text in UTF-8; save it as that") from None


def check_values(text: str, separators: str, where: str) -> None:
    """Raises `DataError` if a list has more than `MAX_LIST_VALUES` values, which may not fit into memory."""
    if sum(map(text.count, separators)) > MAX_LIST_VALUES:
        raise DataError(f"{where} has more than {MAX_LIST_VALUES // 10**6} million values; split it, or remove columns")


def are_measures(values: Collection[str]) -> bool:
    """Whether all values are numbers, and some are fractions. "nan" and "inf" alone make no number a measure."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    return any(math.isfinite(number) and not number.is_integer() for number in numbers)
