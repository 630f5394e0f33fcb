"""Detects that a store's file was replaced, truncated or written to while a run reads it."""

from __future__ import annotations

import os
from pathlib import Path

from pggan.data.store.lmdb_environment import FILE
from pggan.utils.errors import DataError

FileIdentity = tuple[int, int, int, int]


def file_identity(path: Path) -> FileIdentity:
    """Returns device, inode, size and modification time of the store's file. Raises `DataError` if it is gone."""
    try:
        status = os.stat(path / FILE)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} is no longer there; put it back, then go on with --resume") from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class StoreWatch:
    """Remembers the store's file, to compare it before and after every reading.

    LMDB maps the file into memory. A file that takes its name (another inode) leaves the map intact, but is another
    store; writing to or truncating the file changes the mapped pages. A gap of well below a millisecond per image
    remains between the check and the copying of a record: a file truncated just then ends the process by SIGBUS, which
    Python cannot catch. A shell reports "Bus error", nothing hangs, and the run resumes from its last checkpoint.
    Worker processes could turn that into a message, but would cost their start, memory and a copy of every image.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.identity = path, file_identity(path)

    def check(self) -> None:
        """Raises `DataError` if the file has changed."""
        now = file_identity(self.path)
        if now == self.identity:
            return
        if now[:2] != self.identity[:2]:
            raise DataError(f"{self.path} has been replaced by another store; start again")
        if now[2] < self.identity[2]:
            raise DataError(
                f"{self.path / FILE} has been cut short ({now[2]} of {self.identity[2]} bytes); copy or make it again"
            )
        raise DataError(f"{self.path / FILE} has been written to while it was read; check it with pggan verify-data")
