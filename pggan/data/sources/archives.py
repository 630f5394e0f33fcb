"""Zip and tar archives of pictures, read in place: nothing is unpacked to the disk."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any, BinaryIO, cast

from pggan.data.imaging import MAX_FILE_BYTES, is_picture_name, natural_key
from pggan.data.sources.base import BadPicture, Reader, Ref, Source
from pggan.data.sources.files import NO_PICTURES, FileReader
from pggan.errors import DataError

_COMPRESSIONS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# A compressed tar has no other order than its own, so that a sample is its beginning.
_SAMPLE_COMPRESSED = 256


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise BadPicture(f"a file of {size >> 20} MiB; the limit is {MAX_FILE_BYTES >> 20}")


class ZipReader(FileReader):
    def __init__(self, path: str) -> None:
        self.path = path
        self._file: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict[str, str | None]:
        return {"path": self.path, "_file": None}

    def open(self, ref: Ref) -> BinaryIO:
        if self._file is None:
            self._file = zipfile.ZipFile(self.path)
        _check_size(self._file.getinfo(ref.payload).file_size)
        return cast(BinaryIO, self._file.open(ref.payload))


class ZipSource(Source):
    def __init__(self, spec: str) -> None:
        self.path = spec
        try:
            with zipfile.ZipFile(spec) as file:
                names = [info.filename for info in file.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            raise DataError(f"{spec} is not a whole zip file ({error}); copy or make it again") from None
        self._names = sorted({name for name in names if is_picture_name(name)}, key=natural_key)
        if not self._names:
            raise DataError(f"{spec} {NO_PICTURES}")

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isfile(spec) and (spec.lower().endswith(".zip") or zipfile.is_zipfile(spec))

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def reader(self, resolution: int, seed: int) -> Reader:
        return ZipReader(os.path.abspath(self.path))


class TarReader(FileReader):
    """A reference carries its place in the file, or, from a compressed tar, its bytes (None: too many of them)."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, ref: Ref) -> BinaryIO:
        if ref.payload is None:
            raise BadPicture(f"a file above the limit of {MAX_FILE_BYTES >> 20} MiB")
        if isinstance(ref.payload, bytes):
            return io.BytesIO(ref.payload)
        offset, size = ref.payload
        _check_size(size)
        return cast(BinaryIO, io.BufferedReader(_Section(open(self.path, "rb"), offset, size)))


class _Section(io.RawIOBase):
    """A stretch of a file as a file; closes the whole."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._offset + self._at)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class TarSource(Source):
    """Members in natural order; those of a compressed tar in the order of the file, which is read once through."""

    def __init__(self, spec: str) -> None:
        self.path = spec
        members: list[tuple[str, int, int]] = []
        try:
            with open(spec, "rb") as file:
                self._compressed = file.read(6).startswith(_COMPRESSIONS)
            with tarfile.open(spec) as archive:
                for member in archive:
                    if _is_picture(member):
                        members.append((member.name, member.offset_data, member.size))
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{spec} is not a whole tar file ({error}); copy or make it again") from None
        self._members = members if self._compressed else sorted(members, key=lambda m: natural_key(m[0]))
        if not self._members:
            raise DataError(f"{spec} {NO_PICTURES}")

    @staticmethod
    def sniff(spec: str) -> bool:
        if not os.path.isfile(spec):
            return False
        try:
            return spec.lower().endswith(_TAR_ENDINGS) or tarfile.is_tarfile(spec)
        except (OSError, EOFError, zlib.error, lzma.LZMAError):
            return False

    def __len__(self) -> int:
        return len(self._members)

    def refs(self) -> Iterable[Ref]:
        return self._streamed() if self._compressed else (Ref(n, (offset, size)) for n, offset, size in self._members)

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        if self._compressed:
            return islice(self.refs(), min(count, among, _SAMPLE_COMPRESSED))
        return super().sample(count, among)

    def _streamed(self) -> Iterator[Ref]:
        with tarfile.open(self.path) as archive:
            for member in archive:
                if _is_picture(member):
                    file = None if member.size > MAX_FILE_BYTES else archive.extractfile(member)
                    yield Ref(member.name, None if file is None else file.read())

    def reader(self, resolution: int, seed: int) -> Reader:
        return TarReader(os.path.abspath(self.path))


def _is_picture(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse() and is_picture_name(member.name)
