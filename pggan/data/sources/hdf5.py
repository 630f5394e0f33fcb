"""HDF5 files: the older official release's (`data1024x1024`, ... (N, C, R, R)) and other ones of uint8 pictures.

The largest data set of pictures is read. Labels: a data set of such a name in the file, or `NAME-labels.npy` beside it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import BadPicture, Reader
from pggan.data.sources.numbered import CHANNELS, NO_LABELS, NumberedReader, NumberedSource, channels_last, label_array
from pggan.data.sources.official import load_labels
from pggan.errors import DataError, UsageError

_MAGIC = b"\x89HDF\r\n\x1a\n"
_LABELS = ("labels", "label", "attributes", "y")


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise UsageError("reading HDF5 needs one more package: pip install 'pggan[hdf5]'") from None
    return h5py


class Hdf5Reader(NumberedReader):
    boxed = True

    def __init__(self, path: str, name: str, side: tuple[int, int]) -> None:
        self.path, self.name, self.side = path, name, side
        self._data: Any = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_data": None}

    def image(self, index: int) -> NDArray[np.uint8]:
        try:
            if self._data is None:
                self._data = _h5py().File(self.path, "r")[self.name]
            return channels_last(np.asarray(self._data[index]))
        except (OSError, KeyError, RuntimeError) as error:
            raise BadPicture(" ".join(str(error).split())[:120]) from None

    def shape(self, index: int) -> tuple[int, int]:
        return self.side


class Hdf5Source(NumberedSource):
    def __init__(self, spec: str) -> None:
        self.path = spec
        try:
            with _h5py().File(spec, "r") as file:
                found = _pictures(file)
                if not found:
                    raise DataError(f"{spec} holds no data set of uint8 pictures, (N, C, H, W) or (N, H, W, C)")
                self._name, shape = found
                labels = next((np.asarray(file[name]) for name in _LABELS if name in file), None)
        except (OSError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:120]
            raise DataError(f"{spec} is not a whole HDF5 file ({reason}); copy or make it again") from None
        count = shape[0]
        first = shape[1] in CHANNELS
        self._channels = shape[1] if first else shape[3]
        self._side = (shape[3], shape[2]) if first else (shape[2], shape[1])
        beside = Path(spec).with_name(f"{Path(spec).stem}-labels.npy")
        if labels is not None:
            columns, classes = label_array(labels, count, spec)
        else:
            columns, classes = load_labels(beside, count) if beside.is_file() else NO_LABELS
        super().__init__(count, columns, classes)

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
        return Hdf5Reader(os.path.abspath(self.path), self._name, self._side)


def _pictures(file: Any) -> tuple[str, tuple[int, ...]] | None:
    """Name and shape of the data set with the largest pictures."""
    found: list[tuple[int, str, tuple[int, ...]]] = []

    def look(name: str, item: Any) -> None:
        shape: tuple[int, ...] = getattr(item, "shape", ())
        is_pictures = len(shape) == 4 and shape[0] > 0 and (shape[1] in CHANNELS or shape[3] in CHANNELS)
        if is_pictures and str(item.dtype) == "uint8":
            found.append((shape[1] * shape[2] * shape[3], name, tuple(shape)))

    file.visititems(look)
    return max(found)[1:] if found else None
