"""Finds the faces of all images of a source, and chooses those that become pictures of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np

from pggan.data.photos.duplicates import DuplicateFinder, DuplicateGroups, grey_cells
from pggan.data.photos.face_detection import FaceDetector
from pggan.data.photos.search_memory import SearchMemory, SearchResult
from pggan.data.sources.base import BadImage, Reader, Ref, Source, bytes_carried
from pggan.data.sources.distinct_names import check_distinct, distinct
from pggan.data.sources.face_table import (
    BLURRED,
    DIGITS,
    DOUBTFUL,
    DUPLICATE,
    NO_FACE,
    NOT_LARGEST,
    SMALL,
    UNREADABLE,
    USED,
    FaceRow,
    FaceTable,
)
from pggan.utils.errors import UsageError
from pggan.utils.process_pool import ordered_map

WHICH, DUPLICATES = ("largest", "all"), ("drop", "keep")
# Score from which a face counts as one: upright portraits get 0.94, drawings and statues less.
SURE_ENOUGH = 0.7
# Most faces of one image that are looked at: a crowd has no face that a store can use.
MOST_FACES = 100


@dataclass(frozen=True)
class FaceChoice:
    """Which faces are used. Raises `UsageError` for a value out of range."""

    which: str = "largest"  # of an image: one of WHICH
    min_face: float = 40.0  # smaller ones are left out, pixels
    sharpest: float = 1.0  # share of the faces that is kept, the sharpest ones
    duplicates: str = "drop"  # what becomes of a photograph that comes again: one of DUPLICATES

    def __post_init__(self) -> None:
        if self.which not in WHICH:
            raise UsageError(f"--faces {self.which} is none of {', '.join(WHICH)}")
        if self.duplicates not in DUPLICATES:
            raise UsageError(f"--duplicates {self.duplicates} is none of {', '.join(DUPLICATES)}")
        if not 0 <= self.min_face <= 100_000:
            raise UsageError(f"--min-face {self.min_face:g} is not from 0 to 100000 pixels")
        if not 0 < self.sharpest <= 1:
            raise UsageError(f"--sharpest {self.sharpest:g} is not above 0, up to 1")


@dataclass(frozen=True)
class _Search:
    """Finds the faces of one image; an instance lives in each worker process."""

    reader: Reader
    detector: FaceDetector

    def __call__(self, task: tuple[Ref, SearchResult | None]) -> SearchResult:
        """Searches the image of a reference, or returns what is known of it already."""
        ref, known = task
        if known is not None:
            return known
        try:
            image = self.reader.read(ref, 3).image
            return SearchResult(ref.name, self.detector.faces(image)[:MOST_FACES], grey_cells(image))
        except BadImage as bad:
            return SearchResult(ref.name, [], b"", str(bad))
        except MemoryError:
            return SearchResult(ref.name, [], b"", "too large for the memory")


def find_faces(
    source: Source,
    choice: FaceChoice,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
    limit: int | None = None,
    memory: SearchMemory | None = None,
) -> FaceTable:
    """Finds the faces of a source's images, and says of each whether it is used or why not.

    Args:
        source: The images.
        choice: Which faces are used.
        workers: Processes, each with a detector of its own (about 60 MiB).
        on_progress: Gets the number of images looked at since its last call.
        limit: Number of images, the first ones; None: all.
        memory: Holds what an interrupted search has found, and receives what this one finds.

    Raises:
        UsageError: The extra is missing.
        DataError: The detector's file is damaged, or several images have one name.
    """
    check_distinct(source)
    rows: list[FaceRow] = []
    cells: dict[str, bytes] = {}  # grey ones, by image that has faces
    search = _Search(source.reader(0, 0), FaceDetector())
    refs = islice(distinct(source.refs()), limit)
    tasks = ((ref, None if memory is None else memory.get(ref.name)) for ref in refs)
    results = ordered_map(search, tasks, workers, weigh=lambda task: bytes_carried(task[0].payload))
    with closing(results):
        for found in results:
            rows += _rows(found, choice)
            if found.faces:
                cells[found.name] = found.cells
            if memory is not None:
                memory.add(found)
            if on_progress is not None:
                on_progress(1)
    rows = _sharpest(rows, choice.sharpest)
    mark = _drop_duplicates if choice.duplicates == "drop" else _group_duplicates
    return FaceTable(mark(rows, cells), are_matched=True)


def _rows(found: SearchResult, choice: FaceChoice) -> list[FaceRow]:
    """Returns the rows of an image, duplicate or not: of each face, or the reason why there is none."""
    if not found.faces:
        return [FaceRow(found.name, 0, f"{UNREADABLE}: {found.bad}" if found.bad else NO_FACE)]
    rows: list[FaceRow] = []
    for number, face in enumerate(found.faces, 1):
        used = DOUBTFUL if face.score < SURE_ENOUGH else SMALL if face.size < choice.min_face else USED
        if used == USED and choice.which == "largest" and any(row.used == USED for row in rows):
            used = NOT_LARGEST
        landmarks = tuple(np.round(face.landmarks, DIGITS).ravel().tolist())
        rows.append(FaceRow(found.name, number, used, face.score, face.size, face.sharpness, landmarks))
    return rows


def _sharpest(rows: list[FaceRow], share: float) -> list[FaceRow]:
    """Leaves the least sharp faces out, so that `share` of those that are used remains."""
    values = sorted((row.sharpness for row in rows if row.used == USED), reverse=True)
    if share == 1 or not values:
        return rows
    least = values[max(1, round(share * len(values))) - 1]
    return [row._replace(used=BLURRED) if row.used == USED and row.sharpness < least else row for row in rows]


def _drop_duplicates(rows: list[FaceRow], cells: Mapping[str, bytes]) -> list[FaceRow]:
    """Leaves out the faces of each image that shows an earlier one again, if a face of the earlier one is used."""
    finder = DuplicateFinder()
    earlier = {name: finder.find(name, cells[name]) for name in dict.fromkeys(r.file for r in rows if r.used == USED)}
    return [
        row._replace(used=f"{DUPLICATE} {earlier[row.file]}") if row.used == USED and earlier[row.file] else row
        for row in rows
    ]


def _group_duplicates(rows: list[FaceRow], cells: Mapping[str, bytes]) -> list[FaceRow]:
    """Numbers the groups of images that show the same."""
    groups = DuplicateGroups()
    for name, values in cells.items():
        groups.add(name, values)
    numbers = groups.numbers()
    return [row._replace(group=numbers.get(row.file, 0)) for row in rows]
