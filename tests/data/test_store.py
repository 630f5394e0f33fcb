"""The store: codecs, writing, reading, the manifest, damage, threads and processes."""

import json
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.data.label_columns import LabelColumn
from pggan.data.store import lmdb_environment
from pggan.data.store.codecs import CODECS, choose_codecs, decode, encode
from pggan.data.store.manifest import FORMAT, Manifest
from pggan.data.store.store import Store, is_store
from pggan.data.store.writer import StoreWriter
from pggan.utils.errors import DataError, UsageError
from tests.helpers.lmdb_contents import noise, rewrite


def manifest(count, codecs, channels=3, **values):
    sides = tuple(sorted(codecs))
    return Manifest(count, channels, sides, codecs, dict.fromkeys(sides, 1), "test", **values)


def make(path, images, codecs, labels=None, columns=(), **writer):
    """`images`: {resolution: (N, C, R, R)}."""
    store_writer = StoreWriter(path, codecs, **writer)
    count, channels = next(iter(images.values())).shape[:2]
    for index in range(count):
        records = {side: encode(images[side][index], codec, 95) for side, codec in codecs.items()}
        store_writer.add(records, tuple(labels[index]) if labels is not None else ())
    store_writer.finish(manifest(count, codecs, channels, labels=columns))
    return path


@pytest.fixture
def small(tmp_path):
    images = {4: noise(3, 4), 8: noise(3, 8)}
    return make(tmp_path / "data", images, {4: "raw", 8: "png"}), images


@pytest.mark.parametrize("channels", [1, 3])
def test_records_and_labels_come_back_as_written(tmp_path, channels):
    images = {side: noise(5, side, channels) for side in (4, 8, 16)}
    labels = np.array([[0, -1], [1, 0], [2, 1], [0, 0], [1, -1]])
    columns = (LabelColumn("hair", ("bun", "spiky", "none")), LabelColumn("beard", ("no", "yes")))
    make(tmp_path / "data", images, {4: "raw", 8: "png", 16: "webp"}, labels, columns)
    assert is_store(tmp_path / "data")
    with Store(tmp_path / "data") as store:
        assert len(store) == 5
        assert (store.resolutions, store.max_resolution, store.channels) == ((4, 8, 16), 16, channels)
        for side, expected in images.items():
            np.testing.assert_array_equal(store.read(side, [4, 0, 0, 2]), expected[[4, 0, 0, 2]])
        assert store.read(8, []).shape == (0, channels, 8, 8)
        np.testing.assert_array_equal(store.labels, labels)
        assert store.labels.dtype == np.int32
        assert store.manifest.labels == columns
    assert not lmdb_environment._OPEN


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), level=st.integers(2, 6), channels=st.sampled_from([1, 3]))
@pytest.mark.parametrize("codec", [c for c in CODECS if c != "jpeg"])
def test_codecs_are_lossless(codec, seed, level, channels):
    image = noise(1, 2**level, channels, seed)[0]
    np.testing.assert_array_equal(decode(encode(image, codec, 1), codec, channels, 2**level), image)


def test_jpeg_is_close_and_its_quality_counts():
    y, x = np.mgrid[0:64, 0:64]
    image = np.stack([2 * x + y, 3 * y, 200 - x]).astype(np.uint8)
    good, poor = encode(image, "jpeg", 95), encode(image, "jpeg", 5)
    assert len(poor) < len(good)
    assert np.abs(decode(good, "jpeg", 3, 64).astype(int) - image).mean() < 2


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_records_are_value_errors(codec):
    record = encode(noise(1, 16)[0], codec, 90)
    for damaged in (record[: len(record) // 2], b"", b"nonsense" * 10):
        with pytest.raises(ValueError, match="cannot reshape" if codec == "raw" else f"damaged {codec} record"):
            decode(damaged, codec, 3, 16)
    with pytest.raises(ValueError, match="cannot reshape" if codec == "raw" else "it holds 8x8 pixels"):
        decode(encode(noise(1, 8)[0], codec, 90), codec, 3, 16)


def test_codecs_are_chosen_by_resolution():
    sides = [4, 64, 128, 1024]
    assert choose_codecs(None, sides) == {4: "raw", 64: "raw", 128: "webp", 1024: "webp"}
    assert choose_codecs(None, sides, channels=1) == {4: "raw", 64: "raw", 128: "png", 1024: "png"}
    assert choose_codecs("jpeg", sides) == {4: "raw", 64: "raw", 128: "jpeg", 1024: "jpeg"}
    assert choose_codecs("raw", sides) == dict.fromkeys(sides, "raw")
    assert choose_codecs("64:png, 1024:jpeg", sides) == {4: "raw", 64: "png", 128: "png", 1024: "jpeg"}
    for wrong in ("gif", "64:gif", "65:png", "x:png", "64:png,", ":", "2:raw"):
        with pytest.raises(UsageError, match="--codec"):
            choose_codecs(wrong, sides)


def test_the_map_grows_and_nothing_is_preallocated(tmp_path):
    count, side = 700, 64
    images = {side: noise(count, side)}
    make(tmp_path / "data", images, {side: "raw"}, first_map=1 << 18)
    written = images[side].nbytes
    assert written > 16 * (1 << 18)
    assert written < os.path.getsize(tmp_path / "data" / "data.mdb") < 1.5 * written
    with Store(tmp_path / "data") as store:
        np.testing.assert_array_equal(store.read(side, range(count)), images[side])
    assert os.listdir(tmp_path / "data") == ["data.mdb"]


def test_a_manifest_comes_back_from_json():
    original = manifest(
        3,
        {4: "raw", 8: "webp"},
        options={"fit": "crop"},
        labels=(LabelColumn("a", ("x", "y")),),
        attribution="someone",
        left_out={"bad": 2},
    )
    assert Manifest.from_json(json.loads(json.dumps(original.to_json()))) == original
    assert Manifest.from_json({**original.to_json(), "later": 1}) == original


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_a_missing_store_is_an_error(tmp_path, name):
    (tmp_path / "file").write_text("hello")
    (tmp_path / "empty").mkdir()
    assert not is_store(tmp_path / name)
    with pytest.raises(DataError, match="no data store; make one with: pggan prepare-data"):
        Store(tmp_path / name)


def test_a_half_made_store_is_refused(tmp_path):
    writer = StoreWriter(tmp_path / "data", {4: "raw"})
    writer.add({4: noise(1, 4)[0].tobytes()})
    writer.close()
    with pytest.raises(DataError, match=r"half-made store; run pggan prepare-data again"):
        Store(tmp_path / "data")


def test_another_program_s_lmdb_is_refused(tmp_path):
    with lmdb.open(str(tmp_path / "data")) as env, env.begin(write=True) as txn:
        txn.put(b"length", b"70000")
    with pytest.raises(DataError, match="another program's LMDB"):
        Store(tmp_path / "data")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda v: json.dumps({**v, "format": FORMAT + 1}).encode(),
            "format 3, this pggan reads up to 2; update pggan",
        ),
        (lambda v: b"{", "damaged"),
        (lambda v: b"[]", "damaged"),
        (lambda v: json.dumps({k: v[k] for k in v if k != "codecs"}).encode(), "damaged"),
        (lambda v: json.dumps({**v, "channels": 2}).encode(), "damaged"),
        (lambda v: json.dumps({**v, "resolutions": [4]}).encode(), "damaged"),
        (lambda v: json.dumps({**v, "count": 4}).encode(), "3 of 4 pictures at 4x4"),
    ],
)
def test_a_damaged_or_newer_manifest_is_refused(small, change, message):
    rewrite(small[0], change)
    with pytest.raises(DataError, match=message):
        Store(small[0])
    assert not lmdb_environment._OPEN


