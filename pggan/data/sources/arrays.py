"""NumPy arrays: one of all pictures (.npy, .npz), or a folder of one array a picture (`imgHQ00000.npy`, ...).

All pictures: uint8 (N, H, W, C), (N, C, H, W) or (N, H, W). A .npy file is mapped; of a .npz the pictures are streamed,
so that neither has to fit the memory. Labels: an array of N in the .npz, or `NAME-labels.npy` beside the .npy.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.archives import zip_names
from pggan.data.sources.array_base import (
    LABEL_NAMES,
    MOST_LABEL_BYTES,
    NO_LABELS,
    PICTURES,
    IndexedReader,
    IndexedSource,
    InlineArrayReader,
    Labels,
    channels_last,
    load_array,
    load_labels,
    own_labels,
    stacked_image_shape,
)
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source, reason
from pggan.data.sources.file_base import is_mostly_images
from pggan.data.sources.folder import FolderSource
from pggan.data.sources.image_io import convert_channels
from pggan.utils.errors import DataError, PgganError
from pggan.utils.formatting import natural_key

_MAGIC = b"\x93NUMPY"
# A .npz has no other order than its own, so that a sample is its beginning.
_SAMPLE = 256
# A .npz of more arrays of pictures than parts of a set have (train, test, validation, masks) has one a picture.
_MOST_ARRAYS = 16


class NpyReader(IndexedReader):
    def __init__(self, path: str, side: tuple[int, int]) -> None:
        self.path, self.side = path, side
        self._array: NDArray[np.uint8] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_array": None}

    def image(self, index: int) -> NDArray[np.uint8]:
        try:
            if self._array is None:
                self._array = load_array(Path(self.path), mapped=True)
            return channels_last(np.array(self._array[index]))
        except (OSError, ValueError, IndexError) as error:
            raise BadImage(reason(error)) from None

    def shape(self, index: int) -> tuple[int, int]:
        return self.side


class NpySource(IndexedSource):
    def __init__(self, spec: str) -> None:
        self.path = os.path.abspath(spec)
        try:
            array = load_array(Path(spec), mapped=True)
        except ValueError as error:
            raise DataError(f"{spec} is not a whole array of pictures ({error}); copy or make it again") from None
        form = stacked_image_shape(array.shape, array.dtype)
        if form is None:
            raise DataError(f"{spec} is {str(array.dtype)[:40]} of shape {array.shape}; {PICTURES}")
        self._side, self._channels = (form[1], form[0]), form[2]
        labels = Path(spec).with_name(f"{Path(spec).stem}-labels.npy")
        columns, classes = load_labels(labels, len(array)) if labels.is_file() else NO_LABELS
        super().__init__(len(array), columns, classes)

    @staticmethod
    def sniff(spec: str) -> bool:
        if not os.path.isfile(spec):
            return False
        with open(spec, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    @property
    def channels(self) -> int | None:
        return 1 if self._channels == 1 else 3

    def reader(self, resolution: int, seed: int) -> Reader:
        return NpyReader(self.path, self._side)


class _Member(NamedTuple):
    name: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def form(self) -> tuple[int, int, int] | None:
        return stacked_image_shape(self.shape, self.dtype)

    @property
    def size(self) -> int:
        height, width, channels = self.form or (0, 0, 0)
        return self.shape[0] * height * width * channels


class NpzSource(IndexedSource):
    """The largest array of pictures is read."""

    def __init__(self, spec: str) -> None:
        self.path = spec
        try:
            with zipfile.ZipFile(spec) as file:
                self._member, columns, classes = _choose(file, spec)
        except (PgganError, PermissionError):
            raise
        except Exception as error:  # noqa: BLE001 (zipfile and NumPy raise a dozen kinds for damaged files)
            raise DataError(f"{spec} is not a whole .npz ({reason(error)}); copy or make it again") from None
        super().__init__(self._member.shape[0], columns, classes)

    @staticmethod
    def sniff(spec: str) -> bool:
        names = zip_names(spec)
        return bool(names) and all(name.endswith(".npy") for name in names)

    @property
    def channels(self) -> int | None:
        assert self._member.form is not None
        return 1 if self._member.form[2] == 1 else 3

    def refs(self) -> Iterable[Ref]:
        return self._streamed()

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return islice(self._streamed(), min(count, among, _SAMPLE))

    def _streamed(self) -> Iterator[Ref]:
        shape = self._member.shape[1:]
        length = self._member.size // len(self)
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member.name) as file:
                _read_header(file)
                for i in range(len(self)):
                    data = np.frombuffer(file.read(length), np.uint8).reshape(shape)
                    yield Ref(f"picture {i}", (data, self.classes(i)))
        except Exception as error:  # noqa: BLE001
            raise DataError(f"{self.path} is damaged ({reason(error)}); copy or make it again") from None

    def reader(self, resolution: int, seed: int) -> Reader:
        return InlineArrayReader()


def _choose(file: zipfile.ZipFile, where: str) -> tuple[_Member, Any, Any]:
    """The array of pictures of a .npz and its labels. Raises `DataError` where there is none."""
    members = []
    for name in file.namelist():
        with file.open(name) as member:
            members.append(_Member(name, *_read_header(member)))
    if len(members) > _MOST_ARRAYS:
        raise DataError(f"{where} holds {len(members)} arrays, it seems one a picture; unpack it and give the folder")
    pictures = [member for member in members if member.form]
    if not pictures:
        held = ", ".join(f"{m.name.removesuffix('.npy')}: {str(m.dtype)[:40]} {m.shape}" for m in members[:4])
        raise DataError(f"{where} holds no array of pictures ({held}); {PICTURES}")
    chosen = max(pictures, key=lambda member: member.size)
    if chosen.fortran:
        raise DataError(f"{where}: its pictures are in Fortran's order; save them with np.ascontiguousarray")
    named = {m.name.removesuffix(".npy"): m for m in members if m is not chosen and m.shape[:1] == chosen.shape[:1]}
    found = next((named[name] for name in LABEL_NAMES if name in named), None)
    columns, classes = NO_LABELS if found is None else _labels(file, found, where)
    return chosen, columns, classes


def _labels(file: zipfile.ZipFile, member: _Member, where: str) -> Labels:
    if member.dtype.hasobject:
        raise DataError(f"{where}: {member.name} holds pickled objects, which are never loaded; save it as plain texts")
    if file.getinfo(member.name).file_size > MOST_LABEL_BYTES:
        return NO_LABELS
    values = np.lib.format.read_array(io.BytesIO(file.read(member.name)), allow_pickle=False)
    return own_labels(values, member.shape[0])


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    length = file.read(2 if version == (1, 0) else 4)
    text = file.read(min(int.from_bytes(length, "little"), 1 << 16))  # no header of an array is that long
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(io.BytesIO(length + text))


class ArrayFolderReader(Reader):
    def __init__(self, root: str) -> None:
        self.root = root

    def _load(self, ref: Ref) -> NDArray[np.uint8]:
        try:
            return channels_last(load_array(Path(self.root, ref.payload), mapped=True))
        except OSError as error:
            raise BadImage(error.strerror or str(error)) from None
        except ValueError as error:
            raise BadImage(f"not a whole array ({error})") from None

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        image, notes = convert_channels(np.array(self._load(ref)), channels)
        return DecodedImage(image, (), notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        height, width = self._load(ref).shape[:2]
        return width, height


class ArrayFolderSource(Source):
    """Arrays (1, C, H, W), (C, H, W), (H, W, C) or (H, W) in natural order of their names."""

    def __init__(self, spec: str) -> None:
        self.root = spec
        self._names = sorted(_arrays(spec), key=lambda name: (natural_key(name), name))

    @staticmethod
    def sniff(spec: str) -> bool:
        found = len(_arrays(spec)) if os.path.isdir(spec) else 0
        return found > 0 and not is_mostly_images(spec, found)

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def read_companion(self, name: str) -> bytes | None:
        return FolderSource.read_companion_in(self.root, name)

    def reader(self, resolution: int, seed: int) -> Reader:
        return ArrayFolderReader(os.path.abspath(self.root))


def _arrays(folder: str) -> list[str]:
    names = (name for name in os.listdir(folder) if name.endswith(".npy") and not name.startswith("."))
    return [name for name in names if not name.endswith(("-labels.npy", "_labels.npy")) and name != "labels.npy"]
