"""Zip and tar archives of pictures, read in place: nothing is unpacked to the disk."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import IO, Any, BinaryIO, NamedTuple, cast

from pggan.data.label_columns import MAX_CLASSES, LabelColumn, order_classes
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source, reason
from pggan.data.sources.file_base import NO_IMAGES, READ_ERRORS, FileReader
from pggan.data.sources.image_io import MAX_FILE_BYTES, is_image_name
from pggan.data.sources.label_files import CLASSES, DATASET, TABLE
from pggan.utils.errors import DataError
from pggan.utils.formatting import natural_key

_COMPRESSIONS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# A compressed tar has no other order than its own, so that a sample is its beginning.
_SAMPLE_COMPRESSED = 256
# Files of labels are small: one picture's, and a list for all.
_MOST_LABEL, _MOST_LIST = 1 << 16, 1 << 28


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise BadImage(f"a file of {size >> 20} MiB; the limit is {MAX_FILE_BYTES >> 20}")


def zip_names(path: str) -> tuple[str, ...]:
    """Names of a zip's files; none where it is no zip, or not a whole one."""
    try:
        return _listed(path, os.stat(path).st_mtime_ns) if is_zip(path) else ()
    except READ_ERRORS:
        return ()


def is_zip(path: str) -> bool:
    """By both its ends: a zip may be the last member of a tar."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(2) == b"PK" and zipfile.is_zipfile(path)


@lru_cache(maxsize=1)
def _listed(path: str, changed: int) -> tuple[str, ...]:
    """Asked for by everyone who looks at a zip, so kept."""
    with zipfile.ZipFile(path) as file:
        return tuple(name for name in file.namelist() if name and not name.endswith("/"))


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
    """Pictures in natural order of their names; those `within` a folder of the archive, where one is given."""

    def __init__(self, spec: str, within: str = "") -> None:
        self.path = spec
        try:
            names = _listed(spec, os.stat(spec).st_mtime_ns)
        except PermissionError:
            raise
        except READ_ERRORS as error:
            raise DataError(f"{spec} is not a whole zip file ({reason(error)}); copy or make it again") from None
        pictures = {name for name in names if name.startswith(within) and is_image_name(name)}
        self._names = sorted(pictures, key=lambda name: (natural_key(name), name))
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
        """A file at the top of the archive, if there is one."""
        try:
            with zipfile.ZipFile(self.path) as file:
                if name not in file.NameToInfo:
                    return None
                if file.getinfo(name).file_size > _MOST_LIST:
                    raise ValueError("too large a list of labels")
                return file.read(name)
        except READ_ERRORS as error:
            raise DataError(f"{name} in {self.path} cannot be read ({reason(error)}); make the zip again") from None

    def reader(self, resolution: int, seed: int) -> Reader:
        return ZipReader(os.path.abspath(self.path))


class TarReader(FileReader):
    """A reference carries file, place and size, or, from a compressed tar, its bytes (None: too many of them)."""

    def open(self, ref: Ref) -> BinaryIO:
        place, _ = ref.payload
        if place is None:
            raise BadImage(f"a file above the limit of {MAX_FILE_BYTES >> 20} MiB")
        if isinstance(place, bytes):
            return io.BytesIO(place)
        path, offset, size = place
        _check_size(size)
        return cast(BinaryIO, io.BufferedReader(_Section(open(path, "rb"), offset, size)))

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        return super().read(ref, channels)._replace(labels=ref.payload[1])


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


class _Member(NamedTuple):
    """A picture in a tar: its name, the file, its place there."""

    name: str
    path: str
    offset: int
    size: int


class TarSource(Source):
    """Members in natural order; those of a compressed tar in the order of the file, which is read once through.

    A picture's class, as webdataset keeps it: a member of the same name that ends in `.cls`, or in `.json` with an
    entry "label" or "class".
    """

    def __init__(self, spec: str) -> None:
        self.paths = self.files(spec)
        self._members: list[_Member] = []
        self._beside: dict[str, bytes] = {}
        self._compressed = False
        found: dict[str, str] = {}
        for path in self.paths:
            members = self._scan(path, found)
            self._members += (
                members if self._compressed else sorted(members, key=lambda m: (natural_key(m.name), m.offset))
            )
        if not self._members:
            raise DataError(f"{spec} {NO_IMAGES}")
        # numbers of their own for nearly every picture are names, not classes
        distinct = set(found.values()) - {"-1"}
        named = order_classes(distinct) if len(distinct) <= MAX_CLASSES else ()
        self._columns = (LabelColumn("class", named),) if named else ()
        numbers = {name: number for number, name in enumerate(named)}
        self._numbers = {key: numbers.get(name, -1) for key, name in found.items()}

    @staticmethod
    def files(spec: str) -> list[str]:
        return [spec]

    def _scan(self, path: str, found: dict[str, str]) -> list[_Member]:
        members = []
        try:
            with open(path, "rb") as file:
                self._compressed |= file.read(6).startswith(_COMPRESSIONS)
            with tarfile.open(path) as archive:
                for member in archive:
                    if _is_picture(member):
                        members.append(_Member(member.name, path, member.offset_data, member.size))
                    elif member.isreg():
                        self._take_label(archive, member, path, found)
        except (PermissionError, FileNotFoundError):
            raise
        except (tarfile.TarError, *READ_ERRORS) as error:
            raise DataError(f"{path} is not a whole tar file ({reason(error)}); copy or make it again") from None
        return members

    def _take_label(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, found: dict[str, str]) -> None:
        """What a file that is no picture says of the pictures, if it does; `.cls` counts before `.json`."""
        name = member.name.removeprefix("./")
        listed = name in (TABLE, CLASSES, DATASET)
        if not name.endswith((".cls", ".json", TABLE)) or member.size > (_MOST_LIST if listed else _MOST_LABEL):
            return
        file = archive.extractfile(member)
        data = file.read() if file else b""
        if listed:
            self._beside[name] = data
            return
        key, label = _sample_key(path, member.name), _label(member.name, data)
        if label is not None and (key not in found or name.endswith(".cls")):
            found[key] = label

    def read_companion(self, name: str) -> bytes | None:
        return self._beside.get(name)

    @staticmethod
    def sniff(spec: str) -> bool:
        if not os.path.isfile(spec):
            return False
        try:
            return spec.lower().endswith(TAR_ENDINGS) or tarfile.is_tarfile(spec)
        except (tarfile.TarError, *READ_ERRORS):
            return False

    def __len__(self) -> int:
        return len(self._members)

    def refs(self) -> Iterable[Ref]:
        if self._compressed:
            return self._streamed()
        return (
            Ref(m.name, ((os.path.abspath(m.path), m.offset, m.size), self._classes(m.path, m.name)))
            for m in self._members
        )

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        if self._compressed:
            return islice(self.refs(), min(count, among, _SAMPLE_COMPRESSED))
        return super().sample(count, among)

    def _streamed(self) -> Iterator[Ref]:
        for path in self.paths:
            try:
                with tarfile.open(path) as archive:
                    for member in archive:
                        if _is_picture(member):
                            file = None if member.size > MAX_FILE_BYTES else archive.extractfile(member)
                            data = None if file is None else file.read()
                            yield Ref(member.name, (data, self._classes(path, member.name)))
            except (tarfile.TarError, *READ_ERRORS) as error:
                raise DataError(f"{path} is not a whole tar file ({reason(error)}); copy it again") from None

    def _classes(self, path: str, name: str) -> tuple[int, ...]:
        return (self._numbers.get(_sample_key(path, name), -1),) if self._columns else ()

    @property
    def label_columns(self) -> tuple[LabelColumn, ...]:
        return self._columns

    def reader(self, resolution: int, seed: int) -> Reader:
        return TarReader()


def _is_picture(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse() and is_image_name(member.name)


def _sample_key(path: str, name: str) -> str:
    """What the members of one sample share: shard, folder and the name up to its first dot."""
    folder, _, base = name.rpartition("/")
    return f"{path}\0{folder}/{base.partition('.')[0]}"


def _label(name: str, data: bytes) -> str | None:
    """The class that a small file beside a picture names, if it does."""
    try:
        text = data.decode().strip()
        if name.endswith(".cls"):
            return text or None
        about = json.loads(text)
        value = about.get("label", about.get("class")) if isinstance(about, dict) else None
        return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
    except (ValueError, RecursionError):
        return None
