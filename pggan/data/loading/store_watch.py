"""Whether a store is still the file that was opened: looked at around every reading."""

from __future__ import annotations

import os
from pathlib import Path

from pggan.data.store.store import FILE
from pggan.utils.errors import DataError

Identity = tuple[int, int, int, int]


def identity(path: Path) -> Identity:
    """Device, inode, size and time of the store's file. Raises `DataError` where it is gone."""
    try:
        status = os.stat(path / FILE)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} is no longer there; put it back, then go on with --resume") from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class StoreWatch:
    """The store's file as it is now, to be compared with what it is later.

    LMDB maps the file. One that is put in its place (another inode) leaves the map whole, but is another store; one
    that is written or cut in place changes the pages under our hands. What remains: the moment, far below a millisecond
    a picture, between a look and the copying of a record. A file cut short just then ends the process by a SIGBUS,
    which no Python code can catch: a shell says "Bus error", nothing hangs, and the run goes on from its last
    checkpoint. Worker processes would turn it into a line, at the price of their start, their memory and a copy.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.identity = path, identity(path)

    def check(self) -> None:
        """Raises `DataError` where the file is not what it was."""
        now = identity(self.path)
        if now == self.identity:
            return
        if now[:2] != self.identity[:2]:
            raise DataError(f"{self.path} has been replaced by another store; start again")
        if now[2] < self.identity[2]:
            raise DataError(
                f"{self.path / FILE} has been cut short ({now[2]} of {self.identity[2]} bytes); copy or make it again"
            )
        raise DataError(f"{self.path / FILE} has been written to while it was read; check it with pggan verify-data")
