"""idx files (MNIST, Fashion-MNIST): `*-images-idx3-ubyte` with `*-labels-idx1-ubyte`, plain or gzipped.

SOURCE is a file of pictures, or a folder: all of its files of pictures, training before test.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import Reader
from pggan.data.sources.numbered import NumberedReader, NumberedSource, label_array
from pggan.errors import DataError
from pggan.labels import LabelColumn

_IMAGES, _LABELS = 3, 1
# Decompressed, MNIST is 47 MB; far above that it is no such file.
_MOST_BYTES = 1 << 32


class IdxReader(NumberedReader):
    """Holds all pictures: such sets are small."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.images[index][:, :, None]

    def shape(self, index: int) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[1]


class IdxSource(NumberedSource):
    def __init__(self, spec: str) -> None:
        path = Path(spec)
        files = [path] if path.is_file() else _image_files(path)
        parts = [_read(file, _IMAGES) for file in files]
        if len({part.shape[1:] for part in parts}) > 1:
            raise DataError(f"{spec} holds pictures of several sizes; name one file")
        self._images = np.concatenate(parts)
        if not len(self._images):
            raise DataError(f"{spec} holds no pictures")
        labels = [_read(found, _LABELS) if (found := _labels_of(file)) else None for file in files]
        known = [each for each in labels if each is not None]
        columns: tuple[LabelColumn, ...] = ()
        classes = None
        if len(known) == len(files):
            columns, classes = label_array(np.concatenate(known), len(self._images), spec)
        super().__init__(len(self._images), columns, classes)

    @staticmethod
    def sniff(spec: str) -> bool:
        path = Path(spec)
        return _is_idx(path) if path.is_file() else path.is_dir() and bool(_image_files(path))

    @property
    def channels(self) -> int | None:
        return 1

    def reader(self, resolution: int, seed: int) -> Reader:
        return IdxReader(self._images)


def _image_files(folder: Path) -> list[Path]:
    """Training first; a file beside its own gzip counts once."""
    found = [p for p in sorted(folder.iterdir(), key=lambda p: ("train" not in p.name, p.name)) if "idx3" in p.name]
    plain = {p.name for p in found}
    return [p for p in found if p.is_file() and p.name.removesuffix(".gz") not in plain - {p.name} and _is_idx(p)]


def _labels_of(file: Path) -> Path | None:
    name = file.name.replace("images", "labels").replace("idx3", "idx1")
    for candidate in (name, name.removesuffix(".gz"), f"{name}.gz"):
        if candidate != file.name and (file.parent / candidate).is_file():
            return file.parent / candidate
    return None


def _is_idx(path: Path) -> bool:
    """By the magic number: unsigned bytes in three dimensions."""
    with open(path, "rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as unpacked:
                start = unpacked.read(4)
        except (OSError, EOFError, zlib.error):
            return False
    return start == b"\x00\x00\x08\x03"


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        opener = gzip.open if path.suffix == ".gz" or _gzipped(path) else open
        with opener(path, "rb") as file:
            data = file.read(_MOST_BYTES)
        if data[:4] != bytes([0, 0, 8, dimensions]):
            raise DataError(f"{path} is no idx file of bytes in {dimensions} dimensions")
        shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise DataError(f"{path} is not a whole idx file ({error}); copy it again") from None


def _gzipped(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"
