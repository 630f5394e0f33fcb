"""Our own reader and writer of TFRecords."""

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.data.sources.tfrecord_io import (
    decode_image,
    encode_image,
    find_records,
    masked_crc,
    read_record,
    write_record,
)
from pggan.utils.errors import DataError

FIXTURES = Path(__file__).parents[1] / "fixtures/data"


def test_checksums_are_masked_crc32c():
    # CRC-32C's own check value, and the format's mask
    crc = 0xE3069283
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("name", ["synthcolor/synthcolor-r06", "synthgray/synthgray-r02"])
def test_official_files_are_what_we_would_write(name, tmp_path):
    path = FIXTURES / f"{name}.tfrecords"
    with open(path, "rb") as file, open(tmp_path / "a", "wb") as out:
        for offset in find_records(path):
            picture = decode_image(read_record(file, offset))
            write_record(out, encode_image(picture))
    written = (tmp_path / "a").read_bytes()
    assert len(written) == path.stat().st_size
    with open(tmp_path / "a", "rb") as again, open(path, "rb") as file:
        for offset in find_records(path):
            np.testing.assert_array_equal(
                decode_image(read_record(again, offset)), decode_image(read_record(file, offset))
            )


def field(number, content, kind=2):
    head = bytes([number << 3 | kind])
    if kind != 2:
        return head + content
    return head + bytes([len(content) & 127 | 128, len(content) >> 7]) + content  # two bytes, even where one would do


def example(shape, data, packed=True):
    numbers = field(1, bytes(shape)) if packed else b"".join(field(1, bytes([each]), 0) for each in shape)
    features = field(1, field(1, b"shape") + field(2, field(3, numbers)))
    return field(1, features + field(1, field(1, b"data") + field(2, field(1, field(1, data)))))


@pytest.mark.parametrize("packed", [True, False])
def test_other_ways_to_write_the_same_are_read(packed):
    data = example([1, 2, 3], b"abcdef", packed)
    np.testing.assert_array_equal(decode_image(data), np.frombuffer(b"abcdef", np.uint8).reshape(1, 2, 3))
    # unknown fields, of all kinds, are passed over
    extra = field(7, b"new") + field(6, b"\x05", 0) + field(5, b"8 bytes.", 1) + field(4, b"four", 5)
    np.testing.assert_array_equal(decode_image(extra + data + extra), decode_image(data))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "without shape and data"),
        (example([1, 2, 3], b"abcde"), r"of shape \[1, 2, 3\] with 5 bytes"),
        (example([6], b"abcdef"), r"of shape \[6\]"),
        (example([0, 1, 1], b""), "of shape"),
        (example([1] * 100, b"a"), r"of shape \[1, 1, 1, 1\] with 1 bytes"),
        (example([1, 2, 3], b"abcdef")[:-2], "not a whole Example"),
        (b"\xff" * 20, "not a whole Example"),
        (b"\x0b", "not an Example"),
        (field(1, field(1, field(1, b"shape") + field(2, field(1, field(1, b"x"))))), "without shape and data"),
    ],
)
def test_an_example_that_is_no_picture_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        decode_image(data)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.data())
def test_hostile_records_are_value_errors(data):
    whole = bytearray(encode_image(np.arange(48, dtype=np.uint8).reshape(3, 4, 4)))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        assert decode_image(bytes(whole[: data.draw(st.integers(0, len(whole)))])).ndim == 3


def test_lengths_that_lie_are_refused(tmp_path):
    path = tmp_path / "a"
    for length in (2**63, 2**64 - 1, 1000):
        head = struct.pack("<Q", length)
        path.write_bytes(head + struct.pack("<I", masked_crc(head)) + b"short")
        with pytest.raises(DataError, match="is cut short in record 0; copy or make it again"):
            find_records(path)
    with open(path, "rb") as file, pytest.raises(ValueError, match=r"damaged record \(checksum\)"):
        read_record(file, 0)
    with open(path, "rb") as file, pytest.raises(ValueError, match="checksum of its length"):
        read_record(file, 3)
