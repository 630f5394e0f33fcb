"""What a search for faces has found, in a file beside the unfinished store, so that an interrupted search goes on.

A line of JSON for each image: its name, a stamp of its file and of the detector, and what was found. The file is not
trusted: a line that cannot be used, as the last one after a power cut or one of another version of pggan, is passed
over, and its image looked at again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pggan.data.photos.duplicates import CELLS
from pggan.data.photos.face_detection import Face, detector_file
from pggan.data.store.staging import own_name
from pggan.utils.errors import UsageError
from pggan.utils.version import __version__

# Longest line that is read, bytes: a hundred faces take 30 kB.
_MAX_LINE = 1 << 20
_OPEN = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class SearchResult(NamedTuple):
    """What was found in an image."""

    name: str
    faces: list[Face]
    cells: bytes  # see `grey_cells`; none of an image that could not be read
    bad: str = ""  # why it could not be read


class SearchMemory:
    """Remembers the search results of a preparation.

    Args:
        dest: The store that is prepared; the file lies beside it and appears with the first result.
        folder: The SOURCE argument: images that are files in it are recognised by their sizes and times.
        source: Digest of SOURCE, by which all other images are recognised.
    """

    def __init__(self, dest: Path, folder: str, source: str) -> None:
        detector = detector_file()
        self._common = f"{__version__} {detector.name} {detector.stat().st_size}"
        self.path, self._folder, self._source = memory_path(dest), folder, source
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise UsageError(f"{self.path} is in the way: it holds no search of pggan's; rename or remove it")
        self._results: dict[str, tuple[str, SearchResult]] = {}
        with suppress(FileNotFoundError), open(self.path, "rb") as file:
            while line := file.readline(_MAX_LINE):
                with suppress(ValueError, TypeError, RecursionError, OverflowError):
                    stamp, result = _parse(json.loads(line))
                    self._results[result.name] = stamp, result
        self._known: set[str] = set()  # names of results that `get` returned: they are in the file
        self._file: int | None = None
        self._writable = True

    def stamp(self, name: str) -> str:
        """Returns what changes with the file of an image, or with the file or folder that holds it."""
        own = ""
        with suppress(OSError, ValueError):
            status = os.stat(os.path.join(self._folder, name))
            own = f"{status.st_size} {status.st_mtime_ns}"
        return blake2b(f"{self._common} {own or self._source}".encode(), digest_size=16).hexdigest()

    def get(self, name: str) -> SearchResult | None:
        """Returns what was found in an image, None if it is unknown or has changed."""
        stamp, result = self._results.pop(name, ("", None))
        if result is None or stamp != self.stamp(name):
            return None
        self._known.add(name)
        return result

    def add(self, result: SearchResult) -> None:
        """Remembers a result at once, unless the image was bad. A full disk ends the remembering, not the search."""
        faces = [
            [*map(float, face.landmarks.ravel()), *map(float, face.box), face.score, face.sharpness]
            for face in result.faces
        ]
        values = [result.name, self.stamp(result.name), result.cells.hex(), result.bad, faces]
        if result.bad or not self._writable or result.name in self._known:
            return
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, _OPEN, 0o600)
                os.write(self._file, b"\n")  # ends a line that was cut off
            os.write(self._file, json.dumps(values).encode() + b"\n")
        except OSError:
            self._writable = False

    def close(self) -> None:
        """Closes the file, which stays."""
        if self._file is not None:
            os.close(self._file)
        self._file = None


def memory_path(dest: Path) -> Path:
    """Returns the path of the file beside the store `dest`."""
    return own_name(dest, "faces")


@contextmanager
def forget_when_done(dest: Path) -> Iterator[None]:
    """Removes the file where the block makes the store; any failure leaves it, for the next try with other options."""
    path = memory_path(dest)
    yield
    if path.is_file():
        path.unlink()


def _parse(values: Any) -> tuple[str, SearchResult]:
    """Returns the stamp and the result of a line. Raises `ValueError` or `TypeError` for others."""
    name, stamp, digits, bad, rows = values
    cells = bytes.fromhex(digits)
    if not all(isinstance(text, str) for text in (name, stamp, bad)) or len(cells) != CELLS:
        raise ValueError("no result")
    faces = []
    for row in rows:
        *numbers, score, sharpness = map(float, row)
        if len(numbers) != 14 or not all(map(math.isfinite, (*numbers, score, sharpness))):
            raise ValueError("no face")
        left, top, width, height = numbers[10:]
        faces.append(Face(np.array(numbers[:10]).reshape(5, 2), (left, top, width, height), score, sharpness))
    return stamp, SearchResult(name, faces, cells, bad)
