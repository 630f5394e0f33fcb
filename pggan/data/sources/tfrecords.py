"""TFRecords of the official release: a folder of `NAME-rNN.tfrecords`, one file per resolution, and `NAME-rxx.labels`.

The largest resolution is read; our lower levels equal the release's byte for byte. StyleGAN's releases use the same
format.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import IndexedReader, IndexedSource, channels_last, load_labels
from pggan.data.sources.base import BadImage, Reader
from pggan.data.sources.file_base import is_folder_of, report_bad_image
from pggan.data.sources.tfrecord_io import decode_image, find_records, read_record
from pggan.utils.errors import DataError

_NAME = re.compile(r"(.*)-r(\d{2})\.tfrecords")
# Records tried for the common image shape, in case the first ones are damaged.
_MAX_TRIED = 100


class TfrecordReader(IndexedReader):
    """Reads images at byte offsets of one TFRecord file."""

    box_filtered = True

    def __init__(self, path: str, offsets: NDArray[np.int64], image_size: tuple[int, int]) -> None:
        super().__init__(image_size)  # of the file's resolution; `image` uses that of the record itself
        self.path, self.offsets = path, offsets

    def image(self, content: int) -> NDArray[np.uint8]:
        with report_bad_image():
            self._opened = self._opened or open(self.path, "rb")  # noqa: SIM115 (stays open for the next image)
            return channels_last(decode_image(read_record(self._opened, int(self.offsets[content]))))


class TfrecordSource(IndexedSource):
    """The directory of TFRecords: its file of the largest resolution, and its labels."""

    def __init__(self, spec: str) -> None:
        self.path = _largest_file(Path(spec))
        offsets = find_records(self.path)
        if not offsets:
            raise DataError(f"{self.path} holds no records; copy or make it again")
        self._offsets = np.frombuffer(offsets, np.int64)
        height, width, channels = self._image_shape()
        self._size = (width, height)
        labels = self.path.with_name(f"{_data_set(self.path)[0]}-rxx.labels")
        columns, classes = load_labels(labels, len(offsets))
        super().__init__(len(offsets), columns, classes, channels)

    def _image_shape(self) -> tuple[int, ...]:
        """Returns height, width and channels of the first intact record."""
        reason = ""
        with open(self.path, "rb") as file:
            for offset in islice(self._offsets, _MAX_TRIED):
                try:
                    return channels_last(decode_image(read_record(file, int(offset)))).shape
                except (ValueError, BadImage) as error:
                    reason = reason or str(error)
        raise DataError(f"{self.path} holds no pictures of the official release: {reason}")

    @staticmethod
    def sniff(spec: str) -> bool:
        return is_folder_of(spec, _files) or (os.path.isfile(spec) and spec.endswith(".tfrecords"))

    def reader(self, resolution: int, seed: int) -> Reader:
        return TfrecordReader(os.path.abspath(self.path), self._offsets, self._size)


def _files(folder: Path) -> list[Path]:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".tfrecords") and not name.startswith("."))
    return [folder / name for name in names if (folder / name).is_file()]


def _data_set(file: Path) -> tuple[str, int]:
    """Splits a file name into the data set's name and the level (0 if the name has none)."""
    match = _NAME.fullmatch(file.name)
    return (match[1], int(match[2])) if match else (file.stem, 0)


def _largest_file(path: Path) -> Path:
    """Returns the file of the largest resolution in a folder of one data set; a file itself."""
    if path.is_file():
        return path
    levels: dict[str, list[tuple[int, Path]]] = {}
    for file in _files(path):
        name, level = _data_set(file)
        levels.setdefault(name, []).append((level, file))
    _, largest = max(next(iter(levels.values())))
    if len(levels) > 1:
        raise DataError(f"{path} holds several data sets ({', '.join(levels)}); name one's largest file, as {largest}")
    return largest
