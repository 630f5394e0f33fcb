"""idx files (MNIST, Fashion-MNIST): `*-images-idx3-ubyte` with `*-labels-idx1-ubyte`, plain or gzipped.

SOURCE is a file of images, or a folder: all of its image files, training before test.
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

from pggan.data.sources.array_base import NO_LABELS, ArrayReader, IndexedSource, image_shape, label_array
from pggan.data.sources.base import Reader, Ref, has_magic
from pggan.data.sources.file_base import explain_damage, is_folder_of
from pggan.utils.errors import DataError

# Dimensions of the arrays, which the magic number names.
_IMAGES, _LABELS = 3, 1
# The largest idx data sets take half a gigabyte decompressed.
_MAX_BYTES = 1 << 32


class IdxSource(IndexedSource):
    """Holds all images in memory: these data sets are small."""

    def __init__(self, spec: str) -> None:
        path = Path(spec)
        files = [path] if path.is_file() else _image_files(path)
        parts = [_read(file, _IMAGES) for file in files]
        if len({part.shape[1:] for part in parts}) > 1:
            raise DataError(f"{spec} holds pictures of several sizes; name one file")
        self._images = np.concatenate(parts)
        if not len(self._images) or image_shape(self._images.shape[1:]) is None:
            raise DataError(f"{spec} holds no pictures: an array of shape {self._images.shape}")
        label_files = [_label_file(file) for file in files]
        columns, classes = NO_LABELS
        if any(label_files):
            numbers = [_read_labels(file, len(part)) for file, part in zip(label_files, parts)]
            columns, classes = label_array(np.concatenate(numbers), len(self._images), spec)
        super().__init__(len(self._images), columns, classes, channels=1)

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isfile(spec):
            return _is_idx(Path(spec))
        return is_folder_of(spec, _image_files)

    def refs(self) -> Iterable[Ref]:
        return (Ref(f"picture {i}", (self._images[i], self.classes(i))) for i in range(len(self)))

    def reader(self, resolution: int, seed: int) -> Reader:
        return ArrayReader()


def _image_files(folder: Path) -> list[Path]:
    """Returns the image files of a folder, training first; a file beside its own gzip counts once."""
    candidates = sorted((n for n in os.listdir(folder) if "idx3" in n), key=lambda name: ("train" not in name, name))
    names = [name for name in candidates if not (name.endswith(".gz") and name.removesuffix(".gz") in candidates)]
    return [folder / name for name in names if (folder / name).is_file() and _is_idx(folder / name)]


def _label_file(images: Path) -> Path | None:
    """Returns the file with the labels of a file of images, None if there is none."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    if name == images.name:
        return None
    candidates = [images.with_name(n) for n in (name, name.removesuffix(".gz"), f"{name}.gz")]
    return next((path for path in candidates if path.is_file()), None)


def _read_labels(file: Path | None, count: int) -> NDArray[np.int32]:
    """Returns class numbers (count,), -1 without a file."""
    if file is None:
        return np.full(count, -1, np.int32)
    labels = _read(file, _LABELS)
    if len(labels) != count:
        raise DataError(f"{file} has {len(labels)} labels for {count} pictures; copy it again, or remove it")
    return labels.astype(np.int32)


def _is_idx(path: Path) -> bool:
    """Whether the magic number is that of unsigned bytes in three dimensions."""
    try:
        with _open(path) as file:
            return file.read(4) == bytes([0, 0, 8, _IMAGES])
    except PermissionError:
        raise
    except Exception:  # noqa: BLE001 (damaged gzip files raise a dozen kinds)
        return False


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if has_magic(path, b"\x1f\x8b") else open(path, "rb")


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Reads a file's array. Raises `DataError` for a damaged file or another number of dimensions."""
    problem = f"{path} is not a whole idx file"
    with explain_damage(problem, "copy it again"), _open(path) as file:
        if file.read(4) != bytes([0, 0, 8, dimensions]):
            raise DataError(f"{path} is no idx file of bytes in {dimensions} dimensions; copy it again")
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        length = math.prod(shape)
        if length > _MAX_BYTES:
            raise DataError(f"{path} claims an array of {shape}, which is absurdly large; copy it again")
        data = file.read(length + 1)
        if len(data) != length:
            raise ValueError(f"an array of {shape} it does not hold")
    return np.frombuffer(data, np.uint8).reshape(shape)
