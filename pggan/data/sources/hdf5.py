"""HDF5 files: the older official release's (`data1024x1024`, ... (N, C, R, R)) and other ones of uint8 pictures.

The largest data set of pictures is read. Labels: a data set of such a name in the file, or `NAME-labels.npy` beside it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import (
    LABEL_NAMES,
    MOST_LABEL_BYTES,
    NO_LABELS,
    PICTURES,
    IndexedReader,
    IndexedSource,
    Labels,
    channels_last,
    load_labels,
    own_labels,
    stacked_image_shape,
)
from pggan.data.sources.base import BadImage, Reader, reason
from pggan.utils.errors import DataError, PgganError, UsageError

_MAGIC = b"\x89HDF\r\n\x1a\n"


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise UsageError("reading HDF5 needs one more package: pip install 'pggan[hdf5]'") from None
    return h5py


class Hdf5Reader(IndexedReader):
    def __init__(self, path: str, name: str, side: tuple[int, int]) -> None:
        self.path, self.name, self.side = path, name, side
        # the official files hold the lower resolutions, too
        self.box_filtered = re.fullmatch(r"data(\d+)x\1", name) is not None
        self._data: Any = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_data": None}

    def image(self, index: int) -> NDArray[np.uint8]:
        try:
            if self._data is None:
                self._data = _h5py().File(self.path, "r")[self.name]
            return channels_last(np.asarray(self._data[index]))
        except (PgganError, BadImage, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 (HDF5 raises a dozen kinds for damaged files)
            raise BadImage(reason(error)) from None

    def shape(self, index: int) -> tuple[int, int]:
        return self.side


class Hdf5Source(IndexedSource):
    def __init__(self, spec: str) -> None:
        self.path = spec
        h5py = _h5py()
        try:
            with h5py.File(spec, "r") as file:
                found = _pictures(file)
                if not found:
                    raise DataError(f"{spec} holds no data set of pictures; {PICTURES}")
                _, self._name, count, (height, width, self._channels) = found
                columns, classes = _labels(h5py, file, count)
        except (PgganError, PermissionError):
            raise
        except Exception as error:  # noqa: BLE001
            raise DataError(f"{spec} is not a whole HDF5 file ({reason(error)}); copy or make it again") from None
        self._side = (width, height)
        beside = Path(spec).with_name(f"{Path(spec).stem}-labels.npy")
        if not columns and beside.is_file():
            columns, classes = load_labels(beside, count)
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


def _pictures(file: Any) -> tuple[int, str, int, tuple[int, int, int]] | None:
    """Of the data set with the largest pictures: their values, its name, their number and their form."""
    found: list[tuple[int, str, int, tuple[int, int, int]]] = []

    def look(name: str, item: Any) -> None:
        shape: tuple[int, ...] = getattr(item, "shape", None) or ()
        if len(shape) in (3, 4) and (form := stacked_image_shape(shape, item.dtype)):
            found.append((form[0] * form[1] * form[2], name, shape[0], form))

    file.visititems(look)
    return max(found, default=None)


def _labels(h5py: Any, file: Any, count: int) -> Labels:
    """The labels among the data sets, where there are some that fit."""
    for name in LABEL_NAMES:
        item = file.get(name)
        if not isinstance(item, h5py.Dataset) or item.ndim not in (1, 2) or len(item) != count:
            continue
        if item.nbytes <= MOST_LABEL_BYTES:
            texts = h5py.check_string_dtype(item.dtype) is not None
            return own_labels(np.asarray(item.asstr()[()]).astype(str) if texts else item[()], count)
    return NO_LABELS
