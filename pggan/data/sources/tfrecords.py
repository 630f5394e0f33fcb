"""TFRecords of the official release: a folder of `NAME-rNN.tfrecords`, one file per resolution, and `NAME-rxx.labels`.

The largest resolution is read; our lower levels equal the release's byte for byte. StyleGAN's releases use the same
format. Other tools split a file into `train-00000-of-00004` ..., compress it, or store a `label` in each record.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import (
    NO_LABELS,
    IndexedReader,
    IndexedSource,
    Labels,
    channels_last,
    embedded_labels,
    load_labels,
)
from pggan.data.sources.base import BadImage, Reader, Ref
from pggan.data.sources.file_base import is_folder_of, report_bad_image
from pggan.data.sources.tfrecord_io import (
    LABEL,
    begins_with_record,
    decode_image,
    find_records,
    is_compressed,
    parse_example,
    read_record,
    stream_records,
)
from pggan.utils.errors import DataError

_COMPRESSED = r"(?:\.(?:gz|gzip|zlib|z))?"
_NAME = re.compile(rf"(.*)-r(\d{{2}})\.tfrecords{_COMPRESSED}")
_ENDING = re.compile(rf".*\.(?:tfrecords?|tfrec){_COMPRESSED}(?:-\d+-of-\d+{_COMPRESSED})?", re.IGNORECASE)
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(.*)")
# Records tried for the common image shape, in case the first ones are damaged.
_MAX_TRIED = 100
# Longest text of a label that names a class.
_MAX_LABEL = 256


class TfrecordReader(IndexedReader):
    """Reads images at byte offsets of TFRecord files.

    A reference's payload: (content, labels). The content is (path, offset), the data of a record of a compressed file,
    or why there are none.
    """

    box_filtered = True

    def image(self, content: Any) -> NDArray[np.uint8]:
        if isinstance(content, str):
            raise BadImage(content)
        with report_bad_image():
            return channels_last(decode_image(content if isinstance(content, bytes) else self.record(*content)))

    def record(self, path: str, offset: int) -> bytes:
        """Returns the data of the record at a byte offset. Raises `ValueError` if it is damaged or too large."""
        if self._opened is None or self._opened.name != path:
            if self._opened is not None:
                self._opened.close()
            self._opened = open(path, "rb")  # noqa: SIM115 (stays open for the next image)
        return read_record(cast(BinaryIO, self._opened), offset)


class TfrecordSource(IndexedSource):
    """The directory of TFRecords: its file of the largest resolution or its shards, and its labels."""

    def __init__(self, spec: str) -> None:
        paths, self.remark = _chosen_files(Path(spec))
        self.paths = [path.absolute() for path in paths]
        self.streamed = any(map(is_compressed, self.paths))
        self._offsets = [] if self.streamed else [find_records(path) for path in self.paths]
        height, width, channels = self._image_shape()
        self._size = (width, height)
        file = self.paths[0].with_name(f"{_data_set(self.paths[0])[0]}-rxx.labels")
        labels = [_label(data) for data in self._records()] if self._labelled and not file.is_file() else []
        count = len(labels) or sum(map(len, self._offsets)) or sum(1 for _ in self._contents())
        columns, classes = _embedded(labels) if labels else load_labels(file, count)
        super().__init__(count, columns, classes, channels)

    def _contents(self) -> Iterator[Any]:
        """Yields the content of each reference's payload."""
        if self.streamed:
            for path in self.paths:
                yield from stream_records(path)
        for path, offsets in zip(self.paths, self._offsets):
            yield from ((str(path), offset) for offset in offsets)

    def _records(self) -> Iterator[bytes | str]:
        """Yields the data of every record, or why it cannot be used."""
        reader = TfrecordReader((0, 0))
        for content in self._contents():
            try:
                yield content if self.streamed else reader.record(*content)
            except ValueError as error:
                yield str(error)

    def _image_shape(self) -> tuple[int, ...]:
        """Returns height, width and channels of the first intact record."""
        reason = None
        for data in islice(self._records(), _MAX_TRIED):
            try:
                if isinstance(data, bytes):
                    self._labelled = LABEL in parse_example(data)
                    return channels_last(decode_image(data)).shape
                reason = reason or data
            except (ValueError, BadImage) as error:
                reason = reason or str(error)
        if reason is None:
            raise DataError(f"{self.paths[0]} holds no records; copy or make it again")
        raise DataError(f"{self.paths[0]} holds no pictures of the official release: {reason}")

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isfile(spec):
            return _ENDING.fullmatch(spec) is not None or begins_with_record(Path(spec))
        return is_folder_of(spec, _files)

    def refs(self) -> Iterable[Ref]:
        return (Ref(f"picture {i}", (content, self.classes(i))) for i, content in enumerate(self._contents()))

    def reader(self, resolution: int, seed: int) -> Reader:
        return TfrecordReader(self._size)


