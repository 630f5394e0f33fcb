"""Zip and tar archives of pictures, read in place: nothing is unpacked to the disk."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator

from pggan.data.imaging import MAX_FILE_BYTES, is_picture_name, natural_key, read_picture, read_size
from pggan.data.sources.base import BadPicture, Picture, Reader, Ref, Source
from pggan.errors import DataError


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise BadPicture(f"a file of {size >> 20} MiB; the limit is {MAX_FILE_BYTES >> 20}")


class _BytesReader(Reader):
    """Reads references through their bytes."""

    def bytes(self, ref: Ref) -> bytes:
        raise NotImplementedError

    def read(self, ref: Ref, channels: int) -> Picture:
        image, notes = read_picture(self.bytes(ref), channels)
        return Picture(image, (), notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        return read_size(self.bytes(ref))


class ZipReader(_BytesReader):
    def __init__(self, path: str) -> None:
        self.path = path
        self._file: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict[str, str | None]:
        return {"path": self.path, "_file": None}

    def bytes(self, ref: Ref) -> bytes:
        if self._file is None:
            self._file = zipfile.ZipFile(self.path)
        try:
            _check_size(self._file.getinfo(ref.payload).file_size)
            return self._file.read(ref.payload)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise BadPicture(str(error)) from None  # damaged, encrypted, or an unknown compression


class ZipSource(Source):
    def __init__(self, spec: str) -> None:
        self.path = spec
        try:
            with zipfile.ZipFile(spec) as file:
                names = [info.filename for info in file.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{spec} is not a whole zip file ({error}); copy or make it again") from None
        self._names = sorted({name for name in names if is_picture_name(name)}, key=natural_key)
        if not self._names:
            raise DataError(f"{spec} holds no pictures (PNG, JPEG, WebP, BMP or TIFF, by their endings)")

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isfile(spec) and (zipfile.is_zipfile(spec) or spec.lower().endswith(".zip"))

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def reader(self, resolution: int, seed: int) -> Reader:
        return ZipReader(os.path.abspath(self.path))


class TarReader(_BytesReader):
    """A reference carries its place in the file, or, from a compressed tar, its bytes."""

    def __init__(self, path: str) -> None:
        self.path = path

    def bytes(self, ref: Ref) -> bytes:
        if isinstance(ref.payload, bytes):
            return ref.payload
        offset, size = ref.payload
        _check_size(size)
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(size)


class TarSource(Source):
    """Members in natural order; those of a compressed tar in the order of the file, which is read once through."""

    def __init__(self, spec: str) -> None:
        self.path = spec
        members: list[tuple[str, int, int]] = []
        try:
            with open(spec, "rb") as file:
                self._compressed = file.read(6)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7")
            with tarfile.open(spec) as archive:
                for member in archive:
                    if member.isfile() and is_picture_name(member.name):
                        members.append((member.name, member.offset_data, member.size))
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise DataError(f"{spec} is not a whole tar file ({error}); copy or make it again") from None
        self._members = members if self._compressed else sorted(members, key=lambda m: natural_key(m[0]))
        if not self._members:
            raise DataError(f"{spec} holds no pictures (PNG, JPEG, WebP, BMP or TIFF, by their endings)")

    @staticmethod
    def sniff(spec: str) -> bool:
        if not os.path.isfile(spec):
            return False
        named = any(f".{part}" in (".tar", ".tgz", ".txz", ".tbz2") for part in spec.lower().split(".")[-2:])
        try:
            return tarfile.is_tarfile(spec) or named
        except (OSError, EOFError, zlib.error):
            return named

    def __len__(self) -> int:
        return len(self._members)

    def refs(self) -> Iterable[Ref]:
        return self._streamed() if self._compressed else (Ref(n, (offset, size)) for n, offset, size in self._members)

    def _streamed(self) -> Iterator[Ref]:
        with tarfile.open(self.path) as archive:
            for member in archive:
                if member.isfile() and is_picture_name(member.name):
                    too_large = member.size > MAX_FILE_BYTES
                    file = None if too_large else archive.extractfile(member)
                    yield Ref(member.name, (0, member.size) if file is None else file.read())

    def reader(self, resolution: int, seed: int) -> Reader:
        return TarReader(os.path.abspath(self.path))
