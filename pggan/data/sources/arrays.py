"""NumPy arrays: all images in one (.npy, .npz), or a folder with an array per image (`imgHQ00000.npy`, ...).

All images in one: uint8 (N, H, W, C), (N, C, H, W) or (N, H, W). A .npy file is memory-mapped and a .npz streamed, so
that neither has to fit in memory. Labels: an array of length N in the .npz, or `NAME-labels.npy` beside the .npy.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import (
    EXPECTED_ARRAY,
    LABEL_NAMES,
    MAX_LABEL_BYTES,
    NO_LABELS,
    ArrayReader,
    IndexedReader,
    IndexedSource,
    Labels,
    channels_last,
    embedded_labels,
    load_array,
    load_labels,
    stacked_image_shape,
)
from pggan.data.sources.base import BadImage, Reader, Ref, has_magic
from pggan.data.sources.file_base import NamedFilesSource, explain_damage, is_folder_of, report_bad_image
from pggan.data.sources.zip_archive import zip_names
from pggan.utils.errors import DataError
from pggan.utils.formatting import one_line

_MAGIC = b"\x93NUMPY"
# A data set has a few arrays (train, test, validation, masks); a .npz with more of them holds an array per image.
_MAX_ARRAYS = 16


class NpyReader(IndexedReader):
    """Reads images of a memory-mapped `.npy` array."""

    def __init__(self, path: str, image_size: tuple[int, int]) -> None:
        super().__init__(image_size)
        self.path = path

    def image(self, content: int) -> NDArray[np.uint8]:
        with report_bad_image():
            if self._opened is None:
                self._opened = load_array(Path(self.path), mapped=True)
            return channels_last(self._opened[content])


class NpySource(IndexedSource):
    """One `.npy` array of all images."""

    def __init__(self, spec: str) -> None:
        self.path = os.path.abspath(spec)
        with explain_damage(f"{spec} is not a whole array of pictures"):
            array = load_array(Path(spec), mapped=True)
        shape = stacked_image_shape(array.shape, array.dtype)
        if shape is None:
            raise DataError(f"{spec} is {str(array.dtype)[:40]} of shape {array.shape}; {EXPECTED_ARRAY}")
        height, width, channels = shape
        self._size = (width, height)
        columns, classes = load_labels(Path(spec).with_name(f"{Path(spec).stem}-labels.npy"), len(array))
        super().__init__(len(array), columns, classes, channels)

    @staticmethod
    def sniff(spec: str) -> bool:
        return has_magic(spec, _MAGIC)

    def reader(self, resolution: int, seed: int) -> Reader:
        return NpyReader(self.path, self._size)


class _Member(NamedTuple):
    """An array in a .npz, from its header."""

    name: str
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Height, width and channels of the images, None if it is no array of images."""
        return stacked_image_shape(self.shape, self.dtype)

    @property
    def image_bytes(self) -> int:
        return math.prod(self.image_shape or (0,))


class NpzSource(IndexedSource):
    """Streams the largest array of images of a .npz."""

    streamed = True

    def __init__(self, spec: str) -> None:
        self.path = spec
        with explain_damage(f"{spec} is not a whole .npz"), zipfile.ZipFile(spec) as archive:
            self._member, columns, classes = _choose(archive, spec)
        assert self._member.image_shape is not None
        super().__init__(self._member.shape[0], columns, classes, self._member.image_shape[2])

    @staticmethod
    def sniff(spec: str) -> bool:
        names = zip_names(spec)
        return bool(names) and all(name.endswith(".npy") for name in names)

    def refs(self) -> Iterator[Ref]:
        member = self._member
        problem = f"{self.path} is damaged"
        with explain_damage(problem), zipfile.ZipFile(self.path) as archive, archive.open(member.name) as file:
            _read_header(file)
            for i in range(len(self)):
                data = np.frombuffer(file.read(member.image_bytes), np.uint8)
                yield Ref(f"picture {i}", (data.reshape(member.shape[1:]), self.classes(i)))

    def reader(self, resolution: int, seed: int) -> Reader:
        return ArrayReader()


def _choose(archive: zipfile.ZipFile, where: str) -> tuple[_Member, Any, Any]:
    """Returns the largest array of images, its label columns and class numbers. Raises `DataError` if there is none."""
    members = []
    for name in archive.namelist():
        with archive.open(name) as file:
            members.append(_Member(name, *_read_header(file)))
    if len(members) > _MAX_ARRAYS:
        raise DataError(f"{where} holds {len(members)} arrays, it seems one a picture; unpack it and give the folder")
    image_members = [member for member in members if member.image_shape]
    if not image_members:
        arrays = ", ".join(f"{m.name.removesuffix('.npy')}: {str(m.dtype)[:40]} {m.shape}" for m in members[:4])
        raise DataError(f"{where} holds no array of pictures ({arrays}); {EXPECTED_ARRAY}")
    images = max(image_members, key=lambda member: member.shape[0] * member.image_bytes)
    if images.fortran_order:
        raise DataError(f"{where}: its pictures are in Fortran's order; save them with np.ascontiguousarray")
    others = {m.name.removesuffix(".npy"): m for m in members if m is not images and m.shape[:1] == images.shape[:1]}
    labels = next((others[name] for name in LABEL_NAMES if name in others), None)
    columns, classes = NO_LABELS if labels is None else _read_labels(archive, labels, where)
    return images, columns, classes


def _read_labels(archive: zipfile.ZipFile, member: _Member, where: str) -> Labels:
    if member.dtype.hasobject:
        raise DataError(f"{where}: {member.name} holds pickled objects, which are never loaded; save it as plain texts")
    if archive.getinfo(member.name).file_size > MAX_LABEL_BYTES:
        return NO_LABELS
    values = np.lib.format.read_array(io.BytesIO(archive.read(member.name)), allow_pickle=False)
    return embedded_labels(values, member.shape[0])


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Returns shape, whether it is in Fortran order, and type of an .npy file; stops before the data."""
    version = np.lib.format.read_magic(file)
    length = file.read(2 if version == (1, 0) else 4)
    text = file.read(min(int.from_bytes(length, "little"), 1 << 16))  # bounds damaged lengths
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(io.BytesIO(length + text))


class ArrayFolderReader(ArrayReader):
    """A reference's payload: (the file's name in the folder, ())."""

    def __init__(self, root: str) -> None:
        self.root = root

    def image(self, content: str) -> NDArray[np.uint8]:
        with report_bad_image():
            try:
                return channels_last(load_array(Path(self.root, content), mapped=True))
            except (BadImage, OSError):
                raise
            except Exception as error:  # noqa: BLE001 (NumPy raises a dozen kinds for damaged headers)
                raise BadImage(f"not a whole array ({one_line(error)})") from None


class ArrayFolderSource(NamedFilesSource):
    """Arrays (1, C, H, W), (C, H, W), (H, W, C) or (H, W) in natural order of their names."""

    def __init__(self, spec: str) -> None:
        super().__init__(spec, _array_names(spec))

    @staticmethod
    def sniff(spec: str) -> bool:
        return is_folder_of(spec, _array_names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, (name, ())) for name in self._names)

    def reader(self, resolution: int, seed: int) -> Reader:
        return ArrayFolderReader(os.path.abspath(self.path))


def _array_names(folder: str | Path) -> list[str]:
    names = (name for name in os.listdir(folder) if name.endswith(".npy") and not name.startswith("."))
    return [name for name in names if not name.endswith(("-labels.npy", "_labels.npy")) and name != "labels.npy"]
