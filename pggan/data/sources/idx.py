"""idx files (MNIST, Fashion-MNIST): `*-images-idx3-ubyte` with `*-labels-idx1-ubyte`, plain or gzipped.

SOURCE is a file of images, or a folder: all of its image files, training before test.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import NO_LABELS, ArrayReader, IndexedSource, image_shape, label_array
from pggan.data.sources.base import Reader, Ref, has_magic
from pggan.data.sources.file_base import explain_damage, is_folder_of
from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_CARRIED_BYTES

# What files of one data set differ in.
_SPLIT = re.compile(r"train(ing)?|t10k|test\d*k?|val(id(ation)?)?")
# Dimensions of the arrays, which the magic number names.
_IMAGES, _LABELS = 3, 1
# The largest idx data sets take half a gigabyte decompressed, and have a million pictures.
_MAX_BYTES, _MAX_COUNT = 1 << 32, 1 << 26
# The largest ratio by which DEFLATE can expand data.
_GZIP_RATIO = 1032
_PIECE = 1 << 20  # bytes read at once where nothing is kept


class IdxSource(IndexedSource):
    """Streams the images of one or several files."""

    streamed = True

    def __init__(self, spec: str) -> None:
        path = Path(spec)
        self._files = [path] if path.is_file() else _image_files(path)
        if len(sets := {_SPLIT.sub("", file.name.removesuffix(".gz").lower()): file.name for file in self._files}) > 1:
            named = ", ".join(list(sets.values())[:5])
            raise DataError(f"{spec} holds several data sets ({named}); name one file, or put each into its own folder")
        shapes = [_check(file) for file in self._files]
        if len({shape[1:] for shape in shapes}) > 1:
            raise DataError(f"{spec} holds pictures of several sizes; name one file")
        self._counts, self._shape = [shape[0] for shape in shapes], shapes[0][1:]
        total = sum(self._counts)
        if not total or image_shape(self._shape) is None:
            raise DataError(f"{spec} holds no pictures: an array of shape {(total, *self._shape)}")
        if total > _MAX_COUNT or math.prod(self._shape) > MAX_CARRIED_BYTES:
            raise DataError(
                f"{spec} claims an array of {(total, *self._shape)}, which is absurdly large; copy it again"
            )
        label_files = [_label_file(file) for file in self._files]
        columns, classes = NO_LABELS
        if any(label_files):
            numbers = [_read_labels(file, count) for file, count in zip(label_files, self._counts)]
            columns, classes = label_array(np.concatenate(numbers), total, spec)
        super().__init__(total, columns, classes, channels=1)

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isfile(spec):
            return _is_idx(Path(spec))
        return is_folder_of(spec, _image_files)

    def refs(self) -> Iterator[Ref]:
        number, length = 0, math.prod(self._shape)
        for path, count in zip(self._files, self._counts):
            with explain_damage(f"{path} is not a whole idx file", "copy it again"), _open(path) as file:
                _read_shape(file, path, _IMAGES)
                for _ in range(count):
                    image = np.frombuffer(_read(file, length), np.uint8).reshape(self._shape)
                    yield Ref(f"picture {number}", (image, self.classes(number)))
                    number += 1

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
    with explain_damage(f"{file} is not a whole idx file", "copy it again"), _open(file) as opened:
        (length,) = _read_shape(opened, file, _LABELS)
        if length != count:
            raise DataError(f"{file} has {length} labels for {count} pictures; copy it again, or remove it")
        return np.frombuffer(_read(opened, count), np.uint8).astype(np.int32)


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


def _check(path: Path) -> tuple[int, ...]:
    """Returns the shape of a file's array of images. Raises `DataError` for a damaged file."""
    with explain_damage(f"{path} is not a whole idx file", "copy it again"), _open(path) as file:
        shape = _read_shape(file, path, _IMAGES)
        rest = math.prod(shape)
        if rest > os.path.getsize(path) * _GZIP_RATIO:
            raise ValueError("it is cut short")
        while rest > 0:
            rest -= len(_read(file, min(rest, _PIECE)))
        if file.read(1):
            raise ValueError(f"more than its array of {shape}")
        return shape


def _read_shape(file: IO[bytes], path: Path, dimensions: int) -> tuple[int, ...]:
    """Reads a header. Raises `DataError` for a file of another kind, or an absurdly large array."""
    if file.read(4) != bytes([0, 0, 8, dimensions]):
        raise DataError(f"{path} is no idx file of bytes in {dimensions} dimensions; copy it again")
    shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
    if math.prod(shape) > _MAX_BYTES:
        raise DataError(f"{path} claims an array of {shape}, which is absurdly large; copy it again")
    return shape


def _read(file: IO[bytes], length: int) -> bytes:
    """Reads exactly that many bytes. Raises `ValueError` if there are fewer."""
    data = file.read(length)
    if len(data) < length:
        raise ValueError("it is cut short")
    return data
