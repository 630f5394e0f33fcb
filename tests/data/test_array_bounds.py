"""Small files that expand to gigabytes: each is refused, or read, in a bounded amount of memory and time."""

import gzip
import json
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from pggan.data.sources.huggingface import _read_message
from tests.helpers.hostile_files import npy_header
from tests.helpers.image_files import encoded, portrait

GIB = 1 << 30
# Reads a source in a process of bounded memory; prints what came of it, its largest memory in MiB, and the seconds.
READ = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage
from pggan.data.sources.label_files import with_labels
from pggan.utils.errors import PgganError
import numpy, h5py, pyarrow.parquet
def usage(what):  # getrusage would count the process that started this one
    return int(open("/proc/self/status").read().partition(what)[2].split()[0]) >> 10
before, start, images, bad = usage("VmRSS:"), time.monotonic(), 0, set()
try:
    source = with_labels(open_source(sys.argv[1]), sys.argv[2] if sys.argv[2:] else None)
    reader = source.reader(8, 0)
    for ref, _ in zip(source.refs(), range(20)):
        try:
            reader.read(ref, 3)
            images += 1
        except BadImage as error:
            bad.add(str(error))
    error = None
except PgganError as problem:
    error = str(problem)
print(json.dumps([images, sorted(bad), error, usage("VmHWM:") - before, round(time.monotonic() - start, 2)]))
"""


def read(*arguments):
    """Returns what came of reading a source: images, reasons of bad ones, error; its memory in MiB."""
    done = subprocess.run([sys.executable, "-c", READ, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    images, bad, error, memory, seconds = json.loads(done.stdout)
    print(f"{arguments[0].name}: {images} images, {bad}, {error}; {memory} MiB, {seconds} s")
    return images, " ".join(bad) or error, memory


def zeros(length, level=1):
    """Returns `length` bytes of zeros as a zlib stream, made piece by piece."""
    pack = zlib.compressobj(level)
    return b"".join([pack.compress(bytes(1 << 20)) for _ in range(length >> 20)] + [pack.flush()])


def an_hdf5_with_a_chunk_that_expands(path):
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (3, 1024, 1024, 3), "u1", chunks=(1, 1024, 1024, 3), compression="gzip")
        for i in range(3):
            images.id.write_direct_chunk((i, 0, 0, 0), zeros(GIB, level=9))
    return "expands to more or less than it claims"


def an_hdf5_with_a_chunk_of_a_gigabyte(path):
    with h5py.File(path, "w") as file:
        shape = (2000, 512, 512, 3)
        images = file.create_dataset("images", shape, "u1", chunks=shape, compression="gzip")
        images.id.write_direct_chunk((0, 0, 0, 0), zeros(1500 << 20))
    return "in pieces of 1500 MiB; the limit is 256"


def an_hdf5_whose_pictures_are_in_millions_of_pieces(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (3, 4096, 4096, 3), "u1", chunks=(1, 1, 1, 1))
    return "0 of its 150994944 pieces are there"


def an_hdf5_whose_labels_are_one_long_text(path):
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((3000, 8, 8, 3), np.uint8)
        labels = file.create_dataset("labels", (3000,), h5py.string_dtype())
        labels[:] = "x" * 1000
        labels[7] = "y" * (64 << 20)
    return


def a_parquet_with_a_page_that_expands(path):
    table = pa.table({"image": pa.array([bytes(GIB)], pa.binary())})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    return "a page that expands to 1024 MiB; the limit is 256"


def a_parquet_whose_rows_share_one_value(path):
    image = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array([bytes(200 << 20)], pa.binary()))
    rows = pa.table({"image": image})
    pyarrow.parquet.write_table(rows, path, compression="zstd", store_schema=False, dictionary_pagesize_limit=GIB)
    return "not a picture that can be read"


def a_parquet_that_claims_rows(path):
    table = pa.table({"image": pa.array([None] * 10**7, pa.binary())})
    pyarrow.parquet.write_table(table, path, compression="zstd")
    return "claims 10000000 rows in"


def an_npz_whose_pictures_expand(path):
    write_npz(path, images=npy_header((4, 11000, 11000, 3)) + bytes(1 << 20))
    return "its pictures are above the limit of 256 MiB each"


def an_npz_whose_labels_expand(path):
    write_npz(path, images=npy_header((3, 8, 8, 3)) + bytes(576), labels=npy_header((3, 10**9), "<i8"))
    return


def an_idx_that_expands(path):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(struct.pack(">4B3I", 0, 0, 8, 3, 64, 4096, 4096))
        for _ in range(1024):
            file.write(bytes(1 << 20))
    return


def an_arrow_stream_that_claims_a_body(path):
    table = pa.table({"image": pa.array([encoded(portrait(0))], pa.binary())})
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    with open(path, "rb") as file:
        _read_message(file)
        length = _read_message(file).body_bytes
    path.write_bytes(path.read_bytes().replace(struct.pack("<q", length), struct.pack("<q", 1 << 40), 1))
    return "is not a whole Arrow stream"


def an_arrow_stream_that_expands(path):
    table = pa.table({"image": pa.array([bytes(GIB)], pa.binary())})
    with pa.ipc.new_stream(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return "is compressed, or has dictionaries; save it with to_parquet"


def write_npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)


CASES = {
    "chunk.h5": an_hdf5_with_a_chunk_that_expands,
    "large.h5": an_hdf5_with_a_chunk_of_a_gigabyte,
    "pieces.h5": an_hdf5_whose_pictures_are_in_millions_of_pieces,
    "texts.h5": an_hdf5_whose_labels_are_one_long_text,
    "page.parquet": a_parquet_with_a_page_that_expands,
    "shared.parquet": a_parquet_whose_rows_share_one_value,
    "rows.parquet": a_parquet_that_claims_rows,
    "images.npz": an_npz_whose_pictures_expand,
    "labels.npz": an_npz_whose_labels_expand,
    "a-images-idx3-ubyte.gz": an_idx_that_expands,
    "claims.arrow": an_arrow_stream_that_claims_a_body,
    "packed.arrow": an_arrow_stream_that_expands,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_expansion_is_bounded(name, tmp_path):
    reason = CASES[name](tmp_path / name)
    images, problem, memory = read(tmp_path / name)
    assert memory < 1600  # five or six times the largest picture of a table
    if reason is None:
        assert images > 0
        assert problem is None
    else:
        assert images == 0
        assert reason in problem


@pytest.mark.slow
@pytest.mark.parametrize("name, unit, limit", [("a.csv", b",", 1500), ("a.json", b"[],", 1500), ("a.txt", b"1 ", 1500)])
def test_lists_are_bounded(name, unit, limit, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/0.png").write_bytes(encoded(portrait(0)))
    head = {"a.csv": b"name,kind\n0.png", "a.json": b'{"labels": [', "a.txt": b"1\nkind\n0.png "}[name]
    (tmp_path / name).write_bytes(head + unit * ((200 << 20) // len(unit)))
    _, problem, memory = read(tmp_path / "images", tmp_path / name)
    assert "has more than 33 million values; split it, or remove columns" in problem
    assert memory < limit
    with open(tmp_path / name, "r+b") as file:
        file.truncate(1 << 34)
    _, problem, memory = read(tmp_path / "images", tmp_path / name)
    assert "is above the limit of 256 MiB for lists" in problem
    assert memory < limit
