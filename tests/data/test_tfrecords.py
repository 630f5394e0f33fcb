"""Our own reader and writer of TFRecords."""

import gzip
import io
import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.data.sources import expanded_file, open_source, tfrecord_io
from pggan.data.sources.base import BadImage
from pggan.data.sources.tfrecord_io import (
    decode_image,
    encode_image,
    find_records,
    masked_crc,
    parse_example,
    read_record,
    stream_records,
    write_record,
)
from pggan.data.sources.tfrecords import TfrecordSource
from pggan.utils.errors import DataError, PgganError
from tests.helpers.source_files import ARRAYS, COUNT, assert_portraits, read_all, reasons

PICTURES = ARRAYS.transpose(0, 3, 1, 2)
PACKERS = {"": bytes, ".gz": gzip.compress, ".zlib": zlib.compress}
# Mutations of each kind of file.
ROUNDS = 200
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


def labelled(image, label):
    """An image as `encode_image` makes it, with the feature `label` of these bytes (a Feature) behind it."""
    parsed = encode_image(image)
    entry = field(1, b"label") + field(2, label)
    return parsed + field(1, field(1, entry))  # a second part of the same message


def records(datas):
    out = io.BytesIO()
    for data in datas:
        write_record(out, data)
    return out.getvalue()


def varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("name", ["a-r05.tfrecords", "a.tfrecord", "train-00000-of-00001"])
def test_compressed_files_and_other_names_are_read(name, ending, tmp_path):
    path = tmp_path / "set" / f"{name}{ending if 'train' not in name else ''}"
    path.parent.mkdir()
    path.write_bytes(PACKERS[ending](records(map(encode_image, PICTURES))))
    assert isinstance(open_source(str(path)), TfrecordSource)
    assert_portraits(path, tmp_path)
    assert_portraits(path.parent, tmp_path, workers=2)
    assert read_all(open_source(str(path)))[3].image.tobytes() == ARRAYS[3].tobytes()


def test_shards_are_one_set_and_the_one_for_training_is_read(tmp_path):
    for number in range(3):
        data = records(map(encode_image, PICTURES[number * 4 : number * 4 + 4]))
        (tmp_path / f"x-train.tfrecord-{number:05d}-of-00003").write_bytes(data)
    assert_portraits(tmp_path, tmp_path)
    (tmp_path / "x-test.tfrecord-00000-of-00001").write_bytes(records([encode_image(PICTURES[0])]))
    source = open_source(str(tmp_path))
    assert len(source) == COUNT
    assert source.remark == "passed over the sets x-test.tfrecord; give one of their files to read it"
    (tmp_path / "x-train.tfrecord-00001-of-00003").unlink()
    with pytest.raises(DataError, match="lacks shards, or has some twice: 2 files"):
        open_source(str(tmp_path))


NAMES = [str(i % 3) for i in range(COUNT)]
NUMBERS = [field(3, field(1, varint(i % 3))) for i in range(COUNT)]


@pytest.mark.parametrize("pack", PACKERS.values())
@pytest.mark.parametrize(
    "labels, names",
    [
        (NUMBERS, NAMES),
        ([field(3, field(1, varint(i % 3), 0)) for i in range(COUNT)], NAMES),
        ([field(1, field(1, f"owl {i % 2}".encode())) for i in range(COUNT)], [f"owl {i % 2}" for i in range(COUNT)]),
        ([field(3, field(1, bytes([i % 3 == k for k in range(3)]))) for i in range(COUNT)], NAMES),
        ([*NUMBERS[:-1], field(3, field(1, varint(-1)))], [*NAMES[:-1], None]),
        ([field(3, field(1, varint(2**40 + i))) for i in range(COUNT)], None),
        ([*NUMBERS[:-1], field(1, field(1, b"owl"))], None),
    ],
)  # fmt: skip
def test_labels_in_the_records_are_read(labels, names, pack, tmp_path):
    path = tmp_path / "a-r05.tfrecords"
    path.write_bytes(pack(records(map(labelled, PICTURES, labels))))
    assert_portraits(path, tmp_path, names)


