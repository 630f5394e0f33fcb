"""The official release's TFRecords: a directory of `NAME-rNN.tfrecords`, a file a resolution, and `NAME-rxx.labels`.

The largest resolution is read; the lower ones follow from it, byte for byte. The StyleGAN releases use the same files.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import NO_LABELS, IndexedReader, IndexedSource, channels_last, load_labels
from pggan.data.sources.base import BadImage, Reader
from pggan.data.sources.file_base import is_mostly_images
from pggan.data.sources.tfrecord_io import decode_image, find_records, read_record
from pggan.utils.errors import DataError

_NAME = re.compile(r"(.*)-r(\d{2})\.tfrecords")
# Records looked at for the shape that all have: a damaged one does not stop the rest.
_LOOKED_AT = 100


class TfrecordReader(IndexedReader):
    box_filtered = True

    def __init__(self, path: str, offsets: NDArray[np.int64], side: tuple[int, int]) -> None:
        self.path, self.offsets, self.side = path, offsets, side
        self._file: BinaryIO | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}

    def image(self, index: int) -> NDArray[np.uint8]:
        try:
            if self._file is None:
                self._file = open(self.path, "rb")  # noqa: SIM115 (kept open for the next picture)
            return channels_last(decode_image(read_record(self._file, int(self.offsets[index]))))
        except OSError as error:
            raise BadImage(error.strerror or str(error)) from None
        except ValueError as error:
            raise BadImage(str(error)) from None

    def shape(self, index: int) -> tuple[int, int]:
        return self.side  # one file, one resolution; what a record says counts when it is read


class TfrecordSource(IndexedSource):
    def __init__(self, spec: str) -> None:
        self.path = _largest(Path(spec))
        offsets = find_records(self.path)
        if not offsets:
            raise DataError(f"{self.path} holds no records; copy or make it again")
        self._offsets = np.frombuffer(offsets, np.int64)
        height, width, self._channels = self._shape()
        self._side = (width, height)
        match = _NAME.fullmatch(self.path.name)
        labels = self.path.with_name(f"{match[1] if match else self.path.stem}-rxx.labels")
        columns, classes = load_labels(labels, len(offsets)) if labels.is_file() else NO_LABELS
        super().__init__(len(offsets), columns, classes)

    def _shape(self) -> tuple[int, ...]:
        """Height, width and channels of the first whole record."""
        why = ""
        with open(self.path, "rb") as file:
            for offset in islice(self._offsets, _LOOKED_AT):
                try:
                    return channels_last(decode_image(read_record(file, int(offset)))).shape
                except (ValueError, BadImage) as error:
                    why = why or str(error)
        raise DataError(f"{self.path} holds no pictures of the official release: {why}")

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isdir(spec):
            found = len(_files(Path(spec)))
            return found > 0 and not is_mostly_images(spec, found)
        return os.path.isfile(spec) and spec.endswith(".tfrecords")

    @property
    def channels(self) -> int | None:
        return 1 if self._channels == 1 else 3

    def reader(self, resolution: int, seed: int) -> Reader:
        return TfrecordReader(os.path.abspath(self.path), self._offsets, self._side)


def _files(folder: Path) -> list[Path]:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".tfrecords") and not name.startswith("."))
    return [folder / name for name in names if (folder / name).is_file()]


def _largest(path: Path) -> Path:
    """The file of the largest resolution in a directory of one data set."""
    if path.is_file():
        return path
    found: dict[str, list[tuple[int, Path]]] = {}
    for each in _files(path):
        match = _NAME.fullmatch(each.name)
        found.setdefault(match[1] if match else each.stem, []).append((int(match[2]) if match else 0, each))
    if len(found) > 1:
        first = max(next(iter(found.values())))[1]
        raise DataError(f"{path} holds several data sets ({', '.join(found)}); name one's largest file, as {first}")
    return max(next(iter(found.values())))[1]
