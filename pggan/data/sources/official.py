"""The official release's TFRecords: a directory of `NAME-rNN.tfrecords`, a file a resolution, and `NAME-rxx.labels`.

The largest resolution is read; the lower ones follow from it, byte for byte. The StyleGAN releases use the same files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import BadPicture, Reader
from pggan.data.sources.numbered import NO_LABELS, Labels, NumberedReader, NumberedSource, channels_last, label_array
from pggan.data.tfrecords import decode_picture, find_records, read_record
from pggan.errors import DataError

_NAME = re.compile(r"(.*)-r(\d{2})\.tfrecords")


class TfrecordReader(NumberedReader):
    boxed = True

    def __init__(self, path: str, offsets: NDArray[np.int64], side: tuple[int, int]) -> None:
        self.path, self.offsets, self.side = path, offsets, side
        self._file: BinaryIO | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}

    def image(self, index: int) -> NDArray[np.uint8]:
        try:
            if self._file is None:
                self._file = open(self.path, "rb")  # noqa: SIM115 (kept open for the next picture)
            return channels_last(decode_picture(read_record(self._file, int(self.offsets[index]))))
        except OSError as error:
            raise BadPicture(error.strerror or str(error)) from None
        except ValueError as error:
            raise BadPicture(str(error)) from None

    def shape(self, index: int) -> tuple[int, int]:
        return self.side  # one file, one resolution; what a record says counts when it is read


class TfrecordSource(NumberedSource):
    def __init__(self, spec: str) -> None:
        self.path = _largest(Path(spec))
        offsets = find_records(self.path)
        if not offsets:
            raise DataError(f"{self.path} holds no records; copy or make it again")
        self._offsets = np.frombuffer(offsets, np.int64)
        try:
            with open(self.path, "rb") as file:
                first = decode_picture(read_record(file, 0))
        except ValueError as error:
            raise DataError(f"{self.path}: {error}") from None
        self._channels, self._side = first.shape[0], first.shape[:0:-1]
        match = _NAME.fullmatch(self.path.name)
        labels = self.path.with_name(f"{match[1] if match else self.path.stem}-rxx.labels")
        columns, classes = load_labels(labels, len(offsets)) if labels.is_file() else NO_LABELS
        super().__init__(len(offsets), columns, classes)

    @staticmethod
    def sniff(spec: str) -> bool:
        path = Path(spec)
        if path.is_dir():
            return any(name.endswith(".tfrecords") for name in os.listdir(path))
        return path.is_file() and path.suffix == ".tfrecords"

    @property
    def channels(self) -> int | None:
        return 1 if self._channels == 1 else 3

    def reader(self, resolution: int, seed: int) -> Reader:
        return TfrecordReader(os.path.abspath(self.path), self._offsets, self._side)


def _largest(path: Path) -> Path:
    """The file of the largest resolution in a directory of one data set."""
    if path.is_file():
        return path
    found: dict[str, list[tuple[int, Path]]] = {}
    for each in sorted(path.glob("*.tfrecords")):
        match = _NAME.fullmatch(each.name)
        found.setdefault(match[1] if match else each.stem, []).append((int(match[2]) if match else 0, each))
    if len(found) > 1:
        first = max(next(iter(found.values())))[1]
        raise DataError(f"{path} holds several data sets ({', '.join(found)}); name one's largest file, as {first}")
    return max(next(iter(found.values())))[1]


def load_labels(path: Path, count: int) -> Labels:
    """Columns and class numbers of an .npy file, whatever its ending. Raises `DataError`."""
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole array of labels ({error}); copy or make it again") from None
    return label_array(values, count, str(path))