@pytest.mark.parametrize("length", [0, 10, 100, 4096, 8192, 12288, -4096, -1])
def test_a_truncated_file_is_refused(small, length):
    file = small[0] / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    with pytest.raises(DataError, match=r"cut short|not a readable data store"):
        Store(small[0])


def test_garbage_in_place_of_the_file_is_refused(small):
    (small[0] / "data.mdb").write_bytes(os.urandom(40_000))
    with pytest.raises(DataError, match="not a readable data store"):
        Store(small[0])


def test_a_damaged_record_names_the_picture(tmp_path):
    writer = StoreWriter(tmp_path / "data", {8: "png"})
    for record in (encode(noise(1, 8)[0], "png", 0), b"\x89PNG no more"):
        writer.add({8: record})
    writer.finish(manifest(2, {8: "png"}))
    with Store(tmp_path / "data") as store:
        assert store.read(8, [0]).shape == (1, 3, 8, 8)
        with pytest.raises(DataError, match="picture 1 at 8x8: damaged png"):
            store.read(8, [0, 1])
        with pytest.raises(DataError, match="picture 2 at 8x8: no such record"):
            store.read(8, [2])
        with pytest.raises(DataError, match="no 16x16 pictures, its largest are 8x8; prepare it with --max-res 16"):
            store.read(16, [0])


def test_several_stores_of_one_file_and_closing_twice(small):
    path, images = small
    first, second = Store(path), Store(str(path))
    first.close()
    first.close()
    np.testing.assert_array_equal(second.read(4, [1]), images[4][[1]])
    np.testing.assert_array_equal(first.read(4, [2]), images[4][[2]])  # opened again
    del first
    second.close()
    assert not lmdb_environment._OPEN


def test_a_store_of_the_same_name_is_not_the_old_one(small, tmp_path):
    path, images = small
    old = Store(path)
    path.rename(tmp_path / "old")
    make(path, {4: noise(2, 4, seed=9)}, {4: "raw"})
    with Store(path) as new:
        assert len(new) == 2
        np.testing.assert_array_equal(old.read(4, [0]), images[4][[0]])
    sent = pickle.loads(pickle.dumps(old))
    with pytest.raises(DataError, match="replaced by another store"):
        sent.read(4, [0])
    old.close()


def test_threads_read_at_once(small):
    path, images = small
    barrier = threading.Barrier(4)
    with Store(path) as whole:
        sent = pickle.loads(pickle.dumps(whole))

    def work(_):
        barrier.wait()
        return [sent.read(side, [i]) for side in (4, 8) for i in range(3)]

    with ThreadPoolExecutor(4) as pool:
        for batches in pool.map(work, range(4)):
            for at, (side, i) in enumerate((side, i) for side in (4, 8) for i in range(3)):
                np.testing.assert_array_equal(batches[at], images[side][[i]])
    sent.close()
    assert not lmdb_environment._OPEN


@pytest.mark.long
def test_other_processes_open_it_on_first_use(small):
    path, images = small
    with Store(path) as store:
        sent = pickle.dumps(store)
    code = "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(s._opened, s.read(4, [1]).sum())"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, cwd=root, check=True)
    assert done.stdout.decode().split() == ["None", str(images[4][1].sum())]


@pytest.mark.long
def test_pictures_are_read_without_torch():
    code = (
        "import sys, pggan.data.prepare.prepare, pggan.data.loading.loader, pggan.data.sources.synthetic; "
        "assert 'torch' not in sys.modules and not any(m.startswith('pggan.cli') for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)
