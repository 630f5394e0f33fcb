"""Reads and writes TFRecord files of images as in the official release: `tf.train.Example` with `shape` and `data`.

A record is: length (8 bytes, little-endian), its masked CRC, the data, their masked CRC (CRC-32C). An Example is a
protocol buffer; only these two features are parsed. Works without TensorFlow.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import DataError

_HEAD, _FOOT = 12, 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def masked_crc(data: bytes) -> int:
    """Returns TFRecord's checksum: CRC-32C, rotated right by 15 bits, plus a constant."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def write_record(file: BinaryIO, data: bytes) -> None:
    """Writes a record with its length and checksums."""
    length = struct.pack("<Q", len(data))
    file.write(length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data)))


def find_records(path: Path) -> array[int]:
    """Returns the byte offset of each record. Raises `DataError` for a truncated or damaged file."""
    offsets = array("q")
    size, at = path.stat().st_size, 0
    with open(path, "rb") as file:
        while at < size:
            offsets.append(at)
            if size - at < _HEAD:
                at = size + 1
                break
            file.seek(at)
            at += _HEAD + _length(file.read(_HEAD), path, len(offsets) - 1) + _FOOT
    if at != size:
        raise DataError(f"{path} is cut short in record {len(offsets) - 1}; copy or make it again")
    return offsets


def _length(head: bytes, path: Path, number: int) -> int:
    if len(head) < _HEAD or masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0]:
        raise DataError(f"{path} is damaged or no TFRecord file: the length of record {number}; copy or make it again")
    return int(struct.unpack("<Q", head[:8])[0])


def read_record(file: BinaryIO, offset: int) -> bytes:
    """Returns the data of the record at a byte offset. Raises `ValueError` for a wrong checksum."""
    file.seek(offset)
    head = file.read(_HEAD)
    if len(head) < _HEAD or masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0]:
        raise ValueError("damaged record (checksum of its length)")
    (length,) = struct.unpack("<Q", head[:8])
    data = file.read(length + _FOOT)
    if len(data) < length + _FOOT or masked_crc(data[:-_FOOT]) != struct.unpack("<I", data[-_FOOT:])[0]:
        raise ValueError("damaged record (checksum)")
    return data[:-_FOOT]


def encode_image(image: NDArray[np.uint8]) -> bytes:
    """Encodes an image, uint8 (C, H, W), as an Example."""
    shape = b"".join(_varint(side) for side in image.shape)
    features = {
        "data": _field(1, _field(1, image.tobytes())),  # Feature.bytes_list
        "shape": _field(3, _field(1, shape)),  # Feature.int64_list, packed
    }
    entries = (_field(1, name.encode()) + _field(2, feature) for name, feature in features.items())
    return _field(1, b"".join(_field(1, entry) for entry in entries))


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decodes the image, uint8 (C, H, W), of an Example. Raises `ValueError` for other data."""
    parsed: dict[str, bytes | list[int]] = {}
    for features in _parts(data, 1):
        parsed |= dict(map(_entry, _parts(features, 1)))
    shape, pixels = parsed.get("shape"), parsed.get("data")
    if not isinstance(shape, list) or not isinstance(pixels, bytes):
        raise ValueError("a record without shape and data: not one of the official release")
    if len(shape) != 3 or min(shape) < 1 or int(np.prod([int(s) for s in shape], dtype=object)) != len(pixels):
        raise ValueError(f"a record of shape {shape[:4]} with {len(pixels)} bytes")
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def _entry(data: bytes) -> tuple[str, bytes | list[int]]:
    """Parses a map entry: a feature's name, and its first byte string or its integers."""
    name, value = (b"".join(_parts(data, number)) for number in (1, 2))
    numbers = [number for content in _parts(value, 3) for _, part in _fields(content) for number in _numbers(part)]
    texts = [part for content in _parts(value, 1) for part in _parts(content, 1)]
    return name.decode("utf-8", "replace"), numbers or b"".join(texts[:1])


def _parts(data: bytes, number: int) -> Iterator[bytes]:
    """Yields the byte strings and messages in a message's fields of this number."""
    return (part for field, part in _fields(data) if field == number and isinstance(part, bytes))


def _numbers(part: bytes | int) -> Iterator[int]:
    """Yields the integers of a packed or a single value."""
    if isinstance(part, int):
        yield part
        return
    at = 0
    while at < len(part):
        value, at = _read_varint(part, at)
        yield value


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yields number and value of each field of a message. Raises `ValueError` if it is no message."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("not an Example")
        if at + length > len(data):
            raise ValueError("not a whole Example")
        yield key >> 3, data[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("not a whole Example")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content
