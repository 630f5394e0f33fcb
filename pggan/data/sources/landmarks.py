"""Face landmark files: CelebA's list, with or without its header, and its CSV form."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import BadImage, UnwantedImage
from pggan.data.sources.list_names import match_names
from pggan.data.sources.list_text import read_list
from pggan.utils.errors import DataError

_POINTS = ("lefteye", "righteye", "leftmouth", "rightmouth")
_REQUIRED = [point + axis for point in _POINTS for axis in "xy"]
# Columns of these in files without a header, by the count of numbers per row: with the nose, as in CelebA, or without.
_ORDERS = {10: [0, 1, 2, 3, 6, 7, 8, 9], 8: list(range(8))}
_ROW = "a row is a name and 10 numbers (eyes, nose, mouth corners: x y of each), or 8 without the nose"
_MAX_LINE = 4096  # bytes


def order_left_to_right(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orders the eyes and the mouth corners (4, 2) left to right as seen with the mouth below the eyes.

    So it does not matter which eye a file calls the left one.
    """
    pairs = points.reshape(2, 2, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        across, down = pairs[:, 1] - pairs[:, 0], pairs[1].mean(0) - pairs[0].mean(0)
        swapped = across[:, 0] * down[1] - across[:, 1] * down[0] < 0
    return np.where(swapped[:, None, None], pairs[:, ::-1], pairs).reshape(4, 2)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The eyes and mouth corners of many images."""

    _rows: dict[str, int]  # by image name
    _points: NDArray[np.float64]  # (N, 4, 2), pixels
    _left_out: Mapping[str, str] = field(default_factory=dict)  # reasons, by image name
    _are_matched: bool = False  # whether the names are those of a source
    more: ClassVar[int] = 0  # faces beyond one an image, which only a `FaceTable` has

    @classmethod
    def read(cls, path: str, data: bytes | None = None) -> Landmarks:
        """Reads CelebA's list_landmarks_celeba.txt, with or without its two header lines, or a CSV of the same.

        The header names the columns; without one they are in CelebA's order. `data`: the content, where it is read
        already. Raises `DataError` for an invalid file.
        """
        table = _TableParser(path)
        for table.line, fields in _lines(path, read_list(path) if data is None else data):
            table.add(fields)
        table.finish()
        return cls(table.rows, np.array(table.numbers, np.float64).reshape(-1, 4, 2))

    def __len__(self) -> int:
        return len(self._rows)

    def matched(self, names: Iterable[str], root: str) -> Landmarks:
        """Returns the landmarks of a source's images (`names`, in `root`) by their names there, and no others."""
        rows = {name: self._rows[row] for name, row in match_names(self._rows, names, root).items()}
        return replace(self, _rows=rows, _are_matched=True)

    def points(self, name: str) -> list[NDArray[np.float64]]:
        """Returns the eyes and mouth corners (4, 2) of each face that is known: of one, or none."""
        found = None if name in self._left_out else self.get(name)
        return [] if found is None else [found]

    def group(self, name: str) -> int:
        """Returns 0: a list of landmarks says nothing of photographs that show the same."""
        return 0

    def why_none(self, name: str) -> BadImage:
        """Returns why an image has no landmarks, or is left out."""
        if name in self._left_out:
            return UnwantedImage(self._left_out[name])
        return BadImage("no landmarks of it in the file")

    def without(self, faces: Iterable[tuple[str, int]], reason: str) -> Landmarks:
        """Returns the landmarks without those of some images: their names, each with 0."""
        return replace(self, _left_out={**self._left_out, **dict.fromkeys((name for name, _ in faces), reason)})

    def get(self, name: str) -> NDArray[np.float64] | None:
        """Returns left eye, right eye, left and right mouth corner as seen in the image, (4, 2); None if unknown.

        Looks up the full name, then, unless they are `matched`, the name without folders.
        """
        row = self._rows.get(name)
        if row is None and not self._are_matched:
            row = self._rows.get(name.replace("\\", "/").rpartition("/")[2])
        return None if row is None else order_left_to_right(self._points[row])


def _lines(path: str, data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yields number and fields of each line that is not blank. Raises `DataError` for a binary file at once."""
    file = io.BytesIO(data)
    for number, raw in enumerate(iter(lambda: file.readline(_MAX_LINE + 1), b""), 1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text or len(raw) > _MAX_LINE:
            raise DataError(f"{path}, line {number}: not text in UTF-8; name a file of landmarks")
        if text:
            yield number, _fields(text)


def _fields(text: str) -> list[str]:
    if "," not in text:
        return text.split()
    # not strict: a stray quotation mark becomes part of a name
    return [field.strip() for field in next(csv.reader([text.replace("\r", " ")], skipinitialspace=True))]


class _TableParser:
    """Parses a landmarks file line by line; `line` is the number of the current one, for messages."""

    def __init__(self, path: str) -> None:
        self.path, self.line = path, 1
        self.rows: dict[str, int] = {}  # by image name
        self.numbers = array("d")  # eight per row
        self._expected_rows: int | None = None  # from CelebA's first line
        self._columns: list[int] = []  # of the eight numbers
        self._count = 0  # numbers per row; 0 before the header or the first row

    def fail(self, message: str) -> DataError:
        return DataError(f"{self.path}, line {self.line}: {message}")

    def add(self, fields: list[str]) -> None:
        """Parses a line. Raises `DataError`."""
        if not self._count and self._expected_rows is None and len(fields) == 1 and fields[0].isdecimal():
            self._expected_rows = int(fields[0])
        elif not self._count and self._parse_header(fields):
            pass
        else:
            self._parse_row(fields[0], fields[1:])

    def _parse_header(self, fields: list[str]) -> bool:
        """Returns whether the line is a header."""
        names = ["".join(c for c in field.lower() if c.isalnum()) for field in fields]
        if not set(names) & set(_REQUIRED):
            return False
        # CelebA's own header names no column for the image name, which nevertheless comes first in each row
        names = names if names[0] in _REQUIRED or names[0].startswith("nose") else names[1:]
        missing = [name for name in _REQUIRED if names.count(name) != 1]
        if missing:
            raise self.fail(f"no column, or several, of the name {missing[0][:-1]}_{missing[0][-1]}; mend the header")
        self._count, self._columns = len(names), [names.index(name) for name in _REQUIRED]
        return True

    def _parse_row(self, name: str, fields: list[str]) -> None:
        if not self._count:
            self._count, self._columns = len(fields), _ORDERS.get(len(fields), [])
        if len(fields) != self._count or not self._columns:
            expected = f"{self._count} as before" if self._columns else "10 or 8"
            raise self.fail(f"{len(fields)} numbers in place of {expected}; {_ROW}")
        for text in (fields[column] for column in self._columns):
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise self.fail(f"{text[:40]!r} is not a number; {_ROW}")
            self.numbers.append(number)
        if not name or name in self.rows:
            raise self.fail(f"{name[:80]!r} comes twice; keep one" if name else "no name; put the picture's file name")
        self.rows[name] = len(self.rows)

    def finish(self) -> None:
        """Raises `DataError` if there are no rows, or not as many as the first line says."""
        if not self.rows:
            raise self.fail(f"no landmarks in this file; {_ROW}")
        if self._expected_rows not in (None, len(self.rows)):
            self.line = 1
            raise self.fail(
                f"says {self._expected_rows} rows, but there are {len(self.rows)}; copy the file again or mend it"
            )
