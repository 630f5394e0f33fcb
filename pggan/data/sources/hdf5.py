"""HDF5 files: those of the older official release (`data1024x1024`, ... (N, C, R, R)), MATLAB's v7.3, and others.

A data set of uint8 images is read, also in a group (`train/images`): of those whose names say pictures, the one with
the largest. Labels: a data set beside it with one of `label_names`, or `NAME-labels.npy` beside the file.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_base import (
    EXPECTED_ARRAY,
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
from pggan.data.sources.array_choice import Candidate, choose, join_remarks, label_names
from pggan.data.sources.base import Reader
from pggan.data.sources.file_base import explain_damage, report_bad_image
from pggan.data.sources.hdf5_data import CheckedDataset, h5py, outside_error, walk
from pggan.utils.errors import DataError
from pggan.utils.formatting import printable
from pggan.utils.limits import MAX_CARRIED_BYTES

_MAGIC, _OLD_MATLAB, _MATLAB_MARK = b"\x89HDF\r\n\x1a\n", b"MATLAB 5.0 MAT-file", "MATLAB_class"
# A user block (MATLAB's header) of this many bytes may precede the file.
_USER_BLOCKS = (512, 1024, 2048, 4096, 8192)


class Hdf5Reader(IndexedReader):
    """Reads images of one HDF5 data set. `turned`: its axes are MATLAB's, (N, C, W, H) or (N, W, H)."""

    def __init__(self, path: str, name: str, image_size: tuple[int, int], turned: bool) -> None:
        super().__init__(image_size)
        self.path, self.name, self.turned = path, name, turned
        # the official files also hold the lower resolutions, as 2x2 means
        self.box_filtered = re.fullmatch(r"data(\d+)x\1", name) is not None

    def image(self, content: int) -> NDArray[np.uint8]:
        with report_bad_image(self.path):
            if self._opened is None:
                self._opened = CheckedDataset(h5py().File(self.path, "r")[self.name], f"{self.path}: {self.name}")
            row = self._opened.row(content)
            return channels_last(np.swapaxes(row, -1, -2) if self.turned else row)


class _Images(NamedTuple):
    """A data set of images."""

    data_set: Any
    total: int
    image_shape: tuple[int, int, int]  # height, width, channels
    turned: bool


class Hdf5Source(IndexedSource):
    """One HDF5 file: a data set of images, and labels in it or beside it."""

    choices = ("dataset",)

    def __init__(self, spec: str, dataset: str | None = None) -> None:
        if _begins(spec, _OLD_MATLAB):
            raise DataError(f"{spec} is a MATLAB file of an older format; save it in MATLAB with '-v7.3'")
        self.path = spec
        with explain_damage(f"{spec} is not a whole HDF5 file"), h5py().File(spec, "r") as file:
            data_sets, outside = walk(file, spec)
            images = {name: one for name, item in data_sets.items() if (one := _as_images(item))}
            candidates = [Candidate(name, (math.prod(i.image_shape), i.total)) for name, i in images.items()]
            if not images and not outside:
                raise DataError(_nothing(spec, data_sets))
            self._name, passed_over = choose([*candidates, *(Candidate(name, ()) for name in outside)], dataset, spec)
            if self._name in outside:
                raise DataError(outside_error(f"{spec}: {printable(self._name)[:80]}"))
            chosen = images[self._name]
            checked = CheckedDataset(chosen.data_set, f"{spec}: {self._name}")
            if checked.nbytes // chosen.total > MAX_CARRIED_BYTES:
                raise DataError(f"{spec}: its pictures are above the limit of {MAX_CARRIED_BYTES >> 20} MiB each")
            columns, classes, problem = _read_labels(spec, data_sets, outside, self._name, chosen)
        height, width, channels = chosen.image_shape
        self._size, self._turned = (width, height), chosen.turned
        if not columns:
            columns, classes = load_labels(Path(spec).with_name(f"{Path(spec).stem}-labels.npy"), chosen.total)
        super().__init__(chosen.total, columns, classes, channels)
        self.remark = join_remarks(passed_over, None if columns else problem)

    @staticmethod
    def sniff(spec: str) -> bool:
        return _begins(spec, _MAGIC) or _begins(spec, _OLD_MATLAB) or _has_user_block(spec)

    def reader(self, resolution: int, seed: int) -> Reader:
        return Hdf5Reader(os.path.abspath(self.path), self._name, self._size, self._turned)


