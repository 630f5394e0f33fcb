"""idx files (MNIST, Fashion-MNIST): `*-images-idx3-ubyte` with `*-labels-idx1-ubyte`, plain or gzipped.

SOURCE is a file of pictures, or a folder: all of its files of pictures, training before test.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import NO_LABELS, IndexedSource, InlineArrayReader, image_shape, label_array
from pggan.data.sources.base import Reader, Ref, reason
from pggan.data.sources.file_base import READ_ERRORS, is_mostly_images
from pggan.utils.errors import DataError

_IMAGES, _LABELS = 3, 1
# The largest such sets take half a gigabyte decompressed.
_MOST_BYTES = 1 << 32


class IdxSource(IndexedSource):
    """Holds all pictures: such sets are small."""

    def __init__(self, spec: str) -> None:
        path = Path(spec)
        files = [path] if path.is_file() else _image_files(path)
        parts = [_read(file, _IMAGES) for file in files]
        if len({part.shape[1:] for part in parts}) > 1:
            raise DataError(f"{spec} holds pictures of several sizes; name one file")
        self._images = np.concatenate(parts)
        if not len(self._images) or image_shape(self._images.shape[1:]) is None:
            raise DataError(f"{spec} holds no pictures: an array of shape {self._images.shape}")
        found = [_labels_of(file) for file in files]
        columns, classes = NO_LABELS
        if any(found):
            known = [_numbers(labels, len(part)) for labels, part in zip(found, parts)]
            columns, classes = label_array(np.concatenate(known), len(self._images), spec)
        super().__init__(len(self._images), columns, classes)

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isfile(spec):
            return _is_idx(Path(spec))
        found = len(_image_files(Path(spec))) if os.path.isdir(spec) else 0
        return found > 0 and not is_mostly_images(spec, found)

    def refs(self) -> Iterable[Ref]:
        return (Ref(f"picture {i}", (self._images[i], self.classes(i))) for i in range(len(self)))

    @property
    def channels(self) -> int | None:
        return 1

    def reader(self, resolution: int, seed: int) -> Reader:
        return InlineArrayReader()


def _image_files(folder: Path) -> list[Path]:
    """Training first; a file beside its own gzip counts once."""
    found = sorted((n for n in os.listdir(folder) if "idx3" in n), key=lambda name: ("train" not in name, name))
    plain = set(found)
    names = [name for name in found if not (name.endswith(".gz") and name.removesuffix(".gz") in plain)]
    return [folder / name for name in names if (folder / name).is_file() and _is_idx(folder / name)]


def _labels_of(file: Path) -> Path | None:
    name = file.name.replace("images", "labels").replace("idx3", "idx1")
    if name == file.name:
        return None
    names = (name, name.removesuffix(".gz"), f"{name}.gz")
    return next((file.parent / each for each in names if (file.parent / each).is_file()), None)


def _numbers(labels: Path | None, count: int) -> NDArray[np.int32]:
    """Class numbers of a file of pictures, -1 where it has none."""
    if labels is None:
        return np.full(count, -1, np.int32)
    found = _read(labels, _LABELS)
    if len(found) != count:
        raise DataError(f"{labels} has {len(found)} labels for {count} pictures; copy it again, or remove it")
    return found.astype(np.int32)


def _is_idx(path: Path) -> bool:
    """By the magic number: unsigned bytes in three dimensions."""
    try:
        with _open(path) as file:
            return file.read(4) == bytes([0, 0, 8, _IMAGES])
    except PermissionError:
        raise
    except READ_ERRORS:
        return False


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if packed else open(path, "rb")


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        with _open(path) as file:
            if file.read(4) != bytes([0, 0, 8, dimensions]):
                raise DataError(f"{path} is no idx file of bytes in {dimensions} dimensions; copy it again")
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            length = math.prod(shape)
            if length > _MOST_BYTES:
                raise DataError(f"{path} claims an array of {shape}, which is absurdly large; copy it again")
            data = file.read(length + 1)
    except PermissionError:
        raise
    except READ_ERRORS as error:
        raise DataError(f"{path} is not a whole idx file ({reason(error)}); copy it again") from None
    if len(data) != length:
        raise DataError(f"{path} is not a whole idx file (an array of {shape} it does not hold); copy it again")
    return np.frombuffer(data, np.uint8).reshape(shape)
