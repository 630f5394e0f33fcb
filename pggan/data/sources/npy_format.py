"""The .npy format: headers and arrays, without pickles and memory maps; sizes are checked before anything is read.

A memory map of a file that another program cuts short ends the process (SIGBUS); a read that returns too little does
not.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import DataError

# Bytes of a header; NumPy's own are below 200.
_MAX_HEADER_BYTES = 1 << 16


class NpyHeader(NamedTuple):
    """Describes an array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def check_plain(self) -> None:
        """Raises `ValueError` for pickled objects, negative lengths and items of no bytes."""
        if self.dtype.hasobject:
            raise ValueError("pickled objects, which are never loaded")
        if min(self.shape, default=0) < 0 or not self.dtype.itemsize:
            raise ValueError(f"an impossible array of {str(self.dtype)[:40]}, shape {self.shape}")

    def array(self, data: bytes) -> NDArray[Any]:
        """Returns the array of these bytes, read-only. Raises `ValueError` if they are fewer or more than its own."""
        flat = np.frombuffer(data, self.dtype)
        return flat.reshape(self.shape, order="F" if self.fortran_order else "C")


def read_header(file: IO[bytes]) -> NpyHeader:
    """Reads a header; stops before the data. Damaged ones raise a dozen kinds of errors."""
    version = np.lib.format.read_magic(file)
    length = file.read(2 if version == (1, 0) else 4)
    text = file.read(min(int.from_bytes(length, "little"), _MAX_HEADER_BYTES))  # bounds damaged lengths
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return NpyHeader(*read(io.BytesIO(length + text)))


def read_body(file: IO[bytes], header: NpyHeader, max_bytes: int) -> NDArray[Any]:
    """Reads the data after a header. Raises `ValueError` if they take more than `max_bytes`, or are cut short."""
    header.check_plain()
    if header.nbytes > max_bytes:
        raise ValueError(f"an array of {header.nbytes >> 20} MiB; the limit is {max_bytes >> 20}")
    return header.array(_read_whole(file, header.nbytes))


def read_file(path: str | Path, max_bytes: int) -> NDArray[Any]:
    """Reads an .npy file, whatever its ending. Raises as `read_header` and `read_body`."""
    if not os.path.isfile(path):  # a pipe or a device would be waited for
        raise ValueError("not a file")
    with open(path, "rb") as file:
        header = read_header(file)
        header.check_plain()
        if header.nbytes > os.fstat(file.fileno()).st_size - file.tell():
            raise ValueError("it is cut short")
        return read_body(file, header, max_bytes)


class NpyRows:
    """The rows of an .npy file's array in any order, one in memory at a time. Raises `ValueError` for a cut file.

    Arrays in Fortran's order, whose rows lie scattered, are read whole, up to `max_whole` bytes.
    """

    def __init__(self, path: str | Path, max_whole: int) -> None:
        if not os.path.isfile(path):
            raise ValueError("not a file")
        # a buffer would read ahead at each row; the file stays open as long as its rows are read
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self.path, self.header = str(path), read_header(self._file)
        self.header.check_plain()
        self._offset = self._file.tell()
        if self.header.nbytes > os.fstat(self._file.fileno()).st_size - self._offset:
            raise ValueError("it is cut short")
        self._whole: NDArray[Any] | None = None
        if self.header.fortran_order and self.header.nbytes > max_whole:
            raise DataError(f"{path}: its pictures are in Fortran's order; save them with np.ascontiguousarray")
        self._row = self.header._replace(shape=self.header.shape[1:], fortran_order=False)
        self._max_whole = max_whole

    def __getitem__(self, index: int) -> NDArray[Any]:
        if self.header.fortran_order:
            if self._whole is None:
                self._file.seek(self._offset)
                self._whole = read_body(self._file, self.header, self._max_whole)
            row: NDArray[Any] = self._whole[index]
            return row
        row = np.empty(self._row.shape, self._row.dtype)
        self._file.seek(self._offset + index * row.nbytes)
        if (self._file.readinto(row.reshape(-1).view(np.uint8).data) or 0) < row.nbytes:
            raise DataError(f"{self.path} was cut short while it was read; copy or make it again")
        return row

    def close(self) -> None:
        self._file.close()


def _read_whole(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError("it is cut short")
    return data


def describe(name: str, shape: Sequence[int], dtype: Any) -> str:
    """Names an array for a message: "images: uint8 (60, 64, 64, 3)"."""
    return f"{name}: {str(dtype)[:40]} {tuple(shape)}"
