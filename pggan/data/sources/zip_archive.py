"""Zip archives of images, read in place without unpacking."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from functools import lru_cache
from typing import BinaryIO, cast

from pggan.data.sources.base import Reader, Ref, Source
from pggan.data.sources.file_base import NO_IMAGES, READ_ERRORS, FileReader, check_file_size
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.label_files import MAX_LIST_BYTES
from pggan.utils.errors import DataError
from pggan.utils.formatting import natural_key, one_line


def zip_names(path: str) -> tuple[str, ...]:
    """Returns the names of a zip's files; none if it is no zip or a damaged one."""
    try:
        return _file_names(path, os.stat(path).st_mtime_ns) if is_zip(path) else ()
    except READ_ERRORS:
        return ()


def is_zip(path: str) -> bool:
    """Whether a file is a zip by its beginning and its end: the end alone may be that of a zip within a tar."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(2) == b"PK" and zipfile.is_zipfile(path)


@lru_cache(maxsize=1)
def _file_names(path: str, mtime_ns: int) -> tuple[str, ...]:
    """Returns the names of a zip's files; cached, because every source that reads zips asks for them."""
    with zipfile.ZipFile(path) as file:
        return tuple(name for name in file.namelist() if name and not name.endswith("/"))


class ZipReader(FileReader):
    """A reference's payload: the member's name."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict[str, str | None]:
        return {"path": self.path, "_file": None}

    def open(self, ref: Ref) -> BinaryIO:
        if self._file is None:
            self._file = zipfile.ZipFile(self.path)
        check_file_size(self._file.getinfo(ref.payload).file_size)
        return cast(BinaryIO, self._file.open(ref.payload))


class ZipSource(Source):
    """Images in natural order of their names. `within`: only those whose names begin with it."""

    def __init__(self, spec: str, within: str = "") -> None:
        self.path = spec
        try:
            names = _file_names(spec, os.stat(spec).st_mtime_ns)
        except PermissionError:
            raise
        except READ_ERRORS as error:
            raise DataError(f"{spec} is not a whole zip file ({one_line(error)}); copy or make it again") from None
        images = {name for name in names if name.startswith(within) and is_image_name(name)}
        self._names = sorted(images, key=lambda name: (natural_key(name), name))
        if not self._names:
            raise DataError(f"{spec} {NO_IMAGES}")

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isfile(spec) and (spec.lower().endswith(".zip") or is_zip(spec))

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def read_companion(self, name: str) -> bytes | None:
        """Returns a file at the top of the archive, None if there is none."""
        try:
            with zipfile.ZipFile(self.path) as file:
                if name not in file.NameToInfo:
                    return None
                if file.getinfo(name).file_size > MAX_LIST_BYTES:
                    raise ValueError("too large a list of labels")
                return file.read(name)
        except READ_ERRORS as error:
            raise DataError(f"{name} in {self.path} cannot be read ({one_line(error)}); make the zip again") from None

    def reader(self, resolution: int, seed: int) -> Reader:
        return ZipReader(os.path.abspath(self.path))
