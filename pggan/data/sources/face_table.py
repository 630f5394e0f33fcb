"""Tables of the faces in many images: the report of `--align auto`, which `--align FILE` takes again.

A CSV with a row for every face, and one for every image without any: file, number of the face, whether it is used or
why not, the detector's score, size, sharpness, then x and y of eyes, nose and mouth corners in pixels.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import SAME_SCENE, BadImage, UnwantedImage
from pggan.data.sources.list_names import match_names
from pggan.data.sources.list_text import read_list
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import DataError
from pggan.utils.formatting import printable

USED = "yes"
# Why a face is not used; of a duplicate the name of the image before follows.
NO_FACE, SMALL, BLURRED, DOUBTFUL = "no face", "face too small", "face blurred", "face doubtful"
ATYPICAL = "face not typical"
NOT_LARGEST, DUPLICATE = "not the largest face", "duplicate: the same as"
REASONS = (NO_FACE, SMALL, BLURRED, DOUBTFUL, ATYPICAL, NOT_LARGEST, DUPLICATE, SAME_SCENE)
# Of an image that could not be read; the reason follows.
UNREADABLE = "unreadable"
# How faces are counted that a person marked so: by any other word than USED, or none.
LEFT_OUT = "left out in the table"
_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
COORDINATES = tuple(f"{point}_{axis}" for point in _POINTS for axis in "xy")
MEASURES = ("score", "size", "sharpness")
COLUMNS = ("file", "face", "used", *MEASURES, *COORDINATES)
# A further column where photographs that come again are used (--duplicates keep): the number of their group.
GROUP = "group"
# Digits after the point: landmarks are used as the table has them.
DIGITS = 2
# What csv refuses beyond: longer than any path.
_MAX_FIELD = 65536


class FaceRow(NamedTuple):
    """A face of an image, or an image without one."""

    file: str
    face: int  # from 1, the largest first; 0: the image has none
    used: str  # USED, or the reason why not
    score: float = 0.0
    size: float = 0.0  # of the face, pixels
    sharpness: float = 0.0
    landmarks: tuple[float, ...] = ()  # x and y of the eyes, the nose and the mouth corners
    group: int = 0  # of photographs that show the same as this one; 0: none

    @property
    def points(self) -> NDArray[np.float64]:
        """Eyes and mouth corners (4, 2)."""
        return np.array(self.landmarks, np.float64).reshape(5, 2)[[0, 1, 3, 4]]


class FaceTable:
    """The faces of many images, by their names.

    Args:
        rows: The faces.
        are_matched: Whether the names are those of a source, not perhaps without their folders.
    """

    def __init__(self, rows: Iterable[FaceRow], are_matched: bool = False) -> None:
        self.rows, self._are_matched = list(rows), are_matched
        self._by_name: dict[str, list[FaceRow]] = {}
        for row in self.rows:
            self._by_name.setdefault(row.file, []).append(row)

    @property
    def more(self) -> int:
        """Faces that are used beside the first one of their image."""
        return sum(max(0, sum(row.used == USED for row in rows) - 1) for rows in self._by_name.values())

    def matched(self, names: Iterable[str], root: str) -> FaceTable:
        """Returns the faces of a source's images (`names`, in `root`) by their names there, and no others."""
        files = match_names(self._by_name, names, root)
        return FaceTable((r._replace(file=name) for name, file in files.items() for r in self._by_name[file]), True)

    def points(self, name: str) -> list[NDArray[np.float64]]:
        """Returns eyes and mouth corners (4, 2) of each face that is used."""
        return [row.points for row in self._of(name) if row.used == USED]

    def group(self, name: str) -> int:
        """Returns the number of the photographs that show the same as this one, 0 if there are none."""
        return next((row.group for row in self._of(name)), 0)

    def why_none(self, name: str) -> BadImage:
        """Returns why no face of an image is used."""
        rows = self._of(name)
        if not rows:
            return BadImage("no landmarks of it in the file")
        reason = rows[0].used
        if reason.startswith(UNREADABLE):
            return BadImage(reason.removeprefix(UNREADABLE).removeprefix(": "))
        return UnwantedImage(reason if reason.startswith(REASONS) else f"{LEFT_OUT}: {printable(reason)}")

    def without(self, faces: Iterable[tuple[str, int]], reason: str) -> FaceTable:
        """Returns the table with some faces not used: names of images, and which of their used faces, from 0."""
        left_out = set(faces)
        gone = {
            (row.file, row.face)
            for name in {name for name, _ in left_out}
            for number, row in enumerate(row for row in self._of(name) if row.used == USED)
            if (name, number) in left_out
        }
        rows = (row._replace(used=reason) if (row.file, row.face) in gone else row for row in self.rows)
        return FaceTable(rows, self._are_matched)

    def _of(self, name: str) -> Sequence[FaceRow]:
        short = name if self._are_matched else name.replace("\\", "/").rpartition("/")[2]
        return self._by_name.get(name) or self._by_name.get(short) or ()

    def write(self, path: str | Path) -> None:
        """Writes the table, atomically."""

        def write(place: Path) -> None:
            with open(place, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                grouped = any(row.group for row in self.rows)
                table.writerow([*COLUMNS, *([GROUP] if grouped else [])])
                for row in self.rows:
                    numbers = [f"{value:.4g}" for value in (row.score, row.size, row.sharpness)]
                    numbers += [f"{value:.{DIGITS}f}" for value in row.landmarks]
                    missing = [""] * (len(MEASURES) + len(COORDINATES))
                    group = [row.group or ""] if grouped else []
                    table.writerow([row.file, row.face, row.used, *(numbers if row.face else missing), *group])

        replace_atomically(Path(path), write)

    @classmethod
    def read(cls, path: str, data: bytes | None = None) -> FaceTable:
        """Reads a table that `write` made, and perhaps a person or a spreadsheet changed.

        `data`: the content, where it is read already. Raises `DataError` with the line that cannot be used.
        """
        rows = []
        file = io.BytesIO(read_list(path) if data is None else data)
        try:
            table = csv.reader(io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", ""))
            header = next(table, [])
            for fields in table:
                if fields:
                    rows.append(_parse(path, table.line_num, header, fields))
        except csv.Error as error:
            raise DataError(f"{path} is no table of faces ({error}); let --align auto --report make it again") from None
        return cls(rows)


def is_face_table(data: bytes) -> bool:
    """Whether the content of a file begins as a table of faces does."""
    first = data[:_MAX_FIELD].partition(b"\n")[0].decode("utf-8-sig", "replace").strip().replace('"', "")
    return first.split(",")[:3] == list(COLUMNS[:3])


def _parse(path: str, line: int, header: Sequence[str], fields: Sequence[str]) -> FaceRow:
    """Makes a row of a line's fields. Raises `DataError`."""

    def fail(reason: str) -> DataError:
        return DataError(f"{path}, line {line}: {reason}; mend it, or let --align auto --report make the file again")

    if missing := [name for name in COLUMNS if name not in header]:
        raise fail(f"there is no column {missing[0]}")
    if len(fields) != len(header):
        raise fail(f"{len(fields)} fields in place of {len(header)}")
    values = dict(zip(header, fields))
    numbers = []
    for name in ("face", *MEASURES, *COORDINATES, GROUP):
        try:
            numbers.append(float(values.get(name) or 0))
        except ValueError:
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            raise fail(f"{name} is {values[name][:40]!r}, no number")
    face, used = int(numbers[0]), values["used"].strip()
    if used == USED and not (face >= 1 and all(values[name] for name in COORDINATES)):
        raise fail("a face that is used needs its number and all landmarks")
    score, size, sharpness, *landmarks, group = numbers[1:]
    known = tuple(landmarks) if face >= 1 else ()
    return FaceRow(values["file"], face, used or "no", score, size, sharpness, known, max(0, int(group)))
