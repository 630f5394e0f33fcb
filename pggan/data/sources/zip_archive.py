"""Zip archives of images, read in place without unpacking."""

from __future__ import annotations

import os
import zipfile
from functools import lru_cache
from typing import BinaryIO, cast

from pggan.data.sources.base import Reader, Ref, has_magic
from pggan.data.sources.file_base import FileReader, NamedFilesSource, check_file_size, explain_damage
from pggan.data.sources.image_io import is_image_name
from pggan.utils.limits import MAX_LIST_BYTES


def zip_names(path: str) -> tuple[str, ...]:
    """Returns the names of a zip's files; none if it is no zip or a damaged one."""
    try:
        return _file_names(path, os.stat(path).st_mtime_ns) if is_zip(path) else ()
    except Exception:  # noqa: BLE001 (damaged archives raise a dozen kinds)
        return ()


def is_zip(path: str) -> bool:
    """Whether a file is a zip by its beginning and its end: the end alone may be that of a zip within a tar."""
    return has_magic(path, b"PK") and zipfile.is_zipfile(path)


@lru_cache(maxsize=1)
def _file_names(path: str, mtime_ns: int) -> tuple[str, ...]:
    """Returns the names of a zip's files; cached, because every source that reads zips asks for them."""
    with zipfile.ZipFile(path) as file:
        return tuple(name for name in file.namelist() if name and not name.endswith("/"))


class ZipReader(FileReader):
    """A reference's payload: the member's name."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, ref: Ref) -> BinaryIO:
        self._opened = self._opened or zipfile.ZipFile(self.path)
        check_file_size(self._opened.getinfo(ref.payload).file_size)
        return cast(BinaryIO, self._opened.open(ref.payload))


class ZipSource(NamedFilesSource):
    """Images in natural order of their names. `within`: only those whose names begin with it."""

    def __init__(self, spec: str, within: str = "") -> None:
        with explain_damage(f"{spec} is not a whole zip file"):
            names = _file_names(spec, os.stat(spec).st_mtime_ns)
        super().__init__(spec, {name for name in names if name.startswith(within) and is_image_name(name)})

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isfile(spec) and (spec.lower().endswith(".zip") or is_zip(spec))

    def read_companion(self, name: str) -> bytes | None:
        """Returns a file at the top of the archive, None if there is none."""
        problem = f"{name} in {self.path} cannot be read"
        with explain_damage(problem, "make the zip again"), zipfile.ZipFile(self.path) as file:
            if name not in file.NameToInfo:
                return None
            if file.getinfo(name).file_size > MAX_LIST_BYTES:
                raise ValueError("too large a list of labels")
            return file.read(name)

    def reader(self, resolution: int, seed: int) -> Reader:
        return ZipReader(os.path.abspath(self.path))