def _label(data: bytes | str) -> tuple[Any, ...]:
    """Returns a record's label: integers, or one text; () if it has none."""
    try:
        value = parse_example(data).get(LABEL) if isinstance(data, bytes) else None
    except ValueError:
        return ()
    if isinstance(value, list):
        return tuple(max(-1, number - (number >> 63 << 64)) for number in value)
    return (bytes(value).decode("utf-8", "replace"),) if value is not None and len(value) <= _MAX_LABEL else ()


def _embedded(values: list[tuple[Any, ...]]) -> Labels:
    """Returns the label columns and class numbers of the records' own labels; none if they are no classes."""
    width = max(map(len, values))
    is_text = any(isinstance(value[0], str) for value in values if value)
    unknown: Any = "" if is_text else -1 if width == 1 else 0
    rows = [value if len(value) == width else (unknown,) * width for value in values]
    if any(isinstance(value[0], str) is not is_text for value in rows):
        return NO_LABELS
    return embedded_labels(np.array(rows), len(rows))


def _files(folder: Path) -> list[Path]:
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    paths = [folder / name for name in names if _ENDING.fullmatch(name) or _SHARD.fullmatch(name)]
    return [path for path in paths if path.is_file() and (_ENDING.fullmatch(path.name) or begins_with_record(path))]


def _data_set(file: Path) -> tuple[str, int]:
    """Splits a file name into the data set's name and the level (0 if the name has none)."""
    if match := _NAME.fullmatch(file.name):
        return match[1], int(match[2])
    shard = _SHARD.fullmatch(file.name)
    return shard[1] if shard else re.sub(r"\.tfrec[^.]*(\.[^.]+)?$", "", file.name), 0


def _chosen_files(path: Path) -> tuple[list[Path], str | None]:
    """Returns the files to read of a folder, and a remark on the others; a file itself.

    They are the file of the largest resolution of the only data set, or all shards of it or of the one for training.
    """
    if path.is_file():
        return [path], None
    levels: dict[str, list[tuple[int, Path]]] = {}
    for file in _files(path):
        name, level = _data_set(file)
        levels.setdefault(name, []).append((level, file))
    training = [
        name for name in levels if re.search(r"(?:^|[-_.])train", name) and _SHARD.fullmatch(levels[name][0][1].name)
    ]
    name = training[0] if len(training) == 1 else next(iter(levels))
    largest = max(levels[name])[1]
    others = ", ".join(other for other in levels if other != name)
    if others and training != [name]:
        sets = ", ".join(levels)
        raise DataError(f"{path} holds several data sets ({sets}); name one's largest file, as {largest}")
    remark = f"passed over the sets {others}; give one of their files to read it" if others else None
    return _all_shards([file for _, file in levels[name]]) or [largest], remark


def _all_shards(files: list[Path]) -> list[Path]:
    """Returns a set's shards in order, none if it is not split. Raises `DataError` if one is missing."""
    matches = {file: match for file in files if (match := _SHARD.fullmatch(file.name))}
    shards = sorted(matches, key=lambda file: int(matches[file][2]))
    numbers = [int(matches[file][2]) for file in shards]
    if shards and numbers != [*range(int(matches[shards[0]][3]))]:
        raise DataError(
            f"{shards[0].parent} lacks shards, or has some twice: {len(shards)} files named {shards[0].name}"
        )
    return shards