def test_a_file_of_labels_has_priority_over_those_in_the_records(tmp_path):
    (tmp_path / "a-r05.tfrecords.gz").write_bytes(gzip.compress(records(map(labelled, PICTURES, NUMBERS))))
    with open(tmp_path / "a-rxx.labels", "wb") as file:
        np.save(file, np.arange(COUNT) % 2)
    assert_portraits(tmp_path / "a-r05.tfrecords.gz", tmp_path, [str(i % 2) for i in range(COUNT)])


@pytest.mark.parametrize("pack", PACKERS.values())
def test_large_and_damaged_records_are_bad_pictures(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord_io, "MAX_CARRIED_BYTES", 4000)
    large = encode_image(np.zeros((3, 64, 64), np.uint8))
    data = bytearray(records([encode_image(PICTURES[0]), large, encode_image(PICTURES[2]), encode_image(PICTURES[3])]))
    data[-100] ^= 1
    (tmp_path / "a.tfrecords").write_bytes(pack(data))
    messages = [None, "a record of 0 MiB; the limit is 0", None, "damaged record (checksum)"]
    assert reasons(open_source(str(tmp_path / "a.tfrecords"))) == messages


def test_a_file_that_expands_a_thousandfold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(expanded_file, "MAX_EXPANDED_BYTES", 1 << 20)
    whole = records([encode_image(PICTURES[0]), bytes(9 << 20)])
    path = tmp_path / "a.tfrecords"
    path.write_bytes(zlib.compress(whole, 9))
    assert len(whole) < 1032 * path.stat().st_size
    path.write_bytes(zlib.compress(zlib.compress(bytes(50 << 20), 9), 9))  # compressed twice: no record
    with pytest.raises(DataError, match="damaged or no TFRecord file"):
        list(stream_records(path))


def test_truncated_compressed_files_are_one_line(tmp_path):
    path = tmp_path / "a.tfrecords"
    whole = gzip.compress(records(map(encode_image, PICTURES)))
    for data in (whole[:-9], whole[:-2000], whole[:200], whole + b"junk behind it"):
        path.write_bytes(data)
        with pytest.raises(
            DataError, match=r"is not a whole TFRecord file \(.*\); copy or make it again|no TFRecord file"
        ):
            open_source(str(path))


def test_an_example_without_end_is_refused_and_other_features_are_named():
    with pytest.raises(ValueError, match="more than 1000 fields"):
        parse_example(field(1, b"") * 1001)
    entry = field(1, field(1, b"image/encoded") + field(2, field(1, field(1, b"x"))))
    with pytest.raises(ValueError, match=r"without shape and data: .*; it has image/encoded"):
        decode_image(field(1, entry))
    numbers = field(1, field(1, field(1, b"shape") + field(2, field(3, field(1, b"\1" * 5000)))))
    assert parse_example(numbers)["shape"] == [1] * 1000


@pytest.mark.parametrize("ending", PACKERS)
def test_mutated_files_give_pictures_or_one_line(ending, tmp_path):
    chance = random.Random(ending)
    whole = records(map(labelled, PICTURES[:4, :, :8, :8], NUMBERS))
    path = tmp_path / f"a.tfrecords{ending}"
    messages = []
    for _ in range(ROUNDS):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.choice([chance.randrange(40), chance.randrange(len(data) - 8), len(data) - 60])
            data[at : at + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f", chance.randbytes(2)])
            if chance.random() < 0.7:  # checksums that fit: the parser sees the damage
                length = struct.unpack("<Q", data[:8])[0]
                data[8:12] = struct.pack("<I", masked_crc(bytes(data[:8])))
                if length < len(data) - 16:
                    data[12 + length : 16 + length] = struct.pack("<I", masked_crc(bytes(data[12 : 12 + length])))
        packed = bytearray(PACKERS[ending](bytes(data)))
        if chance.random() < 0.3:
            packed[chance.randrange(len(packed))] ^= 1 << chance.randrange(8)
        path.write_bytes(packed)
        try:
            source = open_source(str(path))
            reader = source.reader(8, 0)
            for ref in source.refs():
                with suppress(BadImage):
                    assert len(reader.read(ref, 3).labels) == len(source.label_columns)
        except PgganError as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)
