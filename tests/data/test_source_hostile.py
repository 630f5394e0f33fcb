"""Damaged and hostile files: a source, or one line that says what is wrong; a picture, or a report. Nothing else."""

import gzip
import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pggan.data.sources import open_source
from pggan.data.sources.label_table import LabelTable
from pggan.utils.errors import DataError
from tests.helpers.hostile_files import PICTURES, PNGS, npy_header, take, written
from tests.helpers.video_files import write_video


def a_zip(out):
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in PNGS.items():
            file.writestr(name, data)
        file.writestr("labels.csv", "name,kind\n0.png,a\n")


def a_celebamask(out):
    with zipfile.ZipFile(out, "w") as file:
        for name, data in PNGS.items():
            file.writestr(f"x/CelebA-HQ-img/{name}", data)
        file.writestr("x/CelebAMask-HQ-attribute-anno.txt", "1\nSmiling\n0.jpg 1\n")


def a_tar(mode):
    def write(out):
        with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as file:
            for name, data in {**PNGS, "0.cls": b"1", "1.json": b'{"label": 2}'}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                info.pax_headers = {"comment": "ü"}
                file.addfile(info, io.BytesIO(data))

    return write


def an_h5(out):
    with h5py.File(out, "w") as file:
        file.create_dataset("data8x8", data=PICTURES, chunks=(1, 8, 8, 3), compression="gzip")
        file["labels"] = np.arange(3)


def a_parquet(out):
    image = pa.array([{"bytes": data, "path": name} for name, data in PNGS.items()])
    pyarrow.parquet.write_table(pa.table({"image": image, "label": [0, 1, 0], "who": ["a", "b", "a"]}), out)


IDX = struct.pack(">4B3I", 0, 0, 8, 3, 3, 8, 24) + PICTURES.tobytes()


def a_video(out):
    write_video(out, [Image.fromarray(picture.repeat(2, 0).repeat(2, 1)) for picture in PICTURES], kind="matroska")


