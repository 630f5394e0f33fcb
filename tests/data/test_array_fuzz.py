"""Seeded fuzzers of arrays, tables and lists: a source and its pictures, or one line that says what is wrong."""

import gzip
import io
import json
import random
import struct

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from pggan.data.sources.aligned import AlignedReader
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref
from pggan.data.sources.label_table import LabelTable
from pggan.data.sources.landmarks import Landmarks
from pggan.utils.errors import DataError
from tests.helpers.hostile_files import PICTURES, PNGS, take, written

# Files of each kind; a nightly run takes more.
ROUNDS = 40


def an_hdf5(**options):
    def write(out):
        with h5py.File(out, "w") as file:
            group = file.create_group("train")
            group.create_dataset("images", data=PICTURES, **options)
            group["labels"] = np.arange(3)
            group["names"] = ["a", "b", "c"]

    return written(write)


def a_stream(**options):
    image = pa.array([{"bytes": data, "path": name} for name, data in PNGS.items()])
    table = pa.table({"image": image, "label": [0, 1, 0]})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema, **options) as writer:
        writer.write_table(table)
    return out.getvalue()


def a_parquet(**options):
    image = pa.array([{"bytes": data, "path": name} for name, data in PNGS.items()])
    table = pa.table({"image": image, "label": ["a", "b", "a"]})
    return written(lambda out: pyarrow.parquet.write_table(table, out, **options))


IDX = struct.pack(">4B3I", 0, 0, 8, 3, 3, 8, 24) + PICTURES.tobytes()
FILES = {
    "plain.h5": an_hdf5(),
    "gzip.h5": an_hdf5(chunks=(1, 4, 8, 3), compression="gzip", shuffle=True, fletcher32=True),
    "lzf.h5": an_hdf5(chunks=(2, 8, 8, 3), compression="lzf"),
    "stream.arrow": a_stream(),
    "packed.arrow": a_stream(options=pa.ipc.IpcWriteOptions(compression="lz4")),
    "plain.parquet": a_parquet(compression="none", use_dictionary=False),
    "zstd.parquet": a_parquet(compression="zstd", data_page_version="2.0"),
    "delta.parquet": a_parquet(compression="snappy", use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY"),
    "a.npy": written(lambda out: np.save(out, PICTURES)),
    "f.npy": written(lambda out: np.save(out, np.asfortranarray(PICTURES))),
    "a.npz": written(lambda out: np.savez_compressed(out, images=PICTURES, masks=PICTURES, labels=np.arange(3))),
    "a-images-idx3-ubyte": IDX,
    "a-images-idx3-ubyte.gz": gzip.compress(IDX),
}


def mutated(whole, rng):
    data = bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        at, width = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8))
        value = rng.choice((0, 1, 2**7, 2**15 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, rng.getrandbits(64)))
        data[at : at + width] = value.to_bytes(16, "little")[:width]
    return data[: rng.choice((len(data), len(data), rng.randrange(len(data))))]


@pytest.mark.parametrize("name", FILES)
def test_mutated_arrays_and_tables(name, tmp_path):
    rng = random.Random(name)
    assert take_file(tmp_path / name, FILES[name]) == (name != "packed.arrow")
    for _ in range(ROUNDS):
        take_file(tmp_path / name, mutated(FILES[name], rng))


def take_file(path, data):
    path.write_bytes(data)
    return take(path)


def one_line_or_none(function, *arguments):
    """Calls a function; returns its result, or None if it raises a `DataError` of one line."""
    try:
        return function(*arguments)
    except DataError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None


CELLS = [
    "0.png",
    "a",
    "1",
    "-1",
    "nan",
    "inf",
    "1e400",
    "0.5",
    "9" * 5000,
    "ü",
    "",
    '"',
    "\0",
    "[[",
    "{",
    "}",
    "labels",
]


@pytest.mark.parametrize("separator", [",", " ", "\t", ":"])
def test_lists_of_any_cells(separator, tmp_path):
    rng = random.Random(separator)
    for _ in range(4 * ROUNDS):
        lines = [separator.join(rng.choices(CELLS, k=rng.randint(1, 4))) for _ in range(rng.randint(0, 6))]
        text = rng.choice(("\n", "\r", "\r\n")).join(lines)
        for ending in (".csv", ".txt", ".json"):
            path = tmp_path / f"a{ending}"
            path.write_text(text)
            table = one_line_or_none(LabelTable.read, path)
            row = table and table.get("0.png")
            assert row is None or len(row) == len(table.columns)


def json_value(rng, depth=3):
    kind = rng.randrange(8 if depth else 5)
    if kind > 4:
        values = [json_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
        return values if kind < 7 else dict(zip(("labels", "0.png", "x"), values))
    return rng.choice((None, True, -1, 10**30, 0.5, float("nan"), "0.png", "x" * 300))


def test_json_lists_of_any_values(tmp_path):
    rng = random.Random(0)
    for _ in range(10 * ROUNDS):
        value = rng.choice((json_value(rng), {"labels": json_value(rng)}, {"labels": [["0.png", json_value(rng, 1)]]}))
        one_line_or_none(LabelTable.read_json, json.dumps(value), "a list")
        one_line_or_none(LabelTable.read_csv, "name,kind\n0.png,a\n", "a list", json.dumps(value).encode())
    for text in ("[" * 100_000, '{"labels":' * 50_000, "9" * 100_000):
        with pytest.raises(DataError):
            LabelTable.read_json(text, "a list")


class Whole(Reader):
    def read(self, ref, channels):
        return DecodedImage(np.zeros((16, 16, channels), np.uint8))

    def size(self, ref):
        return 16, 16


NUMBERS = ["0", "8", "1e308", "-1e308", "1e-308", "nan", "inf", "3.5", "x", "-4", "1e9"]


def test_landmarks_of_any_numbers(tmp_path):
    rng = random.Random(0)
    path = tmp_path / "a.txt"
    for _ in range(10 * ROUNDS):
        count = rng.choice((8, 10, 10, 3))
        path.write_text(
            "".join(f"{i}.png {' '.join(rng.choices(NUMBERS, k=count))}\n" for i in range(rng.randint(0, 3)))
        )
        landmarks = one_line_or_none(Landmarks.read, str(path))
        if landmarks is None:
            continue
        try:
            reader = AlignedReader(Whole(), landmarks, 8)
            assert reader.read(Ref("0.png", (Ref("0.png", None), 0)), 3).image.shape[2] == 3
        except BadImage:
            continue
