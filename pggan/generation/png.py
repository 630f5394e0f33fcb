"""A fast PNG encoder for 8-bit images (PNG specification, third edition; torch-free).

Every row has the filter `Up`, one subtraction for the whole image, and is deflated at level 1. At 1024x1024 that takes
a sixth of the time of Pillow's default and gives files 5 % larger. With the package isal, deflating is four times as
fast again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import UsageError

try:
    isal_zlib: Any = import_module("isal.isal_zlib")
except ImportError:  # an extra, for very many or very large images
    isal_zlib = None

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Colour types by number of channels: grey, grey and alpha, colour, colour and alpha.
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
UP = 2  # filter type
# zlib's level. Faces of 64, 256 and 1024 pixels a side: files 7, 2 and 5 % larger than Pillow's at level 6, in 0.4, 0.2
# and 0.16 of its time.
LEVEL = 1
# isal's level: as fast as 1 with smaller files; 0 leaves them a third larger.
ISAL_LEVEL = 2


def png_bytes(image: NDArray[np.uint8], unicode: Mapping[str, str], latin: Mapping[str, str]) -> bytes:
    """Encodes an image as a PNG.

    Args:
        image: uint8 (H, W, C), C 1 to 4.
        unicode: Texts by keyword, written as iTXt entries.
        latin: Texts by keyword, written as tEXt entries.

    Raises:
        UsageError: Another number of channels.
    """
    height, width, channels = image.shape
    if channels not in COLOUR_TYPES:
        raise UsageError(f"{channels} channels are no picture; take the raw output: pggan.load(...).synthesize")
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    return b"".join(
        [
            SIGNATURE,
            *_chunk(b"IHDR", header),
            # four zeros: not compressed, no language, no translated keyword
            *_text_chunks(b"iTXt", ((key, b"\0\0\0\0", text.encode("utf-8")) for key, text in unicode.items())),
            *_text_chunks(b"tEXt", ((key, b"", text.encode("latin-1")) for key, text in latin.items())),
            *_chunk(b"IDAT", _deflate(_filter_rows(image))),
            *_chunk(b"IEND", b""),
        ]
    )


def _filter_rows(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns rows (H, 1 + W * C): the filter type, then each row's difference from the one above it."""
    height = image.shape[0]
    rows = image.reshape(height, -1)
    out = np.empty((height, rows.shape[1] + 1), np.uint8)
    out[:, 0] = UP
    out[:1, 1:] = rows[:1]
    np.subtract(rows[1:], rows[:-1], out=out[1:, 1:])  # wraps around modulo 256, as the filter does
    return out


def _deflate(rows: NDArray[np.uint8]) -> bytes:
    # both libraries release the interpreter lock
    return zlib.compress(rows.data, LEVEL) if isal_zlib is None else bytes(isal_zlib.compress(rows.data, ISAL_LEVEL))


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _text_chunks(kind: bytes, texts: Iterable[tuple[str, bytes, bytes]]) -> Iterable[bytes]:
    """Yields a chunk for each keyword with its flags and text."""
    for key, flags, text in texts:
        yield from _chunk(kind, b"\0".join([key.encode("latin-1"), flags + text]))
