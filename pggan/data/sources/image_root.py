"""Pictures that a table names by their paths: only relative paths that stay below the folder of --images-root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from pggan.data.sources.base import BadImage
from pggan.data.sources.file_base import report_bad_image
from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_FILE_BYTES


@contextmanager
def _bad_paths() -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise BadImage("its path cannot be opened") from None


class ImageRoot:
    """Reads files below a folder. Raises `DataError` if it is none."""

    def __init__(self, folder: str) -> None:
        if not os.path.isdir(folder):
            raise DataError(f"--images-root {folder} is no folder; name the one that the paths begin in")
        self._folder = os.path.realpath(folder)

    def read(self, path: str) -> bytes:
        """Returns a file's content.

        Raises `BadImage` for an absolute path, one with "..", a link that leads out of the folder, anything but a file,
        and for a file that is missing or above MAX_FILE_BYTES.
        """
        parts = path.replace("\\", "/").split("/")
        if not path or "\0" in path or os.path.isabs(path) or ":" in parts[0] or ".." in parts:
            raise BadImage("its path is not a relative one below --images-root")
        with report_bad_image(self._folder), _bad_paths():
            place = os.path.realpath(os.path.join(self._folder, *parts))
            if os.path.commonpath([place, self._folder]) != self._folder:
                raise BadImage("its path leads out of --images-root")
            # not followed if it became a link meanwhile, not waited for if it is a pipe
            number = os.open(place, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with open(number, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise BadImage("its path leads to no file")
                data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise BadImage(f"a file above the limit of {MAX_FILE_BYTES >> 20} MiB")
        return data
