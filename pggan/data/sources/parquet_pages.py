"""The sizes of a Parquet column's pages, from their headers: Arrow expands a page whole, to whatever its header says.

Headers are structs of Thrift's compact protocol (github.com/apache/parquet-format, `PageHeader`).
"""

from __future__ import annotations

from typing import IO, Any

from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_CARRIED_BYTES, MAX_FILE_BYTES

# Bytes of a page's header: it may hold the least and the largest value, which writers cut.
_MAX_HEADER_BYTES = 1 << 16
_BINARY, _LIST, _SET, _MAP, _STRUCT = 8, 9, 10, 11, 12
_FIXED = {1: 0, 2: 0, 3: 1, 7: 8}  # bytes of booleans, bytes and doubles; integers are of variable length


def largest_page(file: IO[bytes], column: Any, where: str) -> int:
    """Returns the bytes of a column chunk's largest page when expanded.

    Args:
        file: The Parquet file.
        column: pyarrow's metadata of the column chunk.
        where: File and column, for messages.

    Raises:
        DataError: The chunk lies in another file, or a page is above the limits.
    """
    if column.file_path:
        raise DataError(
            f"{where} lies in another file, and only data in the file itself are read; write it as one file"
        )
    starts = [column.data_page_offset, column.dictionary_page_offset or 0]
    at = min(start for start in starts if start > 0)
    end, largest = at + column.total_compressed_size, 0
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

    def integers(self) -> dict[int, int]:
        """Reads a struct; returns its own integers by field number."""
        values: dict[int, int] = {}
        number = 0
        while (head := self._byte()) != 0:
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._integer()
            if kind in (4, 5, 6):
                values[number] = self._integer()
            else:
                self._skip(kind)
        return values

    def _skip(self, kind: int) -> None:
        if kind in _FIXED:
            self.position += _FIXED[kind]
        elif kind in (4, 5, 6):
            self._varint()
        elif kind == _BINARY:
            length = self._varint()
            self.position += length
        elif kind in (_LIST, _SET):
            head = self._byte()
            for _ in range(self._varint() if head >> 4 == 15 else head >> 4):
                self._skip_element(head & 15)
        elif kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            for _ in range(count):
                self._skip_element(kinds >> 4)
                self._skip_element(kinds & 15)
        elif kind == _STRUCT:
            self.integers()
        else:
            raise ValueError("a damaged page header")

    def _skip_element(self, kind: int) -> None:
        if kind in (1, 2):  # in a list, a boolean takes a byte
            self._byte()
        else:
            self._skip(kind)
        if self.position > len(self._data):
            raise IndexError("a damaged page header")

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

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
