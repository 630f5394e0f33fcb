"""Stores and the StyleGAN ports' LMDBs as sources."""

import lmdb
import numpy as np
import pytest

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.store.store import Store
from pggan.utils.errors import DataError
from tests.helpers.image_files import encoded, portrait, write_folder
from tests.helpers.source_files import CLASSES, COUNT, assert_portraits, assert_same_levels, reasons, stored


def test_cutting_a_store_keeps_its_levels_and_labels(tmp_path):
    folder = write_folder(tmp_path / "pictures", COUNT)
    (folder / "labels.csv").write_text("name,kind\n" + "".join(f"{i}.png,k{c}\n" for i, c in enumerate(CLASSES) if i))
    big, rows = stored(folder, tmp_path / "big")
    cut, cut_rows = stored(tmp_path / "big", tmp_path / "cut", max_res=8)
    assert_same_levels(cut, {side: big[side] for side in (4, 8)})
    assert cut_rows == rows
    assert rows[:3] == [(None,), ("k1",), ("k2",)]
    again, _ = stored(tmp_path / "big", tmp_path / "again", codec="16:png,32:webp")
    assert_same_levels(again, big)
    with Store(tmp_path / "again") as store:
        assert store.manifest.codecs[32] == "webp"
    assert not any(reasons(open_source(str(tmp_path / "big"))))


def test_a_drawn_store_keeps_its_attribution(tmp_path):
    prepare("drawn:3", tmp_path / "drawn", PrepareOptions(max_res=16))
    prepare(str(tmp_path / "drawn"), tmp_path / "cut", PrepareOptions(max_res=8))
    with Store(tmp_path / "drawn") as drawn, Store(tmp_path / "cut") as cut:
        assert cut.manifest.attribution == drawn.manifest.attribution
        np.testing.assert_array_equal(cut.labels, drawn.labels)


def write_port(path, sizes=(32,), length=None, missing=(), count=COUNT):
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as txn:
        for size in sizes:
            for i in range(count):
                if i not in missing:
                    txn.put(f"{size}-{i:05d}".encode(), encoded(portrait(i).resize((size, size))))
        txn.put(b"length", str(count if length is None else length).encode())
    return path


def test_the_lmdb_of_the_stylegan_ports_is_read(tmp_path):
    path = write_port(tmp_path / "port", sizes=(8, 16, 32))
    assert_portraits(path, tmp_path)
    source, other = open_source(str(path)), open_source(str(path))
    assert not any(reasons(source))
    assert not any(reasons(other))  # both at once: LMDB itself opens a file only once
    gap = write_port(tmp_path / "gap", missing=[4])
    assert reasons(open_source(str(gap)))[4] == "no such record"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"length": "many"}, "is not a whole LMDB of pictures .*; copy or make it again"),
        ({"length": 10**20}, "pictures are promised, 13 records found"),
        ({"length": 0}, "holds no pictures under keys such as 256-00000"),
        ({"sizes": ()}, "is promised|are promised|holds no pictures"),
    ],
)
def test_wrong_lmdbs_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        open_source(str(write_port(tmp_path / "port", **change)))


def test_lmdbs_that_are_neither_are_refused(tmp_path):
    with lmdb.open(str(tmp_path / "other")) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")
    with pytest.raises(DataError, match="another program's LMDB"):
        open_source(str(tmp_path / "other"))
    path = write_port(tmp_path / "port", count=40) / "data.mdb"
    path.write_bytes(path.read_bytes()[:16384])  # mapped, what is missing would end the process
    with pytest.raises(DataError, match=r"is cut short .*; copy or make it again"):
        open_source(str(tmp_path / "port"))
    path.write_bytes(b"junk" * 5000)
    with pytest.raises(DataError, match="is not a readable data store"):
        open_source(str(tmp_path / "port"))
