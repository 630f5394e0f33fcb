"""HDF5 data sets that are safe to read: their data lie in the file itself, and expand to no more than they claim.

HDF5 reads other files of a file's choosing (external storage, virtual data sets, external links), loads filters as
plugins, and inflates a chunk without a bound. Here all of that is refused before anything is read.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import BadImage
from pggan.utils.errors import DataError, UsageError
from pggan.utils.limits import MAX_CARRIED_BYTES

_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
# What a stored chunk may have more than its data: checksums, and what does not compress.
_OVERHEAD = 1 << 12
# The largest ratio by which LZF can expand data.
_LZF_RATIO = 90
# Bytes of inflated chunks that wait for the next row, unless one row takes more.
_KEPT_BYTES = 8 << 20
# Groups and data sets of a file; chunks that one image is spread over: HDF5 takes memory for each.
_MAX_OBJECTS, _MAX_CHUNKS = 10_000, 1 << 16
_REPACK = "copy it with h5repack"


def h5py() -> Any:
    """Imports h5py such that HDF5 loads no plugins. Raises `UsageError` if it is not installed."""
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # read once, when the library starts
    os.environ.pop("HDF5_PLUGIN_PATH", None)
    try:
        import h5py
    except ImportError:
        raise UsageError("reading HDF5 needs one more package: pip install 'pggan[hdf5]'") from None
    for _ in range(h5py.h5pl.size()):  # where it had started before
        h5py.h5pl.remove(0)
    return h5py


def walk(file: Any, where: str) -> tuple[dict[str, Any], list[str]]:
    """Returns the data sets of a file by name, and the names of what leaves it: external links, virtual data sets.

    Neither is opened: already the shape of a virtual data set may come from another file. Soft links are passed over:
    what they lead to has a name of its own. Raises `DataError` for too many objects.
    """
    data_sets: dict[str, Any] = {}
    outside: list[str] = []
    groups, seen, count = [("", file)], set(), 0
    while groups:
        prefix, group = groups.pop()
        address = h5py().h5o.get_info(group.id).addr
        if address in seen:  # groups may hold each other
            continue
        seen.add(address)
        for name in group:
            count += 1
            if count > _MAX_OBJECTS:
                raise DataError(f"{where} holds more than {_MAX_OBJECTS} objects; give a file with one array of all")
            kind, item = _open(group, name)
            if kind == "outside":
                outside.append(prefix + name)
            elif kind == "data set":
                data_sets[prefix + name] = item
            elif kind == "group":
                groups.append((f"{prefix}{name}/", item))
    return data_sets, outside


def _open(group: Any, name: str) -> tuple[str, Any]:
    """Opens what a name in a group leads to, if it is in this file: "data set", "group", "outside", or "" and None."""
    link = group.get(name, getlink=True)
    if isinstance(link, h5py().ExternalLink):
        return "outside", None
    # HDF5 would take a name with a slash for a path, which might leave the file
    if not isinstance(link, h5py().HardLink) or "/" in name or name in ("", "."):
        return "", None
    item = group[name]
    if isinstance(item, h5py().Group):
        return "group", item
    if not isinstance(item, h5py().Dataset):
        return "", None
    if item.id.get_create_plist().get_layout() == h5py().h5d.VIRTUAL:
        return "outside", None
    return ("data set", item) if _has_dtype(item) else ("", None)


def _has_dtype(item: Any) -> bool:
    """Whether NumPy has a type for a data set; it lacks a few, as times."""
    try:
        return item.dtype is not None
    except TypeError:
        return False


class CheckedDataset:
    """A data set whose parts are checked before HDF5 reads them.

    Args:
        data_set: h5py's.
        where: File and data set, for messages.

    Raises:
        DataError: The data lie in another file, are not all there, or need a filter that is not in the closed list.
    """

    def __init__(self, data_set: Any, where: str) -> None:
        self._data_set, self._where = data_set, where
        self.shape, self.dtype = tuple(data_set.shape), data_set.dtype
        plist = data_set.id.get_create_plist()
        if plist.get_external_count():
            raise DataError(outside_error(where, "external storage"))
        self._filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        self._chunks: tuple[int, ...] | None = plist.get_chunk() if plist.get_layout() == h5py().h5d.CHUNKED else None
        self._verified: set[tuple[int, ...]] = set()
        self._inflated: dict[tuple[int, ...], NDArray[Any]] = {}
        self._check_filters()
        self._check_complete()

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def _check_filters(self) -> None:
        expanding = [i for i, number in enumerate(self._filters) if number in (_DEFLATE, _LZF)]
        after = self._filters[expanding[0] + 1 :] if expanding else []
        known = {_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF}
        if not set(self._filters) <= known or len(expanding) > 1 or set(after) - {_FLETCHER32}:
            raise DataError(
                f"{self._where} is compressed in a way that is not read ({self._filters[:8]}); {_REPACK} -f GZIP=4"
            )

    def _check_complete(self) -> None:
        stored = self.dtype.itemsize * math.prod(self._chunks or self.shape)
        if self._chunks is None:
            if self._data_set.id.get_storage_size() < stored:
                raise DataError(f"{self._where} is empty or cut short; make it again")
            return
        if stored > MAX_CARRIED_BYTES:
            raise DataError(
                f"{self._where} is kept in pieces of {stored >> 20} MiB; the limit is {MAX_CARRIED_BYTES >> 20}: "
                f"{_REPACK} -l CHUNK=1x..., one picture each"
            )
        there, all_of_them = self._data_set.id.get_num_chunks(), math.prod(self._grid(self.shape))
        if there < all_of_them:
            raise DataError(f"{self._where}: {there} of its {all_of_them} pieces are there; make it again")
        per_row = math.prod(self._grid(self.shape[1:], 1))
        self._max_inflated = max(per_row, _KEPT_BYTES // stored)
        if per_row > _MAX_CHUNKS:
            raise DataError(f"{self._where}: a row is spread over too many pieces; {_REPACK} -l CHUNK=1x...")

    def _grid(self, shape: tuple[int, ...], first: int = 0) -> list[int]:
        """Returns the number of chunks along each axis."""
        assert self._chunks is not None
        return [-(-length // chunk) for length, chunk in zip(shape, self._chunks[first:])]

    def row(self, index: int) -> NDArray[Any]:
        """Reads one row. Raises `BadImage` if a chunk of it expands to more than it claims."""
        if self.dtype.itemsize == 1 and _DEFLATE in self._filters and set(self._filters) <= {_DEFLATE, _SHUFFLE}:
            return self._inflated_row(index)  # else it would be inflated twice: to check it, and by HDF5
        for corner in self._corners(index):
            self._verify(corner)
        return np.asarray(self._data_set[index])

    def _inflated_row(self, index: int) -> NDArray[Any]:
        """Reads one row of bytes from DEFLATE chunks; to shuffle single bytes changes nothing."""
        assert self._chunks is not None
        out = np.empty(self.shape[1:], self.dtype)
        for corner in self._corners(index):
            if corner not in self._inflated:
                while len(self._inflated) >= self._max_inflated:
                    del self._inflated[next(iter(self._inflated))]
                self._inflated[corner] = self._inflate(corner)
            row = self._inflated[corner][index - corner[0]]
            spans = [slice(at, min(at + n, end)) for at, n, end in zip(corner[1:], self._chunks[1:], self.shape[1:])]
            out[tuple(spans)] = row[tuple(slice(0, span.stop - span.start) for span in spans)]
        return out

    def _inflate(self, corner: tuple[int, ...]) -> NDArray[Any]:
        """Returns a chunk of bytes."""
        assert self._chunks is not None
        data, applied = self._stored(corner)
        size = math.prod(self._chunks)
        if _DEFLATE in applied:
            inflate = zlib.decompressobj()
            try:
                data = inflate.decompress(data, size + 1)
            except zlib.error:
                raise BadImage("a damaged piece") from None
        if len(data) != size:
            raise BadImage("a piece of it expands to more or less than it claims")
        return np.frombuffer(bytes(data), self.dtype).reshape(self._chunks)

    def verify(self) -> None:
        """Checks all chunks. Raises as `row`."""
        for index in range(0, self.shape[0], self._chunks[0]) if self._chunks else ():
            for corner in self._corners(index):
                self._verify(corner)

    def all(self) -> NDArray[Any]:
        """Reads everything. Raises as `row`."""
        self.verify()
        return np.asarray(self._data_set[()])

    def _corners(self, index: int) -> Iterator[tuple[int, ...]]:
        """Yields where the chunks of a row begin."""
        if self._chunks is None:
            return
        steps = [range(0, length, chunk) for length, chunk in zip(self.shape[1:], self._chunks[1:])]
        yield from product((index - index % self._chunks[0],), *steps)

    def _stored(self, corner: tuple[int, ...]) -> tuple[Any, list[int]]:
        """Returns a chunk as it is stored, and the filters applied to it. Raises `BadImage` if it is too large."""
        assert self._chunks is not None
        size = math.prod(self._chunks) * int(self.dtype.itemsize)
        try:
            mask, data = self._data_set.id.read_direct_chunk(corner, out=np.empty(size + size // 64 + _OVERHEAD, "u1"))
        except ValueError:
            raise BadImage("a piece of it is larger than it claims") from None
        return data, [number for i, number in enumerate(self._filters) if not mask >> i & 1]

    def _verify(self, corner: tuple[int, ...]) -> None:
        """Raises `BadImage` if a chunk expands to more than its size."""
        if not self._filters or corner in self._verified:
            return
        assert self._chunks is not None
        size = math.prod(self._chunks) * int(self.dtype.itemsize)
        data, applied = self._stored(corner)
        expected = size + 4 * (_FLETCHER32 in applied)  # with a checksum
        if _DEFLATE in applied:
            expanded = _inflated_size(data, expected)
            if not size <= expanded <= expected:
                raise BadImage("a piece of it expands to more or less than it claims")
        elif _LZF in applied:
            if not len(data) or (len(data) * _LZF_RATIO > MAX_CARRIED_BYTES and _lzf_size(data, expected) > expected):
                raise BadImage("a piece of it expands to more than it claims")
        elif len(data) != expected:
            raise BadImage("a piece of it is larger or smaller than it claims")
        self._verified.add(corner)


def _inflated_size(data: Any, limit: int) -> int:
    """Returns how many bytes a zlib stream expands to; stops above the limit. Damaged ones are left to HDF5."""
    inflate, total = zlib.decompressobj(), 0
    try:
        while len(data) and not inflate.eof and total <= limit:
            total += len(inflate.decompress(data, 1 << 20))
            data = inflate.unconsumed_tail
    except zlib.error:
        raise BadImage("a damaged piece") from None
    return total


def _lzf_size(data: Any, limit: int) -> int:
    """Returns how many bytes an LZF stream expands to; stops above the limit."""
    at = total = 0
    while at < len(data) and total <= limit:
        control = data[at]
        if control < 32:  # a literal run: the next `control + 1` bytes are copied
            total, at = total + control + 1, at + control + 2
            continue
        length = control >> 5  # a copy of what came before
        if length == 7:
            at += 1
            length += data[at] if at < len(data) else 0
        total, at = total + length + 2, at + 2
    return total


def outside_error(what: str, why: str = "an external link or a virtual data set") -> str:
    """Returns the error about data of another file."""
    return (
        f"{what} lies in another file ({why}), and only data in the file itself are read; copy all into one file with "
        "h5repack -l CONTI"
    )
