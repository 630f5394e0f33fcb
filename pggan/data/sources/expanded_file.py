"""A gzip or zlib file read forward, piece by piece, up to a limit of what it expands to."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from types import TracebackType

from pggan.utils.limits import MAX_EXPANDED_BYTES, MAX_EXPANSION

_PIECE = 1 << 20
# zlib's window of 32 KiB, with the header of either format
_EITHER = 47


def max_expansion(path: str | Path) -> int:
    """Returns the most bytes that a compressed file may expand to."""
    return max(MAX_EXPANDED_BYTES, os.path.getsize(path) * MAX_EXPANSION)


class ExpandedFile:
    """The expanded content of a file. Raises `ValueError` or `zlib.error` for damage, and beyond the limit."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 (closed by __exit__)
        self._stream = zlib.decompressobj(_EITHER)
        self._buffer = bytearray()
        self._left = max_expansion(path)

    def __enter__(self) -> ExpandedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Returns the next `size` bytes, fewer at the end."""
        while len(self._buffer) < size and self._expand():
            pass
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return data

    def skip(self, size: int) -> None:
        """Passes over `size` bytes. Raises `ValueError` if there are fewer."""
        while size > 0:
            if not self._buffer and not self._expand():
                raise ValueError("cut short")
            passed = min(size, len(self._buffer))
            del self._buffer[:passed]
            size -= passed

    def _expand(self) -> bool:
        """Adds a piece to the buffer; returns whether there was more."""
        data = self._stream.unconsumed_tail or self._stream.unused_data or self._file.read(_PIECE)
        if self._stream.eof:
            if not data.strip(b"\0"):
                return False
            self._stream = zlib.decompressobj(_EITHER)  # another one follows, as gzip allows
        if not data:
            raise ValueError("cut short")
        piece = self._stream.decompress(data, _PIECE)
        self._buffer += piece
        self._left -= len(piece)
        if self._left < 0:
            raise ValueError(f"it expands to more than {MAX_EXPANSION} times its size")
        return True
