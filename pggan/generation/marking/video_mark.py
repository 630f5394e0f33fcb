"""Puts an XMP packet into a finished MP4, WebP or GIF (XMP specification, part 3; torch-free)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

# The box of an MP4 that holds XMP.
MP4_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
# Flag of WebP's VP8X chunk: the file has XMP.
_WEBP_XMP = 0x04
# What follows the packet in a GIF: a reader that takes it for blocks of data comes out at its end.
_GIF_TRAILER = bytes([0x01, *range(0xFF, -1, -1), 0x00])


def add_mark(path: Path, ending: str, packet: str) -> None:
    """Adds an XMP packet to a complete video file.

    Args:
        path: The file, which is changed in place.
        ending: Its format: .mp4, .webp or .gif.
        packet: The packet.
    """
    with open(path, "rb+") as file:
        _WAYS[ending](file, packet.encode("utf-8"))


def _to_mp4(file: BinaryIO, packet: bytes) -> None:
    """Appends a `uuid` box: offsets in the file stay right."""
    file.seek(0, 2)
    file.write(struct.pack(">I4s", 8 + len(MP4_UUID) + len(packet), b"uuid") + MP4_UUID + packet)


def _to_webp(file: BinaryIO, packet: bytes) -> None:
    """Appends an `XMP ` chunk and sets its flag; a file of one simple picture gets the chunk with flags first."""
    head = file.read(30)
    if head[12:16] == b"VP8X":
        file.seek(20)
        file.write(bytes([head[20] | _WEBP_XMP]))
    else:
        file.seek(12)
        rest = file.read()
        width, height = _size_of_webp(head)
        flags = struct.pack("<I", _WEBP_XMP)
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        file.seek(12)
        file.write(b"VP8X" + struct.pack("<I", 10) + flags + sides + rest)
    file.seek(0, 2)
    file.write(b"XMP " + struct.pack("<I", len(packet)) + packet + b"\0" * (len(packet) % 2))
    length = file.tell() - 8
    file.seek(4)
    file.write(struct.pack("<I", length))


def _size_of_webp(head: bytes) -> tuple[int, int]:
    """Returns width and height of a lossy WebP without the extended header (RFC 9649, section 2.5)."""
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _to_gif(file: BinaryIO, packet: bytes) -> None:
    """Inserts an application extension before the first picture, where every reader sees it."""
    head = file.read(13)
    colours = 3 << (head[10] & 7) + 1 if head[10] & 0x80 else 0
    start = 13 + colours
    file.seek(start)
    rest = file.read()
    file.seek(start)
    file.write(b"\x21\xff\x0bXMP DataXMP" + packet + _GIF_TRAILER + rest)


_WAYS: Mapping[str, Callable[[BinaryIO, bytes], None]] = {".mp4": _to_mp4, ".webp": _to_webp, ".gif": _to_gif}
