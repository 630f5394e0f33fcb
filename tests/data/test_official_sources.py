"""The official TFRecords and HDF5 files, and other HDF5 files, as sources."""

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from pggan.data.sources import open_source
from pggan.utils.errors import DataError, UsageError
from tests.helpers.source_files import (
    ARRAYS,
    CLASSES,
    COUNT,
    FIXTURES,
    assert_portraits,
    assert_same_levels,
    read_all,
    reasons,
    stored,
)


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "expected.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name, top", [("synthcolor", 64), ("synthgray", 16)])
@pytest.mark.parametrize("kind", ["directory", "file", "hdf5"])
def test_the_official_files_are_read_exactly(name, top, kind, expected, tmp_path):
    source = {
        "directory": FIXTURES / name,
        "file": FIXTURES / name / f"{name}-r{top.bit_length() - 1:02d}.tfrecords",
        "hdf5": FIXTURES / f"{name}-{top}x{top}.h5",
    }[kind]
    levels, rows = stored(source, tmp_path / "data")
    expected_levels = {value.shape[-1]: value for key, value in expected.items() if key.startswith(f"{name}/lod")}
    assert_same_levels(levels, expected_levels)
    assert rows == [(str(number),) for number in expected[f"{name}/labels"]]
    # their lower levels are means of the highest, and so are ours
    levels, _ = stored(source, tmp_path / "low", max_res=8)
    assert_same_levels(levels, {side: expected_levels[side] for side in (4, 8)})
    assert not any(reasons(open_source(str(source))))


@pytest.fixture
def tfrecords(tmp_path):
    return Path(shutil.copytree(FIXTURES / "synthcolor", tmp_path / "records"))


@pytest.mark.parametrize("number", [0, 5, 11])
def test_a_damaged_record_is_one_bad_picture(tfrecords, number, tmp_path, expected):
    path = tfrecords / "synthcolor-r06.tfrecords"
    data = bytearray(path.read_bytes())
    data[len(data) // 12 * number + 100] ^= 1
    path.write_bytes(data)
    levels, _ = stored(tfrecords, tmp_path / "data")
    assert_same_levels({64: levels[64]}, {64: np.delete(expected["synthcolor/lod0"], number, 0)})
    assert reasons(open_source(str(tfrecords)))[number] == "damaged record (checksum)"


def test_other_damage_to_tfrecords_is_named(tfrecords):
    path = tfrecords / "synthcolor-r06.tfrecords"
    data = path.read_bytes()
    for changed, message in (
        (data[:-5], r"r06\.tfrecords is cut short in record 11; copy or make it again"),
        (data[:-12340], r"r06\.tfrecords is cut short in record 11"),
        (b"", "holds no records"),
        (b"\0" * 100, "is damaged or no TFRecord file: the length of record 0"),
        (bytes(data[:12]) + b"\0" * (len(data) // 12 - 12), "holds no pictures of the official release: damaged rec"),
    ):
        path.write_bytes(changed)
        with pytest.raises(DataError, match=message) as caught:
            open_source(str(tfrecords))
        assert "\n" not in str(caught.value)
    path.unlink()  # the largest that is left counts
    assert read_all(open_source(str(tfrecords)))[0].image.shape == (32, 32, 3)


def test_two_sets_of_tfrecords_are_told_apart_by_naming(tfrecords):
    for path in (FIXTURES / "synthgray").iterdir():
        shutil.copy(path, tfrecords)
    with pytest.raises(
        DataError, match=r"several data sets \(synthcolor, synthgray\); name one's largest file, as .*r06"
    ):
        open_source(str(tfrecords))
    assert len(open_source(str(tfrecords / "synthgray-r04.tfrecords"))) == 10


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros((3, 5)), r"labels of shape \(3, 5\) do not fit 12 pictures; mend or remove them"),
        (np.full(COUNT, 0.5), "no two different numbers"),
        (np.array(0), r"labels of shape \(\) do not fit"),
        (np.arange(COUNT) - 5, "class numbers run from 0 up to 100000"),
        (np.full(COUNT, 10**6), "class numbers run from 0 up to 100000"),
        (None, r"rxx\.labels is not a whole array of labels .*; make it again, or remove it"),
    ],
)
def test_wrong_labels_beside_tfrecords_are_refused(tfrecords, values, message):
    with open(tfrecords / "synthcolor-rxx.labels", "wb") as file:
        file.write(b"PK\3\4junk") if values is None else np.save(file, values)
    with pytest.raises(DataError, match=message):
        open_source(str(tfrecords))


def write_h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


@pytest.mark.parametrize(
    "labels, names",
    [
        (np.array(CLASSES), [str(c) for c in CLASSES]),
        (np.array(CLASSES)[:, None].astype(np.float32), [str(c) for c in CLASSES]),
        (np.eye(3, dtype=bool)[CLASSES], [str(c) for c in CLASSES]),
        ([f"köln{c}" for c in CLASSES], [f"köln{c}" for c in CLASSES]),
        (np.array([f"c{c}".encode() for c in CLASSES]), [f"c{c}" for c in CLASSES]),
        (np.linspace(0, 1, COUNT), None),  # a measurement
        (np.zeros((3, 2)), None),  # of something else
    ],
)
def test_hdf5_of_any_layout_is_read(tmp_path, labels, names):
    path = write_h5(tmp_path / "a.h5", **{"train/images": ARRAYS, "thumbs": ARRAYS[:, ::2, ::2], "label": labels})
    assert_portraits(path, tmp_path, names)


def test_hdf5_attributes_become_labels(tmp_path):
    marks = np.where(np.random.default_rng(0).random((COUNT, 4)) < 0.5, 1, -1)
    path = write_h5(tmp_path / "a.h5", images=ARRAYS, attributes=marks)
    _, rows = stored(path, tmp_path / "data")
    assert rows == [tuple("yes" if mark > 0 else "no" for mark in row) for row in marks]
    assert open_source(str(path)).label_columns[3].name == "attribute3"


def test_hdf5_without_pictures_or_damaged_is_an_error(tmp_path):
    whole = (FIXTURES / "synthcolor-64x64.h5").read_bytes()
    for name, data, message in (
        ("a.h5", write_h5(tmp_path / "a.h5", x=np.zeros((3, 4, 4, 3), np.float32)).read_bytes(), "no data set of pict"),
        ("b.h5", whole[:5000], r"is not a whole HDF5 file \(.*\); copy or make it again"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / name))
    with h5py.File(FIXTURES / "synthcolor-64x64.h5") as file:
        chunk = file["data64x64"].id.get_chunk_info(0)
    damaged = bytearray(whole)
    damaged[chunk.byte_offset + 50 : chunk.byte_offset + 90] = b"\0" * 40
    (tmp_path / "c.h5").write_bytes(damaged)
    bad = reasons(open_source(str(tmp_path / "c.h5")))
    assert None in bad
    assert any(bad)


@pytest.mark.parametrize("module, extra", [("h5py", "hdf5"), ("pyarrow", "parquet")])
def test_packages_that_are_not_installed_are_named(module, extra, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes({"hdf5": b"\x89HDF\r\n\x1a\n", "parquet": b"PAR1"}[extra])
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"needs one more package: pip install 'pggan\[{extra}\]'"):
        open_source(str(path))
