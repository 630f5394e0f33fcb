"""A folder of pictures, nested or not, in natural order of their paths."""

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
    def __init__(self, root: str) -> None:
        self.root = root

    def open(self, ref: Ref) -> BinaryIO:
        return open(os.path.join(self.root, ref.payload), "rb")


class FolderSource(Source):
    """Hidden files and other endings are passed over; links are followed, each folder taken once, so that loops end.

    A folder that cannot be listed counts as one bad picture: it is named, not passed over in silence.
    """

    def __init__(self, spec: str) -> None:
        self.root = spec
        self._names = sorted(self._walk(), key=lambda name: (natural_key(name), name))
        if not self._names:
            raise DataError(f"{spec} {NO_IMAGES}")

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isdir(spec)

    def _walk(self) -> list[str]:
        found: list[str] = []
        seen: set[str] = set()

        def unlisted(error: OSError) -> None:
            if os.path.realpath(error.filename) == os.path.realpath(self.root):
                raise error
            found.append(os.path.relpath(error.filename, self.root))

        for folder, inner, files in os.walk(self.root, followlinks=True, onerror=unlisted):
            real = os.path.realpath(folder)
            if real in seen:
                inner.clear()
                continue
            seen.add(real)
            # real folders before links to them, in a fixed order: which name a folder goes by is no accident
            inner[:] = sorted((name for name in inner if not name.startswith(".")), key=natural_key)
            inner.sort(key=lambda name: os.path.islink(os.path.join(folder, name)))
            paths = (os.path.relpath(os.path.join(folder, name), self.root) for name in files)
            found += [path for path in paths if is_image_name(path)]
        return found

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def read_companion(self, name: str) -> bytes | None:
        return self.read_companion_in(self.root, name)

    @staticmethod
    def read_companion_in(root: str, name: str) -> bytes | None:
        path = os.path.join(root, name)
        if not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def reader(self, resolution: int, seed: int) -> Reader:
        return FolderReader(os.path.abspath(self.root))
