"""The sizes of a Parquet column's pages, from their headers: Arrow expands a page whole, to whatever its header says.

Headers and the description of the file are structs of Thrift's compact protocol: `PageHeader` and `FileMetaData` of
github.com/apache/parquet-format.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, TypeVar

from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_CARRIED_BYTES, MAX_FILE_BYTES

T = TypeVar("T")

# Bytes of a page's header: it may hold the least and the largest value, which writers cut.
_MAX_HEADER_BYTES = 1 << 16
# Bytes of the description at the end of a file: it takes about ten times as much in memory.
_MAX_FOOTER_BYTES = 32 << 20
MAGIC = b"PAR1"
_BINARY, _LIST, _SET, _MAP, _STRUCT = 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_FIXED = {1: 0, 2: 0, 3: 1, 7: 8}  # bytes of booleans, bytes and doubles; integers are of variable length


class ColumnChunk(NamedTuple):
    """Where a column's pages of one row group lie."""

    name: str  # dotted
    start: int
    length: int
    other_file: bool


def read_footer(file: IO[bytes]) -> list[list[ColumnChunk]]:
    """Returns the column chunks of each row group, from the description at the end of a Parquet file.

    pyarrow's own access to them ends the process for some damaged files (an exception that C++ does not catch).
    """
    end = file.seek(-8, os.SEEK_END)
    length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
    if magic != MAGIC or length > end:
        raise ValueError("it has no description at its end")
    if length > _MAX_FOOTER_BYTES:
        raise DataError(f"{file.name}: its description takes {length >> 20} MiB; write it with fewer row groups")
    file.seek(end - length)
    return _read_list(_Thrift(file.read(length)), 4, lambda group: _read_list(group, 1, _read_chunk))


def _read_list(thrift: _Thrift, field: int, read: Callable[[_Thrift], T]) -> list[T]:
    """Reads the structs of one list field of a struct; skips its other fields."""
    items: list[T] = []
    for number, kind in thrift.fields():
        if (number, kind) == (field, _LIST):
            items = [read(thrift) for _ in range(thrift.list_length())]
        else:
            thrift.skip(kind)
    return items


def _read_chunk(thrift: _Thrift) -> ColumnChunk:
    other_file, name, integers = False, "", {}
    for number, kind in thrift.fields():
        if (number, kind) == (1, _BINARY):
            other_file = bool(thrift.binary())
        elif (number, kind) == (3, _STRUCT):
            for inner, inner_kind in thrift.fields():
                if (inner, inner_kind) == (3, _LIST):
                    parts = [thrift.binary() for _ in range(thrift.list_length())]
                    name = b".".join(parts).decode("utf-8", "replace")
                elif inner_kind in _INTEGERS:
                    integers[inner] = thrift.integer()
                else:
                    thrift.skip(inner_kind)
        else:
            thrift.skip(kind)
    starts = [start for start in (integers.get(9, 0), integers.get(11, 0)) if start > 0]  # data, dictionary
    return ColumnChunk(name, min(starts, default=0), integers.get(7, 0), other_file)


def largest_page(file: IO[bytes], column: ColumnChunk, where: str) -> int:
    """Returns the bytes of a column chunk's largest page when expanded.

    Args:
        file: The Parquet file.
        column: The column chunk.
        where: File and column, for messages.

    Raises:
        DataError: The chunk lies in another file, or a page is above the limits.
    """
    if column.other_file:
        raise DataError(f"{where} lies in another file, and only data in the file itself are read; write one file")
    at, end, largest = column.start, column.start + column.length, 0
    while at < end:
        file.seek(at)
        header = _Thrift(file.read(min(_MAX_HEADER_BYTES, end - at)))
        values = header.integers()
        expanded, stored = values.get(2, 0), values.get(3, 0)
        if expanded < 0 or stored < 0:
            raise ValueError("a page of negative size")
        # a page that is as large in the file is no bomb, and cannot be read in parts
        if expanded > max(MAX_CARRIED_BYTES, min(2 * stored, MAX_FILE_BYTES)):
            raise DataError(
                f"{where} has a page that expands to {expanded >> 20} MiB; the limit is {MAX_CARRIED_BYTES >> 20}; "
                "write it again with fewer rows in a group"
            )
        largest, at = max(largest, expanded, stored), at + header.position + stored
    return largest


class _Thrift:
    """A struct in Thrift's compact protocol. Raises `IndexError` where it is cut short."""

    def __init__(self, data: bytes) -> None:
        self._data, self.position = data, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yields number and kind of a struct's fields; the caller reads or skips each value."""
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, head & 15

    def integers(self) -> dict[int, int]:
        """Reads a struct; returns its own integers by field number."""
        values: dict[int, int] = {}
        for number, kind in self.fields():
            if kind in _INTEGERS:
                values[number] = self.integer()
            else:
                self.skip(kind)
        return values

    def list_length(self) -> int:
        head = self._byte()
        return self._varint() if head >> 4 == 15 else head >> 4

    def binary(self) -> bytes:
        length = self._varint()
        self.position += length
        self._check_position()
        return self._data[self.position - length : self.position]

    def skip(self, kind: int) -> None:
        if kind in _FIXED:
            self.position += _FIXED[kind]
        elif kind in _INTEGERS:
            self._varint()
        elif kind == _BINARY:
            length = self._varint()
            self.position += length
        elif kind in (_LIST, _SET):
            element = self._data[self.position] & 15
            for _ in range(self.list_length()):
                self._skip_element(element)
        elif kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            for _ in range(count):
                self._skip_element(kinds >> 4)
                self._skip_element(kinds & 15)
        elif kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
        else:
            raise ValueError("a damaged header")
        self._check_position()

    def _skip_element(self, kind: int) -> None:
        if kind in (1, 2):  # in a list, a boolean takes a byte
            self._byte()
        else:
            self.skip(kind)

    def _check_position(self) -> None:
        if self.position > len(self._data):
            raise IndexError("a damaged header")

    def _byte(self) -> int:
        value = self._data[self.position]
        self.position += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a damaged header")

    def integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
