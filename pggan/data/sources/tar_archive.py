"""Tar archives of images, compressed or not, read in place without unpacking."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any, BinaryIO, NamedTuple, cast

from pggan.data.label_columns import MAX_CLASSES, LabelColumn, order_classes
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.file_base import NO_IMAGES, READ_ERRORS, FileReader, check_file_size
from pggan.data.sources.image_io import MAX_FILE_BYTES, is_image_name
from pggan.data.sources.label_files import CLASSES, DATASET, MAX_LIST_BYTES, TABLE
from pggan.utils.errors import DataError
from pggan.utils.formatting import natural_key, one_line

_COMPRESSIONS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# A compressed tar can only be streamed: a sample is its first images, at most this many.
_MAX_SAMPLE = 256
# Most bytes of one image's label file.
_MAX_LABEL_BYTES = 1 << 16


class TarReader(FileReader):
    """A reference's payload: (content, labels).

    The content is (path, offset, size), or the bytes themselves from a compressed tar (None: above MAX_FILE_BYTES).
    """

    def open(self, ref: Ref) -> BinaryIO:
        content, _ = ref.payload
        if content is None:
            raise BadImage(f"a file above the limit of {MAX_FILE_BYTES >> 20} MiB")
        if isinstance(content, bytes):
            return io.BytesIO(content)
        path, offset, size = content
        check_file_size(size)
        return cast(BinaryIO, io.BufferedReader(_Section(open(path, "rb"), offset, size)))

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        return super().read(ref, channels)._replace(labels=ref.payload[1])


class _Section(io.RawIOBase):
    """A section of a file as a file of its own; `close` closes the underlying file."""

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
    """An image in a tar."""

    name: str
    path: str  # of the tar
    offset: int  # bytes
    size: int  # bytes


class TarSource(Source):
    """Members in natural order; those of a compressed tar, which is streamed, in the order of the file.

    An image's class is in a member of the same name with the ending `.cls`, or `.json` with an entry "label" or
    "class", as in webdataset.
    """

    def __init__(self, spec: str) -> None:
        self.paths = self.files(spec)
        self._members: list[_Member] = []
        self._companions: dict[str, bytes] = {}
        self._compressed = False
        labels: dict[str, str] = {}  # class name by sample key
        for path in self.paths:
            members = self._scan(path, labels)
            self._members += (
                members if self._compressed else sorted(members, key=lambda m: (natural_key(m.name), m.offset))
            )
        if not self._members:
            raise DataError(f"{spec} {NO_IMAGES}")
        # with more distinct values they are names of images, not classes
        distinct = set(labels.values()) - {"-1"}
        classes = order_classes(distinct) if len(distinct) <= MAX_CLASSES else ()
        self._columns = (LabelColumn("class", classes),) if classes else ()
        numbers = {name: number for number, name in enumerate(classes)}
        self._numbers = {key: numbers.get(name, -1) for key, name in labels.items()}

    @staticmethod
    def files(spec: str) -> list[str]:
        """Returns the tars of a SOURCE argument."""
        return [spec]

    def _scan(self, path: str, labels: dict[str, str]) -> list[_Member]:
        """Returns the images of a tar; adds their labels and companion files."""
        members = []
        try:
            with open(path, "rb") as file:
                self._compressed |= file.read(6).startswith(_COMPRESSIONS)
            with tarfile.open(path) as archive:
                for member in archive:
                    if _is_image(member):
                        members.append(_Member(member.name, path, member.offset_data, member.size))
                    elif member.isreg():
                        self._read_label(archive, member, path, labels)
        except (PermissionError, FileNotFoundError):
            raise
        except (tarfile.TarError, *READ_ERRORS) as error:
            raise DataError(f"{path} is not a whole tar file ({one_line(error)}); copy or make it again") from None
        return members

    def _read_label(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, labels: dict[str, str]) -> None:
        """Reads a list of labels, or the label file of one image, of which `.cls` has priority over `.json`."""
        name = member.name.removeprefix("./")
        is_list = name in (TABLE, CLASSES, DATASET)
        max_bytes = MAX_LIST_BYTES if is_list else _MAX_LABEL_BYTES
        if not name.endswith((".cls", ".json", TABLE)) or member.size > max_bytes:
            return
        file = archive.extractfile(member)
        data = file.read() if file else b""
        if is_list:
            self._companions[name] = data
            return
        key, label = _sample_key(path, member.name), _parse_label(member.name, data)
        if label is not None and (key not in labels or name.endswith(".cls")):
            labels[key] = label

    def read_companion(self, name: str) -> bytes | None:
        return self._companions.get(name)

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
            return self._stream()
        return (
            Ref(m.name, ((os.path.abspath(m.path), m.offset, m.size), self._classes(m.path, m.name)))
            for m in self._members
        )

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        if self._compressed:
            return islice(self.refs(), min(count, among, _MAX_SAMPLE))
        return super().sample(count, among)

    def _stream(self) -> Iterator[Ref]:
        for path in self.paths:
            try:
                with tarfile.open(path) as archive:
                    for member in archive:
                        if _is_image(member):
                            file = None if member.size > MAX_FILE_BYTES else archive.extractfile(member)
                            data = None if file is None else file.read()
                            yield Ref(member.name, (data, self._classes(path, member.name)))
            except (tarfile.TarError, *READ_ERRORS) as error:
                raise DataError(f"{path} is not a whole tar file ({one_line(error)}); copy it again") from None

    def _classes(self, path: str, name: str) -> tuple[int, ...]:
        return (self._numbers.get(_sample_key(path, name), -1),) if self._columns else ()

    @property
    def label_columns(self) -> tuple[LabelColumn, ...]:
        return self._columns

    def reader(self, resolution: int, seed: int) -> Reader:
        return TarReader()


def _is_image(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse() and is_image_name(member.name)


def _sample_key(path: str, name: str) -> str:
    """Returns what the members of one webdataset sample share: shard, folder and the name up to its first dot."""
    folder, _, base = name.rpartition("/")
    return f"{path}\0{folder}/{base.partition('.')[0]}"


def _parse_label(name: str, data: bytes) -> str | None:
    """Returns the class in an image's label file, None if it names none."""
    try:
        text = data.decode().strip()
        if name.endswith(".cls"):
            return text or None
        entries = json.loads(text)
        value = entries.get("label", entries.get("class")) if isinstance(entries, dict) else None
        return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
    except (ValueError, RecursionError):
        return None
