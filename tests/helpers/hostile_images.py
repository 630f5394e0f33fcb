"""Encoded pictures that claim or cost more than they should."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def png_of(width: int, height: int, bits: int = 8, kind: int = 2, data: bytes = b"") -> bytes:
    """A PNG with this header, and its compressed data."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": data or zlib.compress(bytes(1000)), b"IEND": b""}
    parts = [struct.pack(">I", len(v)) + k + v + struct.pack(">I", zlib.crc32(k + v)) for k, v in chunks.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp_of(width: int, height: int) -> bytes:
    """An extended WebP with a canvas of this size, and no picture on it."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def bmp_of(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(info), 0, 0, 54) + info + bytes(100)


def jpeg_of_scans(side: int, scans: int, mode: str = "L") -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    out = io.BytesIO()
    Image.new(mode, (side, side), 128).save(out, "JPEG", progressive=True, quality=50)
    data = out.getvalue()
    scan = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + scan * scans + b"\xff\xd9"


def tiff_of_tiles(side: int, tile: int) -> bytes:
    """A TIFF of PackBits with one tile that is larger than the picture."""
    entries = [
        (256, side), (257, side), (258, 8), (259, 32773), (262, 1), (277, 1),
        (322, tile), (323, tile), (324, 8 + 2 + 10 * 12 + 4), (325, 100),
    ]  # fmt: skip
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(4) + b"x" * 100