def _begins(spec: str, magic: bytes, offset: int = 0) -> bool:
    if not os.path.isfile(spec):
        return False
    with open(spec, "rb") as file:
        file.seek(offset)
        return file.read(len(magic)) == magic


def _has_user_block(spec: str) -> bool:
    """Whether HDF5 begins behind a user block, and the file is no tar or zip that holds an HDF5 file."""
    is_archive = _begins(spec, b"ustar", 257) or _begins(spec, b"PK")
    return not is_archive and any(_begins(spec, _MAGIC, offset) for offset in _USER_BLOCKS)


def _as_images(item: Any) -> _Images | None:
    """Returns what a data set holds if it is uint8 images, else None."""
    shape = tuple(item.shape or ())
    one = stacked_image_shape(shape, item.dtype) if len(shape) in (3, 4) else None
    if one is None:
        return None
    turned = _MATLAB_MARK in item.attrs and (len(shape) == 3 or shape[1] in (1, 3, 4))
    height, width, channels = one
    if turned:
        width, height = (shape[-2], shape[-1])
        channels = shape[1] if len(shape) == 4 else 1
    return _Images(item, shape[0], (height, width, channels), turned)


def _nothing(spec: str, data_sets: dict[str, Any]) -> str:
    arrays = ", ".join(
        f"{name[:40]}: {str(item.dtype)[:40]} {item.shape}" for name, item in list(data_sets.items())[:4]
    )
    if any(_MATLAB_MARK in item.attrs for item in data_sets.values()):
        return f"{spec} holds no data set of pictures ({arrays}); in MATLAB, save uint8 of H x W x C x N, or H x W x N"
    return f"{spec} holds no data set of pictures ({arrays}); {EXPECTED_ARRAY}"


def _read_labels(
    spec: str, data_sets: dict[str, Any], outside: list[str], image_name: str, images: _Images
) -> tuple[Any, Any, str | None]:
    """Returns the labels beside the images, or in the file's root, and what is wrong with some that cannot be read."""
    group = image_name.rpartition("/")[0]
    known = {name.lower(): name for name in [*data_sets, *outside]}
    prefixes = dict.fromkeys([f"{group}/" if group else "", ""])
    problem = None
    for wanted in [prefix.lower() + name for prefix in prefixes for name in label_names(image_name)]:
        name = known.get(wanted)
        if name in outside:
            raise DataError(outside_error(f"{spec}: {printable(str(name))[:80]}"))
        item = data_sets.get(name or "")
        if item is None or name == image_name or images.total not in (item.shape or ()) or len(item.shape) > 2:
            continue
        labels = _label_values(item, f"{spec}: {name}", images)
        if labels[0]:
            return (*labels, None)
        problem = f"{name} holds no labels that can be read"
    return (*NO_LABELS, problem)


def _label_values(item: Any, where: str, images: _Images) -> Labels:
    checked = CheckedDataset(item, where)
    text = h5py().check_string_dtype(item.dtype)
    if text is not None and text.length is None:
        checked.verify()
        return embedded_labels(_texts(item, images.total), images.total)
    if checked.nbytes > MAX_LABEL_BYTES or item.dtype.hasobject:
        return NO_LABELS
    values = checked.all()
    if images.turned or (values.ndim == 2 and len(values) != images.total):
        values = values.T if values.ndim == 2 and values.shape[1] == images.total else values
    return embedded_labels(values, images.total)


def _texts(item: Any, count: int) -> NDArray[Any]:
    """Returns texts of any length, (N,). Each may be as large as the file: few are read at a time, and few kept."""
    if item.shape not in ((count,), (count, 1)):
        return np.zeros(0)
    size = os.path.getsize(item.file.filename)
    step = max(1, min(count, MAX_CARRIED_BYTES // max(size, 1)))
    texts: list[str] = []
    distinct: dict[str, str] = {}
    for start in range(0, count, step):
        for text in item.asstr(errors="replace")[start : start + step].ravel():
            texts.append(distinct.setdefault(text[:200], text[:200]))
        if len(distinct) > 2000:
            return np.zeros(0)
    return np.array(texts, dtype=object)
