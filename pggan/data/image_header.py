"""Reads size, channels and scans of a PNG, JPEG or WebP from its bytes, so that they are bounded before decoding."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pggan.utils.limits import MAX_JPEG_SCANS

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; a palette counts as colour
# The next marker of a JPEG: neither stuffing, nor a restart within a scan, nor a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without DHT, JPG and DAC


class ImageHeader(NamedTuple):
    """What the header of an image says."""

    width: int
    height: int
    channels: int
    bits: int = 8  # per channel


def read_header(data: bytes, codec: str) -> ImageHeader:
    """Reads the header of an encoded image.

    Args:
        data: The image, or at least its beginning.
        codec: png, jpeg or webp.

    Raises:
        ValueError: The data are of another format, or cut short.
    """
    try:
        header = {"png": _png, "jpeg": _jpeg, "webp": _webp}[codec](data)
    except (struct.error, IndexError):
        header = None
    if header is None:
        raise ValueError(f"no {codec} header")
    return header


def check_scans(data: bytes) -> None:
    """Raises `ValueError` for a JPEG of more than MAX_JPEG_SCANS scans, each of which decodes the whole image again."""
    # exact, but slower: walked only where bytes that look like scans are many, as in a video behind the picture
    if data.count(b"\xff\xda") > MAX_JPEG_SCANS and sum(code == _SOS for code, _ in _segments(data)) > MAX_JPEG_SCANS:
        raise ValueError(f"a JPEG of more than {MAX_JPEG_SCANS} scans")


def _png(data: bytes) -> ImageHeader | None:
    if data[:8] != PNG_MAGIC or data[12:16] != b"IHDR":
        return None
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    return ImageHeader(width, height, _PNG_CHANNELS[kind], bits) if kind in _PNG_CHANNELS else None


def _jpeg(data: bytes) -> ImageHeader | None:
    for code, at in _segments(data):
        if code in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            return ImageHeader(width, height, channels, bits)
        if code == _SOS:
            break
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields code and place of every marker of a JPEG up to its end; what follows, as in MPO files, is not decoded."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while (match := _MARKER.search(data, at)) is not None:
        code, at = data[match.start() + 1], match.start()
        if code == _EOI:
            return
        yield code, at
        at += 2 if code in (_SOI, _TEM) else 2 + struct.unpack_from(">H", data, at + 2)[0]


def _webp(data: bytes) -> ImageHeader | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8L" and data[20] == 0x2F:
        (packed,) = struct.unpack_from("<I", data, 21)
        return ImageHeader((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, 4 if packed >> 28 & 1 else 3)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader(width & 0x3FFF, height & 0x3FFF, 3)
    if kind == b"VP8X":
        flags = data[20]
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return ImageHeader(width, height, 4 if flags & 0x10 else 3) if len(data) >= 30 else None
    return None


def without_text(png: bytes) -> bytes | None:
    """Returns a PNG without its texts and its colour profile, None for other files and where it has none of them."""
    if not png.startswith(PNG_MAGIC):
        return None
    kept, at = [PNG_MAGIC], len(PNG_MAGIC)
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(png[at:end])
        at = end
    smaller = b"".join(kept)
    return smaller if len(smaller) < len(png) else None
