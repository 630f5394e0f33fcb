"""Texts of lists from outside (CSV, JSON, attribute lists): bounds of their size, and which values are measures."""

from __future__ import annotations

import math
import os
from collections.abc import Collection

from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_LIST_BYTES, MAX_LIST_VALUES

# Lists beside images that are read: a table of this program or of a spreadsheet, the order of its classes, StyleGAN's.
TABLE, CLASSES, DATASET = "labels.csv", "classes.json", "dataset.json"
# The folder above the source, or beside an archive.
ABOVE = ".."
_OTHER_LISTS = frozenset({"labels.json", "labels.txt", "metadata.jsonl", "annotations.json"})
_LIST_ENDINGS = (".csv", ".tsv")


def is_list_name(name: str) -> bool:
    """Whether a path in a source may be a list of labels, by its name. Lists of landmarks are none."""
    base = name.rpartition("/")[2].lower()
    if base.startswith(".") or "landmark" in base or "__MACOSX" in name.split("/"):
        return False
    return base == DATASET or base in _OTHER_LISTS or base.endswith(_LIST_ENDINGS) or base.startswith("list_attr")


def lists_above(path: str) -> list[str]:
    """Returns the lists that lie beside a folder or an archive, as `../labels.csv`."""
    folder = os.path.dirname(os.path.abspath(path))
    return [f"{ABOVE}/{name}" for name in (TABLE, DATASET) if os.path.isfile(os.path.join(folder, name))]


def list_path(path: str, name: str) -> str:
    """Returns the path of a list: below the folder `path`, or above it, where the name begins with `../`."""
    if name.startswith(ABOVE + "/"):
        return os.path.join(os.path.dirname(os.path.abspath(path)), name.removeprefix(ABOVE + "/"))
    return os.path.join(path, name)


def decode_list(data: bytes, where: str) -> str:
    """Decodes a list's content. Raises `DataError` if it is above MAX_LIST_BYTES, or not in UTF-8."""
    if len(data) > MAX_LIST_BYTES:
        raise DataError(f"{where} is above the limit of {MAX_LIST_BYTES >> 20} MiB for lists; give a smaller one")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where} is no text in UTF-8; save it as that") from None


def read_list(path: str) -> bytes:
    """Returns the content of a file of landmarks, which may be a pipe. Raises `DataError`."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a file of landmarks") from None
    if len(data) > MAX_LIST_BYTES:
        raise DataError(f"{path} is above the limit of {MAX_LIST_BYTES >> 20} MiB for lists; split it")
    return data


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
