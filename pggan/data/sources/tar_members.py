"""Lists and reads the members of a stranger's tar: headers, expansion and order are bounded before they are used."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, BinaryIO, cast

from pggan.data.sources.base import has_magic
from pggan.data.sources.expanded_file import max_expansion
from pggan.data.sources.file_base import explain_damage
from pggan.utils.limits import MAX_EXPANSION, MAX_HEADER_BYTES

_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def is_compressed(path: str) -> bool:
    """Whether a file is compressed with gzip, bzip2 or xz."""
    return has_magic(path, *_OPENERS)


class _BoundedFile:
    """A file for `tarfile` that only goes forward. Raises `ValueError` beyond a limit."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file, self._end = file, end
        self.budget = MAX_HEADER_BYTES  # that may still be read
        self.last_block = b""

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        self.budget -= size
        if size < 0 or self.budget < 0:
            raise ValueError(f"a header above the limit of {MAX_HEADER_BYTES >> 20} MiB")
        self._check(self.tell() + size)
        data = self._file.read(size)
        if size == tarfile.BLOCKSIZE:
            self.last_block = data
        return data

    def seek(self, position: int) -> int:
        if position < self.tell():
            raise ValueError("members that overlap")
        self._check(position)
        return self._file.seek(position)

    def _check(self, position: int) -> None:
        if position > self._end:
            raise ValueError(f"it expands to more than {MAX_EXPANSION} times its size")


class TarMembers:
    """The members of an open tar, in the order of the file."""

    def __init__(self, file: _BoundedFile, archive: tarfile.TarFile) -> None:
        self._file, self._archive = file, archive

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Yields each member. Raises `ValueError` or `tarfile.TarError` for a damaged header."""
        while True:
            self._file.budget = MAX_HEADER_BYTES
            member = self._archive.next()
            self._archive.members.clear()  # type: ignore[attr-defined]  # a million would take a gigabyte
            if member is None:
                break
            if member.size < 0:
                raise ValueError(f"a member of {member.size} bytes")
            yield member
        # `tarfile` takes a damaged header for the end of the archive
        if self._file.last_block.strip(b"\0"):
            raise ValueError("a damaged header")

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Returns the content of the member that was yielded last; the caller has compared its size with a limit."""
        self._file.budget = member.size
        file = self._archive.extractfile(member)
        return file.read() if file else b""


@contextmanager
def open_tar(path: str) -> Iterator[TarMembers]:
    """Opens a tar, compressed or not. Raises `DataError` for damage inside the block."""
    with explain_damage(f"{path} is not a whole tar file"), open(path, "rb") as plain:
        opener = next((opener for magic, opener in _OPENERS.items() if has_magic(path, magic)), None)
        with closing(opener(plain) if opener else plain) as stream:
            file = _BoundedFile(cast(BinaryIO, stream), max_expansion(path) if opener else 1 << 62)
            with tarfile.open(fileobj=cast(Any, file), mode="r:") as archive:
                yield TarMembers(file, archive)
