"""A folder of images, nested or not, in natural order of their paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import BinaryIO

from pggan.data.sources.base import Reader, Ref, Source
from pggan.data.sources.file_base import NO_IMAGES, FileReader
from pggan.data.sources.image_io import is_image_name
from pggan.utils.errors import DataError
from pggan.utils.formatting import natural_key


class FolderReader(FileReader):
    """A reference's payload: the file's path relative to the root."""

    def __init__(self, root: str) -> None:
        self.root = root

    def open(self, ref: Ref) -> BinaryIO:
        return open(os.path.join(self.root, ref.payload), "rb")


class NamedFilesSource(Source):
    """Files of a folder, by their paths relative to it (`names`), in natural order."""

    def __init__(self, root: str, names: Iterable[str]) -> None:
        self.root = root
        self._names = sorted(names, key=lambda name: (natural_key(name), name))

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def read_companion(self, name: str) -> bytes | None:
        return read_if_present(os.path.join(self.root, name))


class FolderSource(NamedFilesSource):
    """Image files of a folder and its subfolders.

    Ignores hidden files and other endings. Follows links, but visits each folder once, so that loops end. A subfolder
    that cannot be listed counts as one bad image, so that the report names it.
    """

    def __init__(self, spec: str) -> None:
        super().__init__(spec, _image_names(spec))
        if not self._names:
            raise DataError(f"{spec} {NO_IMAGES}")

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isdir(spec)

    def reader(self, resolution: int, seed: int) -> Reader:
        return FolderReader(os.path.abspath(self.root))


def _image_names(root: str) -> list[str]:
    names: list[str] = []
    visited: set[str] = set()

    def add_unlisted(error: OSError) -> None:
        if os.path.realpath(error.filename) == os.path.realpath(root):
            raise error
        names.append(os.path.relpath(error.filename, root))

    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=add_unlisted):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        # real folders before links to them, in a fixed order: it decides under which name a folder is visited
        subfolders[:] = sorted((name for name in subfolders if not name.startswith(".")), key=natural_key)
        subfolders.sort(key=lambda name: os.path.islink(os.path.join(folder, name)))
        paths = (os.path.relpath(os.path.join(folder, name), root) for name in files)
        names += [path for path in paths if is_image_name(path)]
    return names


def read_if_present(path: str) -> bytes | None:
    """Returns a file's content, None if it does not exist."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        return file.read()
