"""Reads and writes TFRecord files of images as in the official release: `tf.train.Example` with `shape` and `data`.

A record is: length (8 bytes, little-endian), its masked CRC, the data, their masked CRC (CRC-32C). An Example is a
protocol buffer; only these two features and `label` are parsed. A file may be compressed as a whole, with gzip or zlib.
Works without TensorFlow.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.expanded_file import ExpandedFile
from pggan.data.sources.file_base import explain_damage
from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_CARRIED_BYTES

_HEAD, _FOOT = 12, 4
# The feature that holds an image's class: a number, a name, or one number per class.
LABEL = "label"
# Most fields of a message, integers of a feature, bytes of a feature's name.
_MAX_FIELDS, _MAX_NUMBERS, _MAX_NAME = 1000, 1000, 200
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
            at += _HEAD + _checked_length(file.read(_HEAD), path, len(offsets) - 1) + _FOOT
    if at != size:
        raise DataError(f"{path} is cut short in record {len(offsets) - 1}; copy or make it again")
    return offsets


def _checked_length(head: bytes, path: Path, number: int) -> int:
    length = _length(head)
    if length is None:
        raise DataError(f"{path} is damaged or no TFRecord file: the length of record {number}; copy or make it again")
    return length


def _length(head: bytes) -> int | None:
    """Returns the length of the data behind a record's head, None where its checksum is wrong."""
    if len(head) < _HEAD or masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0]:
        return None
    return int(struct.unpack("<Q", head[:8])[0])


def read_record(file: BinaryIO, offset: int) -> bytes:
    """Returns the data of the record at a byte offset. Raises `ValueError` if it is damaged or too large."""
    file.seek(offset)
    length = _length(file.read(_HEAD))
    if length is None:
        raise ValueError("damaged record (checksum of its length)")
    return _read_data(file, length)


def _read_data(file: BinaryIO | ExpandedFile, length: int) -> bytes:
    if length > MAX_CARRIED_BYTES:
        raise ValueError(f"a record of {length >> 20} MiB; the limit is {MAX_CARRIED_BYTES >> 20}")
    data, foot = file.read(length), file.read(_FOOT)
    if len(foot) < _FOOT or masked_crc(data) != struct.unpack("<I", foot)[0]:
        raise ValueError("damaged record (checksum)")
    return data


def stream_records(path: Path) -> Iterator[bytes | str]:
    """Yields the data of each record of a compressed file, or why it cannot be used. Raises `DataError` for damage."""
    with explain_damage(f"{path} is not a whole TFRecord file"), ExpandedFile(path) as file:
        number = 0
        while head := file.read(_HEAD):
            length = _checked_length(head, path, number)
            try:
                data: bytes | str = _read_data(file, length)
            except ValueError as error:
                data = str(error)
                if length > MAX_CARRIED_BYTES:
                    file.skip(length + _FOOT)
            yield data
            del data  # while the next one is read
            number += 1


def is_compressed(path: Path) -> bool:
    """Whether a file of records is compressed: its first bytes are no record's head, but gzip's or zlib's."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    is_zlib = len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
    return _length(head) is None and (head[:2] == b"\x1f\x8b" or is_zlib)


def begins_with_record(path: Path) -> bool:
    """Whether a file begins with the head of a record, compressed or not."""
    try:
        if not is_compressed(path):
            with open(path, "rb") as file:
                return _length(file.read(_HEAD)) is not None
        with ExpandedFile(path) as expanded:
            return _length(expanded.read(_HEAD)) is not None
    except (OSError, ValueError, zlib.error):
        return False


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
    features = parse_example(data)
    shape, pixels = features.get("shape"), features.get("data")
    if not isinstance(shape, list) or not isinstance(pixels, memoryview):
        names = f"; it has {', '.join(sorted(features)[:8])[:200]}" if features else ""
        raise ValueError(f"a record without shape and data: not one of the official release{names}")
    if len(shape) != 3 or min(shape) < 1 or int(np.prod([int(s) for s in shape], dtype=object)) != len(pixels):
        raise ValueError(f"a record of shape {shape[:4]} with {len(pixels)} bytes")
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def parse_example(data: bytes) -> dict[str, memoryview | list[int] | None]:
    """Parses an Example: the first byte string or the integers of each feature, None for a feature that is not used.

    Raises `ValueError` for data that are no Example.
    """
    parsed: dict[str, memoryview | list[int] | None] = {}
    for features in _parts(memoryview(data), 1):
        parsed |= map(_entry, _parts(features, 1))
    return parsed


def _entry(data: memoryview) -> tuple[str, memoryview | list[int] | None]:
    """Parses a map entry: a feature's name and value."""
    parts = dict(_fields(data))
    name, value = parts.get(1), parts.get(2)
    text = bytes(name[:_MAX_NAME]).decode("utf-8", "replace") if isinstance(name, memoryview) else ""
    if text not in ("shape", "data", LABEL) or not isinstance(value, memoryview):
        return text, None
    contents = (part for content in _parts(value, 3) for _, part in _fields(content))
    numbers = list(islice((number for part in contents for number in _numbers(part)), _MAX_NUMBERS))
    return text, numbers or next((part for content in _parts(value, 1) for part in _parts(content, 1)), memoryview(b""))


def _parts(data: memoryview, number: int) -> Iterator[memoryview]:
    """Yields the byte strings and messages in a message's fields of this number."""
    return (part for field, part in _fields(data) if field == number and isinstance(part, memoryview))


def _numbers(part: memoryview | int) -> Iterator[int]:
    """Yields the integers of a packed or a single value."""
    if isinstance(part, int):
        yield part
        return
    at = 0
    while at < len(part):
        value, at = _read_varint(part, at)
        yield value


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yields number and value of each field of a message. Raises `ValueError` if it is no message."""
    at = count = 0
    while at < len(data):
        if (count := count + 1) > _MAX_FIELDS:
            raise ValueError(f"an Example of more than {_MAX_FIELDS} fields")
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


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Returns an unsigned integer, and the place behind it."""
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