WHOLE = {
    "a.mkv": written(a_video),
    "a.zip": written(a_zip),
    "m.zip": written(a_celebamask),
    "a.tar": written(a_tar("w")),
    "a.tar.gz": written(a_tar("w:gz")),
    "a.tar.xz": written(a_tar("w:xz")),
    "a.tar.bz2": written(a_tar("w:bz2")),
    "a.h5": written(an_h5),
    "a.parquet": written(a_parquet),
    "a.npy": written(lambda out: np.save(out, PICTURES)),
    "a.npz": written(lambda out: np.savez(out, images=PICTURES, labels=np.arange(3))),
    "c.npz": written(lambda out: np.savez_compressed(out, images=PICTURES, labels=np.arange(3))),
    "a-images-idx3-ubyte": IDX,
    "a-images-idx3-ubyte.gz": gzip.compress(IDX),
    "a-r03.tfrecords": (Path(__file__).parents[1] / "fixtures/data/synthgray/synthgray-r03.tfrecords").read_bytes(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_taken(name, tmp_path):
    (tmp_path / name).write_bytes(WHOLE[name])
    assert take(tmp_path / name)


hostile = settings(
    derandomize=True,
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", WHOLE)
@hostile
@given(data=st.data())
def test_mutated_files(name, tmp_path, data):
    whole = bytearray(WHOLE[name])
    # headers are at the beginning or at the end
    places = st.one_of(st.integers(0, min(300, len(whole) - 1)), st.integers(0, len(whole) - 1))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(places)
        whole[at if data.draw(st.booleans()) else -1 - at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    (tmp_path / name).write_bytes(whole[:cut])
    take(tmp_path / name)


@hostile
@given(data=st.binary(max_size=300), name=st.sampled_from([*WHOLE, "a.tfrecords", "a", "a.png", "data.mdb"]))
def test_random_bytes_by_any_name(data, name, tmp_path):
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for head in (b"", WHOLE.get(name, b"")[:8]):
        (folder / name).write_bytes(head + data)
        take(folder / name)
        take(folder)


@hostile
@given(text=st.text(st.sampled_from('a1,;\t"\n\r .-{}[]:x\0ü'), max_size=60))
def test_lists_of_labels_of_any_text(text):
    for read in (LabelTable.read_csv, LabelTable.read_list, LabelTable.read_json):
        try:
            table = read(text, "a list")
        except DataError:
            continue
        assert table.get(table.first) is None or len(table.get(table.first)) == len(table.columns)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_nothing_pickled_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bomb = np.array([Bomb()] * 3, dtype=object)
    np.save("a.npy", PICTURES)
    np.save("a-labels.npy", bomb)
    np.save("b.npy", bomb)
    np.savez("c.npz", images=bomb)
    np.savez("d.npz", images=PICTURES, labels=bomb)
    Path("folder").mkdir()
    np.save("folder/0.npy", bomb)
    for name in ("a.npy", "b.npy", "c.npz", "d.npz"):
        assert not take(name)
    assert take("folder")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "members",
    [
        {"a.npy": npy_header((10**6, 4096, 4096, 3))},
        {"a.npy": npy_header((10**6, 10**6, 10**6, 3))},
        {"a.npy": npy_header((2**62, 2**62, 2**62))},
        {"a.npy": b"\x93NUMPY\2\0\xff\xff\xff\xff"},
        {"a.npy": npy_header((3, 8, 8, 3)) + PICTURES.tobytes(), "labels.npy": npy_header((3,), "<U100000000")},
        {"a.npy": npy_header((3, 8, 8, 3)) + PICTURES.tobytes(), "labels.npy": npy_header((3, 10**9), "<i8")},
        {"a.npy": npy_header((3, 8, 8, 3), "|V0")},
    ],
)
def test_arrays_that_claim_to_be_huge(members, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    (tmp_path / "folder").mkdir()
    for name, data in members.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / "folder" / name).write_bytes(data)
        take(tmp_path / name)
    take(tmp_path / "a.npz")
    take(tmp_path / "folder")


def test_an_hdf5_that_claims_huge_pictures(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10, 3, 10**6, 10**6), np.uint8, chunks=(1, 1, 1000, 1000))
        file.create_dataset("nothing", data=h5py.Empty("u1"))
    with pytest.raises(DataError, match="holds no data set of pictures"):
        open_source(str(tmp_path / "a.h5"))


def test_a_zip_whose_names_are_numbers_without_end(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("9" * 6000 + ".png", "01.png", "1.png"):
            file.writestr(name, PNGS["0.png"])
    assert [ref.name[:6] for ref in open_source(str(tmp_path / "a.zip")).refs()] == ["01.png", "1.png", "999999"]


def test_parquet_is_read_piece_by_piece(tmp_path):
    """Pictures of 64 MB in one row group, and never more than some of them in the memory."""
    noise = np.random.default_rng(0).bytes(1 << 18)
    writer = None
    for part in range(4):
        rows = [{"bytes": noise[i:] + noise[:i], "path": str(i)} for i in range(part * 64, part * 64 + 64)]
        table = pa.table({"image": pa.array(rows), "label": [i % 2 for i in range(64)]})
        writer = writer or pyarrow.parquet.ParquetWriter(
            tmp_path / "a.parquet", table.schema, write_batch_size=16, data_page_size=1 << 20, use_dictionary=False
        )
        writer.write(table)
    writer.close()
    source = open_source(str(tmp_path / "a.parquet"))
    base = most = pa.total_allocated_bytes()
    for _ in source.refs():
        most = max(most, pa.total_allocated_bytes())
    assert most - base < 32 << 20


@pytest.mark.long
def test_sniffing_loads_no_library_that_is_not_needed(tmp_path):
    (tmp_path / "0.png").write_bytes(PNGS["0.png"])
    code = (
        "import sys; from pggan.data.sources import open_source; open_source(sys.argv[1]); "
        "print([m for m in ('h5py', 'pyarrow', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
