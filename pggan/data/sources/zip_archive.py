"""Zip archives of images, read in place without unpacking."""

from __future__ import annotations

import bz2
import copy
import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import BinaryIO, NamedTuple, cast

from pggan.data.sources.base import Reader, Ref, has_magic
from pggan.data.sources.file_base import FileReader, NamedFilesSource, check_file_size, explain_damage
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.list_text import ABOVE, CLASSES, is_list_name, lists_above
from pggan.data.sources.passed_over import PassedOver
from pggan.utils.limits import MAX_CARRIED_BYTES, MAX_LIST_BYTES

_AES = 99
# Names of compressions that are not read.
_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}


def zip_names(path: str) -> tuple[str, ...]:
    """Returns the names of a zip's files; none if it is no zip or a damaged one."""
    try:
        return tuple(_file_sizes(path, os.stat(path).st_mtime_ns)) if is_zip(path) else ()
    except Exception:  # noqa: BLE001 (damaged archives raise a dozen kinds)
        return ()


def is_zip(path: str) -> bool:
    """Whether a file is a zip by its beginning and its end: the end alone may be that of a zip within a tar."""
    return has_magic(path, b"PK") and zipfile.is_zipfile(path)


@lru_cache(maxsize=1)
def _file_sizes(path: str, mtime_ns: int) -> dict[str, int]:
    """Returns the names of a zip's files and their sizes, in bytes, the larger of compressed and expanded.

    Cached, because every source that reads zips asks for them.
    """
    with zipfile.ZipFile(path) as file:
        infos = file.NameToInfo.items()
        return {name: _largest_size(info) for name, info in infos if name and not name.endswith("/")}


def _largest_size(info: zipfile.ZipInfo) -> int:
    return max(info.file_size, info.compress_size)


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """Opens a member whose sizes the caller has compared with a limit; what it expands to cannot exceed them.

    Raises `ValueError` or `zipfile.BadZipFile` for a damaged member.
    """
    if info.flag_bits & 1 or info.compress_type == _AES:
        raise ValueError("encrypted with a password; unpack it, or make the zip again without")
    if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return cast(BinaryIO, archive.open(info))
    # for the others `zipfile` expands without a bound
    stored = copy.copy(info)
    stored.compress_type, stored.file_size, stored.CRC = zipfile.ZIP_STORED, info.compress_size, None  # type: ignore[assignment]
    with archive.open(stored) as file:
        data = _expand(file.read(), info)
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise ValueError("damaged member (its size or its checksum is wrong)")
    return io.BytesIO(data)


def _expand(data: bytes, info: zipfile.ZipInfo) -> bytes:
    """Expands bzip2 or LZMA up to one byte more than the size that the zip names."""
    most = info.file_size + 1
    if info.compress_type == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(data, most)
    if info.compress_type != zipfile.ZIP_LZMA or len(data) < 9 or data[2:4] != b"\5\0":
        raise ValueError(
            f"compressed in a way that is not read ({_METHODS.get(info.compress_type, info.compress_type)}); make the "
            "zip again with deflate"
        )
    bits, dictionary = struct.unpack("<BI", data[4:9])
    options = {"lc": bits % 9, "lp": bits // 9 % 5, "pb": bits // 45, "dict_size": max(1 << 12, min(dictionary, most))}
    filters = [{"id": lzma.FILTER_LZMA1, **options}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(data[9:], most)


class _Member(NamedTuple):
    """A member of a zip."""

    name: str
    nbytes: int  # the larger of its sizes, compressed and expanded


class ZipReader(FileReader):
    """A reference's payload: the `_Member`."""

    max_bytes = MAX_CARRIED_BYTES

    def __init__(self, path: str) -> None:
        self.root = path

    def open(self, ref: Ref) -> BinaryIO:
        check_file_size(ref.payload.nbytes, self.max_bytes)
        self._opened = self._opened or zipfile.ZipFile(self.root)
        info = self._opened.getinfo(ref.payload.name)
        check_file_size(_largest_size(info), self.max_bytes)  # the zip may be another one by now
        return open_member(self._opened, info)


class ZipSource(NamedFilesSource):
    """Images in natural order of their names. `within`: only those whose names begin with it."""

    def __init__(self, spec: str, within: str = "") -> None:
        with explain_damage(f"{spec} is not a whole zip file"):
            sizes = _file_sizes(spec, os.stat(spec).st_mtime_ns)
        self._sizes = {n: size for n, size in sizes.items() if n.startswith(within) and is_image_name(n)}
        passed, self._lists = PassedOver(), []
        for name in sizes:
            if name not in self._sizes:
                passed.add(name)
            if is_list_name(name) or name.rpartition("/")[2] == CLASSES:
                self._lists.append(name)
        super().__init__(spec, self._sizes, passed)

    def payload(self, name: str) -> _Member:
        return _Member(name, self._sizes[name])

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isfile(spec) and (spec.lower().endswith(".zip") or is_zip(spec))

    def lists(self) -> Sequence[str]:
        return self._lists + lists_above(self.path)

    def read_companion(self, name: str) -> bytes | None:
        """Returns a file of the archive, or one beside it, None if there is none."""
        if name.startswith(ABOVE):
            return super().read_companion(name)
        problem = f"{name} in {self.path} cannot be read"
        with explain_damage(problem, "make the zip again"), zipfile.ZipFile(self.path) as file:
            if name not in file.NameToInfo:
                return None
            if _largest_size(info := file.getinfo(name)) > MAX_LIST_BYTES:
                raise ValueError("too large a list of labels")
            with open_member(file, info) as member:
                return member.read()

    def reader(self, resolution: int, seed: int) -> Reader:
        return ZipReader(os.path.abspath(self.path))
