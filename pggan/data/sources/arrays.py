"""NumPy arrays: one of all pictures (.npy, .npz), or a folder of one array a picture (`imgHQ00000.npy`, ...).

All pictures: uint8 (N, H, W, C), (N, C, H, W) or (N, H, W). A .npy file is mapped; of a .npz the pictures are streamed,
so that neither has to fit the memory. Labels: an array of N in the .npz, or `NAME-labels.npy` beside the .npy.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.imaging import as_channels
from pggan.data.sources.base import BadPicture, Picture, Reader, Ref, Source
from pggan.data.sources.numbered import CHANNELS, NO_LABELS, NumberedReader, NumberedSource, channels_last, label_array
from pggan.data.sources.official import load_labels
from pggan.errors import DataError
from pggan.words import natural_key

_MAGIC = b"\x93NUMPY"
_LABELS = ("labels", "label", "y", "y_train", "classes")
# A .npz has no other order than its own, so that a sample is its beginning.
_SAMPLE = 256


def _magic(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(len(_MAGIC))


def _check_pictures(shape: tuple[int, ...], dtype: Any, where: str) -> tuple[int, int, int]:
    """Height, width and channels of an array of pictures. Raises `DataError` for another one."""
    if dtype == np.uint8 and len(shape) == 3 and shape[0]:
        return shape[1], shape[2], 1
    if dtype == np.uint8 and len(shape) == 4 and shape[0] and shape[1] in CHANNELS:
        return shape[2], shape[3], shape[1]
    if dtype == np.uint8 and len(shape) == 4 and shape[0] and shape[3] in CHANNELS:
        return shape[1], shape[2], shape[3]
    raise DataError(f"{where}: {dtype} of shape {shape}; pictures are uint8 (N, H, W, C), (N, C, H, W) or (N, H, W)")


class NpyReader(NumberedReader):
    def __init__(self, path: str, side: tuple[int, int]) -> None:
        self.path, self.side = path, side
        self._array: NDArray[np.uint8] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_array": None}

    def image(self, index: int) -> NDArray[np.uint8]:
        if self._array is None:
            self._array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return channels_last(np.asarray(self._array[index]))

    def shape(self, index: int) -> tuple[int, int]:
        return self.side


class NpySource(NumberedSource):
    def __init__(self, spec: str) -> None:
        self.path = os.path.abspath(spec)
        try:
            array = np.load(spec, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{spec} is not a whole array ({error}); copy or make it again") from None
        height, width, self._channels = _check_pictures(array.shape, array.dtype, spec)
        self._side = (width, height)
        labels = Path(spec).with_name(f"{Path(spec).stem}-labels.npy")
        columns, classes = load_labels(labels, len(array)) if labels.is_file() else NO_LABELS
        super().__init__(len(array), columns, classes)

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isfile(spec) and _magic(Path(spec)) == _MAGIC

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


class NpzReader(Reader):
    """A reference carries the picture and its labels."""

    def read(self, ref: Ref, channels: int) -> Picture:
        array, labels = ref.payload
        image, notes = as_channels(channels_last(array), channels)
        return Picture(image, labels, notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        height, width = channels_last(ref.payload[0]).shape[:2]
        return width, height


class NpzSource(NumberedSource):
    def __init__(self, spec: str) -> None:
        self.path = spec
        try:
            with zipfile.ZipFile(spec) as file:
                members = [_header(file, name) for name in file.namelist() if name.endswith(".npy")]
            pictures = [m for m in members if m.dtype == np.uint8 and len(m.shape) in (3, 4) and m.shape[0]]
            if not pictures:
                raise DataError(f"{spec} holds no uint8 array of pictures, (N, H, W, C), (N, C, H, W) or (N, H, W)")
            self._member = max(pictures, key=lambda m: int(np.prod(m.shape, dtype=np.int64)))
            count = self._member.shape[0]
            _, _, self._channels = _check_pictures(self._member.shape, self._member.dtype, spec)
            if self._member.fortran:
                raise DataError(f"{spec}: its pictures are in Fortran's order; save them with np.ascontiguousarray")
            found = {
                m.name.removesuffix(".npy"): m for m in members if m.shape[:1] == (count,) and m is not self._member
            }
            name = next((each for each in _LABELS if each in found), None)
            labels = np.load(spec, allow_pickle=False)[name] if name else None
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, zlib.error, KeyError) as error:
            raise DataError(f"{spec} is not a whole .npz ({error}); copy or make it again") from None
        columns, classes = label_array(labels, count, spec) if labels is not None else NO_LABELS
        super().__init__(count, columns, classes)

    @staticmethod
    def sniff(spec: str) -> bool:
        if not os.path.isfile(spec) or not zipfile.is_zipfile(spec):
            return False
        with zipfile.ZipFile(spec) as file:
            names = file.namelist()
        return bool(names) and all(name.endswith(".npy") for name in names)

    @property
    def channels(self) -> int | None:
        return 1 if self._channels == 1 else 3

    def refs(self) -> Iterable[Ref]:
        return self._streamed()

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return islice(self._streamed(), min(count, among, _SAMPLE))

    def _streamed(self) -> Iterator[Ref]:
        shape = self._member.shape[1:]
        length = int(np.prod(shape))
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member.name) as file:
                _read_header(file)
                for i in range(len(self)):
                    data = file.read(length)
                    yield Ref(f"picture {i}", (np.frombuffer(data, np.uint8).reshape(shape), self.classes(i)))
        except (zipfile.BadZipFile, ValueError, zlib.error, EOFError) as error:
            raise DataError(f"{self.path} is damaged ({error}); copy or make it again") from None

    def reader(self, resolution: int, seed: int) -> Reader:
        return NpzReader()


def _header(file: zipfile.ZipFile, name: str) -> _Member:
    with file.open(name) as member:
        shape, fortran, dtype = _read_header(member)
    return _Member(name, shape, fortran, dtype)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


class ArrayFolderReader(Reader):
    def __init__(self, root: str) -> None:
        self.root = root

    def _load(self, ref: Ref, mapped: bool) -> NDArray[np.uint8]:
        try:
            path = os.path.join(self.root, ref.payload)
            return channels_last(np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False))
        except OSError as error:
            raise BadPicture(error.strerror or str(error)) from None
        except (ValueError, EOFError) as error:
            raise BadPicture(f"not a whole array ({error})") from None

    def read(self, ref: Ref, channels: int) -> Picture:
        image, notes = as_channels(self._load(ref, False), channels)
        return Picture(image, (), notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        height, width = self._load(ref, True).shape[:2]
        return width, height


class ArrayFolderSource(Source):
    """Arrays (1, C, H, W), (C, H, W), (H, W, C) or (H, W) in natural order of their names."""

    def __init__(self, spec: str) -> None:
        self.root = spec
        self._names = sorted(_arrays(spec), key=natural_key)

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isdir(spec) and bool(_arrays(spec))

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def reader(self, resolution: int, seed: int) -> Reader:
        return ArrayFolderReader(os.path.abspath(self.root))


def _arrays(folder: str) -> list[str]:
    """The arrays of a folder that holds nothing else to speak of: pictures beside them are what is meant then."""
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    arrays = [name for name in names if name.endswith(".npy") and not name.endswith("-labels.npy")]
    return arrays if 2 * len(arrays) > len(names) else []
