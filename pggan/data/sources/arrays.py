"""NumPy arrays: all images in one (.npy, .npz), or a folder with an array per image (`imgHQ00000.npy`, ...).

All images in one: uint8 (N, H, W, C), (N, C, H, W) or (N, H, W). Both are read image by image, so that neither has to
fit in memory. Labels: an array of length N in the .npz, or `NAME-labels.npy` beside the .npy.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import (
    EXPECTED_ARRAY,
    MAX_LABEL_BYTES,
    NO_LABELS,
    ArrayReader,
    IndexedReader,
    IndexedSource,
    channels_last,
    embedded_labels,
    load_labels,
    stacked_image_shape,
)
from pggan.data.sources.array_choice import Candidate, choose, join_remarks, label_names
from pggan.data.sources.base import BadImage, Reader, Ref, has_magic
from pggan.data.sources.file_base import NamedFilesSource, explain_damage, is_folder_of, report_bad_image
from pggan.data.sources.npy_format import NpyHeader, NpyRows, describe, read_body, read_file, read_header
from pggan.data.sources.zip_archive import zip_names
from pggan.utils.errors import DataError
from pggan.utils.formatting import one_line
from pggan.utils.limits import MAX_CARRIED_BYTES, MAX_PIXELS

_MAGIC = b"\x93NUMPY"
# A data set has a few arrays (train, test, validation, masks); a .npz with more of them holds an array per image.
_MAX_ARRAYS = 16


class NpyReader(IndexedReader):
    """Reads images of an `.npy` array, one at a time."""

    def __init__(self, path: str, image_size: tuple[int, int]) -> None:
        super().__init__(image_size)
        self.path = path

    def image(self, content: int) -> NDArray[np.uint8]:
        with report_bad_image(self.path):
            if self._opened is None:
                with explain_damage(f"{self.path} is not a whole array of pictures"):
                    self._opened = NpyRows(self.path, MAX_CARRIED_BYTES)
            return channels_last(self._opened[content])


class NpySource(IndexedSource):
    """One `.npy` array of all images."""

    def __init__(self, spec: str) -> None:
        self.path = os.path.abspath(spec)
        with explain_damage(f"{spec} is not a whole array of pictures"):
            rows = NpyRows(spec, MAX_CARRIED_BYTES)
            rows.close()
        header = rows.header
        shape = stacked_image_shape(header.shape, header.dtype)
        if shape is None:
            raise DataError(f"{spec} is {str(header.dtype)[:40]} of shape {header.shape}; {EXPECTED_ARRAY}")
        height, width, channels = shape
        self._size = (width, height)
        columns, classes = load_labels(Path(spec).with_name(f"{Path(spec).stem}-labels.npy"), header.shape[0])
        super().__init__(header.shape[0], columns, classes, channels)

    @staticmethod
    def sniff(spec: str) -> bool:
        return has_magic(spec, _MAGIC)

    def reader(self, resolution: int, seed: int) -> Reader:
        return NpyReader(self.path, self._size)


class _Member(NamedTuple):
    """An array in a .npz, from its header."""

    file: str  # with the ending
    header: NpyHeader

    @property
    def name(self) -> str:
        return self.file.removesuffix(".npy")

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """Height, width and channels of the images, None if it is no array of images."""
        return stacked_image_shape(self.header.shape, self.header.dtype)

    @property
    def image_bytes(self) -> int:
        return math.prod(self.image_shape or (0,))


class NpzSource(IndexedSource):
    """Streams an array of images of a .npz."""

    streamed = True
    choices = ("dataset",)

    def __init__(self, spec: str, dataset: str | None = None) -> None:
        self.path = spec
        with explain_damage(f"{spec} is not a whole .npz"), zipfile.ZipFile(spec) as archive:
            members = _members(archive, spec)
            self._member, passed_over = _choose(members, spec, dataset)
            columns, classes, problem = _read_labels(archive, members, self._member, spec)
        assert self._member.image_shape is not None
        super().__init__(self._member.header.shape[0], columns, classes, self._member.image_shape[2])
        self.remark = join_remarks(passed_over, problem)

    @staticmethod
    def sniff(spec: str) -> bool:
        names = zip_names(spec)
        return bool(names) and all(name.endswith(".npy") for name in names)

    def refs(self) -> Iterator[Ref]:
        member = self._member
        problem = f"{self.path} is damaged"
        with explain_damage(problem), zipfile.ZipFile(self.path) as archive, archive.open(member.file) as file:
            read_header(file)
            for i in range(len(self)):
                data = np.frombuffer(file.read(member.image_bytes), np.uint8)
                yield Ref(f"picture {i}", (data.reshape(member.header.shape[1:]), self.classes(i)))

    def reader(self, resolution: int, seed: int) -> Reader:
        return ArrayReader()


def _members(archive: zipfile.ZipFile, where: str) -> list[_Member]:
    """Returns the arrays of a .npz, from their headers. Raises `DataError` for what NumPy does not write."""
    entries = archive.infolist()
    if len(entries) > _MAX_ARRAYS:
        raise DataError(f"{where} holds {len(entries)} arrays, it seems one a picture; unpack it and give the folder")
    members = []
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others expand without a bound
            raise DataError(f"{where} is compressed in a way that is not read; save it with np.savez_compressed")
        with archive.open(entry) as file:
            members.append(_Member(entry.filename, read_header(file)))
    return members


def _choose(members: list[_Member], where: str, dataset: str | None) -> tuple[_Member, str | None]:
    """Returns the array of images to read, and a remark about others. Raises `DataError` if there is none."""
    images = {member.name: member for member in members if member.image_shape}
    if not images:
        arrays = ", ".join(describe(m.name, m.header.shape, m.header.dtype) for m in members[:4])
        raise DataError(f"{where} holds no array of pictures ({arrays}); {EXPECTED_ARRAY}")
    candidates = [Candidate(name, (m.header.nbytes,)) for name, m in images.items()]
    name, passed_over = choose(candidates, dataset and dataset.removesuffix(".npy"), where)
    if images[name].header.fortran_order:
        raise DataError(f"{where}: its pictures are in Fortran's order; save them with np.ascontiguousarray")
    if images[name].image_bytes > MAX_CARRIED_BYTES:
        raise DataError(f"{where}: its pictures are above the limit of {MAX_CARRIED_BYTES >> 20} MiB each; save .npy")
    return images[name], passed_over


def _read_labels(
    archive: zipfile.ZipFile, members: list[_Member], images: _Member, where: str
) -> tuple[Any, Any, str | None]:
    """Returns the labels of the images, and what is wrong with some that cannot be read."""
    count, problem = images.header.shape[0], None
    others = {m.name.lower(): m for m in members if m is not images and m.header.shape[:1] == (count,)}
    for member in (others[name] for name in label_names(images.name) if name in others):
        if member.header.dtype.hasobject:
            raise DataError(
                f"{where}: {member.file} holds pickled objects, which are never loaded; save it as plain texts"
            )
        if member.header.nbytes <= MAX_LABEL_BYTES:
            with archive.open(member.file) as file:
                columns, classes = embedded_labels(read_body(file, read_header(file), MAX_LABEL_BYTES), count)
            if columns:
                return columns, classes, None
        problem = f"{member.name} holds no labels that can be read"
    return (*NO_LABELS, problem)


class ArrayFolderReader(ArrayReader):
    """A reference's payload: (the file's name in the folder, ())."""

    def __init__(self, root: str) -> None:
        self.root = root

    def image(self, content: str) -> NDArray[np.uint8]:
        with report_bad_image(self.root):
            try:
                return channels_last(read_file(Path(self.root, content), 4 * MAX_PIXELS))
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
