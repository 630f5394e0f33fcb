"""Tar archives of images, compressed or not, read in place without unpacking."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

from pggan.data.label_columns import MAX_CLASSES, LabelColumn, order_classes
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source, has_magic
from pggan.data.sources.file_base import NO_IMAGES, FileReader, check_file_size, explain_damage
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.label_files import CLASSES, DATASET, TABLE
from pggan.utils.errors import DataError
from pggan.utils.formatting import natural_key
from pggan.utils.limits import MAX_FILE_BYTES, MAX_LIST_BYTES

_COMPRESSIONS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
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
        if self._opened is None or self._opened.name != path:
            if self._opened is not None:
                self._opened.close()
            self._opened = tarfile.open(path, "r:")  # noqa: SIM115 (stays open for the next image)
        member = tarfile.TarInfo()
        member.offset_data, member.size = offset, size
        return cast(BinaryIO, self._opened.extractfile(member))

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        return super().read(ref, channels)._replace(labels=ref.payload[1])


class TarSource(Source):
    """Members in natural order; those of a compressed tar, which is streamed, in the order of the file.

    An image's class is in a member of the same name with the ending `.cls`, or `.json` with an entry "label" or
    "class", as in webdataset.
    """

    def __init__(self, spec: str) -> None:
        self.paths = self.files(spec)
        self._members: list[tuple[str, str, int, int]] = []  # name, path of the tar, offset and size in bytes
        self._companions: dict[str, bytes] = {}
        labels: dict[str, str] = {}  # class name by sample key
        for path in self.paths:
            members = self._scan(path, labels)
            self._members += members if self.streamed else sorted(members, key=lambda m: (natural_key(m[0]), m[2]))
        if not self._members:
            raise DataError(f"{spec} {NO_IMAGES}")
        # with more distinct values they are names of images, not classes
        distinct = set(labels.values()) - {"-1"}
        classes = order_classes(distinct) if len(distinct) <= MAX_CLASSES else ()
        self.label_columns = (LabelColumn("class", classes),) if classes else ()
        numbers = {name: number for number, name in enumerate(classes)}
        self._numbers = {key: numbers.get(name, -1) for key, name in labels.items()}

    @staticmethod
    def files(spec: str) -> list[str]:
        """Returns the tars of a SOURCE argument."""
        return [spec]

    def _scan(self, path: str, labels: dict[str, str]) -> list[tuple[str, str, int, int]]:
        """Returns the images of a tar; adds their labels and companion files."""
        members = []
        self.streamed |= has_magic(path, *_COMPRESSIONS)
        with explain_damage(f"{path} is not a whole tar file"), tarfile.open(path) as archive:
            for member in archive:
                if _is_image(member):
                    members.append((member.name, path, member.offset_data, member.size))
                elif member.isreg():
                    self._read_label(archive, member, path, labels)
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
        except Exception:  # noqa: BLE001 (damaged archives raise a dozen kinds)
            return False

    def __len__(self) -> int:
        return len(self._members)

    def refs(self) -> Iterable[Ref]:
        if self.streamed:
            return self._stream()
        return (
            Ref(name, ((os.path.abspath(path), offset, size), self._classes(path, name)))
            for name, path, offset, size in self._members
        )

    def _stream(self) -> Iterator[Ref]:
        for path in self.paths:
            with explain_damage(f"{path} is not a whole tar file", "copy it again"), tarfile.open(path) as archive:
                for member in archive:
                    if _is_image(member):
                        file = None if member.size > MAX_FILE_BYTES else archive.extractfile(member)
                        data = None if file is None else file.read()
                        yield Ref(member.name, (data, self._classes(path, member.name)))

    def _classes(self, path: str, name: str) -> tuple[int, ...]:
        return (self._numbers.get(_sample_key(path, name), -1),) if self.label_columns else ()

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
