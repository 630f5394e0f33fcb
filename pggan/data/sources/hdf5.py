"""HDF5 files: those of the older official release (`data1024x1024`, ... (N, C, R, R)) and others of uint8 images.

The data set with the largest images is read. Labels: a data set with one of LABEL_NAMES in the file, or
`NAME-labels.npy` beside it.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import (
    EXPECTED_ARRAY,
    LABEL_NAMES,
    MAX_LABEL_BYTES,
    NO_LABELS,
    IndexedReader,
    IndexedSource,
    Labels,
    channels_last,
    embedded_labels,
    load_labels,
    stacked_image_shape,
)
from pggan.data.sources.base import Reader, has_magic
from pggan.data.sources.file_base import explain_damage, report_bad_image
from pggan.utils.errors import DataError, UsageError

_MAGIC = b"\x89HDF\r\n\x1a\n"


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise UsageError("reading HDF5 needs one more package: pip install 'pggan[hdf5]'") from None
    return h5py


class Hdf5Reader(IndexedReader):
    """Reads images of one HDF5 dataset."""

    def __init__(self, path: str, name: str, image_size: tuple[int, int]) -> None:
        super().__init__(image_size)
        self.path, self.name = path, name
        # the official files also hold the lower resolutions, as 2x2 means
        self.box_filtered = re.fullmatch(r"data(\d+)x\1", name) is not None

    def image(self, content: int) -> NDArray[np.uint8]:
        with report_bad_image():
            if self._opened is None:
                self._opened = _h5py().File(self.path, "r")[self.name]
            return channels_last(np.asarray(self._opened[content]))


class Hdf5Source(IndexedSource):
    """One HDF5 file; its largest dataset of images, and labels in it or beside it."""

    def __init__(self, spec: str) -> None:
        self.path = spec
        h5py = _h5py()
        with explain_damage(f"{spec} is not a whole HDF5 file"), h5py.File(spec, "r") as file:
            images = _largest_images(file)
            if images is None:
                raise DataError(f"{spec} holds no data set of pictures; {EXPECTED_ARRAY}")
            self._name, count, (height, width, channels) = images
            columns, classes = _read_labels(h5py, file, count)
        self._size = (width, height)
        if not columns:
            columns, classes = load_labels(Path(spec).with_name(f"{Path(spec).stem}-labels.npy"), count)
        super().__init__(count, columns, classes, channels)

    @staticmethod
    def sniff(spec: str) -> bool:
        return has_magic(spec, _MAGIC)

    def reader(self, resolution: int, seed: int) -> Reader:
        return Hdf5Reader(os.path.abspath(self.path), self._name, self._size)


def _largest_images(file: Any) -> tuple[str, int, tuple[int, int, int]] | None:
    """Returns name, count and (height, width, channels) of the data set with the largest images, None without one."""
    data_sets: list[tuple[int, str, int, tuple[int, int, int]]] = []

    def visit(name: str, item: Any) -> None:
        shape: tuple[int, ...] = getattr(item, "shape", None) or ()
        if len(shape) in (3, 4) and (one := stacked_image_shape(shape, item.dtype)):
            data_sets.append((math.prod(one), name, shape[0], one))

    file.visititems(visit)
    return max(data_sets)[1:] if data_sets else None


def _read_labels(h5py: Any, file: Any, count: int) -> Labels:
    """Returns the labels in the first data set of LABEL_NAMES that fits."""
    for name in LABEL_NAMES:
        item = file.get(name)
        if not isinstance(item, h5py.Dataset) or item.ndim not in (1, 2) or len(item) != count:
            continue
        if item.nbytes <= MAX_LABEL_BYTES:
            is_text = h5py.check_string_dtype(item.dtype) is not None
            return embedded_labels(np.asarray(item.asstr()[()]).astype(str) if is_text else item[()], count)
    return NO_LABELS
