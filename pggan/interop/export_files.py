"""The place that an export is written to, and the names and the table of its files."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import LabelColumn
from pggan.data.sources.list_text import CLASSES, DATASET, TABLE
from pggan.data.sources.passed_over import is_passed_folder
from pggan.utils.atomic_files import sync_directory
from pggan.utils.errors import DataError, UsageError
from pggan.utils.file_lock import exclusive_lock

# The file that names whom the licence asks to name.
ATTRIBUTION = "ATTRIBUTION.txt"


def label_table(names: list[str], columns: tuple[LabelColumn, ...], labels: NDArray[np.int32]) -> str:
    """Labels as CSV: file names, class names and numbers, empty where a label is unknown."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = ["file", *(column.name for column in columns)]
    # quoted, other delimiters in it are not taken for those of the table
    quoted = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    (quoted if re.search("[;\t]", "".join(header)) else writer).writerow(header)
    for name, row in zip(names, labels):
        if not name:
            continue
        writer.writerow([name, *(column.exact_text(int(n)) for column, n in zip(columns, row))])
    return out.getvalue()


def folder_names(classes: Sequence[str]) -> list[str]:
    """Returns a folder name for each class, different from each other on every file system.

    None is that of a list beside the folders, or of a folder that prepare-data passes over, as `lost+found`.
    """
    names: list[str] = []
    used: set[str] = {TABLE, CLASSES, DATASET, ATTRIBUTION.casefold()}
    for text in classes:
        plain = re.sub(r'[\x00-\x1f\x7f-\x9f/\\\\:*?"<>|]', "_", text).strip(". ")
        name = base = plain.encode("utf-8", "replace")[:100].decode("utf-8", "ignore").strip(". ") or "class"
        number = 2
        while (key := unicodedata.normalize("NFKC", name).casefold()) in used or is_passed_folder(name):
            name, number = f"{base}-{number}", number + 1
        used.add(key)
        names.append(name)
    return names


@contextmanager
def staged_export(out: Path) -> Iterator[Path]:
    """Yields the path to write to. After the block it is renamed to `out`; if the block fails, it is removed."""
    place = out.with_name(f".{out.name}.pggan-export")
    marker, staged = place / "pggan-export.lock", place / "out"
    if (place.is_symlink() or place.exists()) and not (
        place.is_dir() and set(os.listdir(place)) <= {marker.name, "out"}
    ):
        raise UsageError(f"{place} is in the way; rename or remove it")
    # only this user can enter it; what is made inside has the permissions that the umask gives
    place.mkdir(mode=0o700, exist_ok=True)
    with exclusive_lock(marker) as acquired:
        if not acquired:
            raise DataError(f"{out} is being written by another process; wait for it, or give another OUT")
        try:
            _remove(staged)  # of an export that was killed
            yield staged
            os.rename(staged, out)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    sync_directory(out.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def total_size(path: Path) -> int:
    """Returns the bytes of a file, or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
