"""A folder of pictures, nested or not, in natural order of their paths."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pggan.data.imaging import is_picture_name, natural_key, read_picture, read_size
from pggan.data.sources.base import BadPicture, Picture, Reader, Ref, Source
from pggan.errors import DataError


class FolderReader(Reader):
    def __init__(self, root: str) -> None:
        self.root = root

    def read(self, ref: Ref, channels: int) -> Picture:
        image, notes = read_picture(self._bytes(ref), channels)
        return Picture(image, (), notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        return read_size(self._bytes(ref))

    def _bytes(self, ref: Ref) -> bytes:
        try:
            with open(os.path.join(self.root, ref.payload), "rb") as file:
                return file.read()
        except OSError as error:
            raise BadPicture(error.strerror or str(error)) from None


class FolderSource(Source):
    """Hidden files and other endings are passed over; links are followed once each, so that a loop ends."""

    def __init__(self, spec: str) -> None:
        self.root = spec
        self._names = sorted(self._walk(), key=natural_key)
        if not self._names:
            raise DataError(f"{spec} holds no pictures (PNG, JPEG, WebP, BMP or TIFF, by their endings)")

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isdir(spec)

    def _walk(self) -> list[str]:
        found: list[str] = []
        seen: set[str] = set()
        for folder, inner, files in os.walk(self.root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                inner.clear()
                continue
            seen.add(real)
            inner[:] = [name for name in inner if not name.startswith(".")]
            paths = (os.path.relpath(os.path.join(folder, name), self.root) for name in files)
            found += [path for path in paths if is_picture_name(path)]
        return found

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def reader(self, resolution: int, seed: int) -> Reader:
        return FolderReader(os.path.abspath(self.root))
