"""Every format that pictures come in, from its files to a store."""

import gzip
import io
import json
import pickle
import shutil
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage
from pggan.data.sources.celebamask import CelebAMaskSource
from pggan.data.sources.folder import FolderSource
from pggan.data.sources.tar_archive import TarSource
from pggan.data.sources.webdataset import WebDatasetSource
from pggan.data.sources.zip_archive import ZipSource
from pggan.data.store.pyramid import pyramid
from pggan.data.store.store import Store
from pggan.utils.errors import DataError, UsageError
from tests.helpers.image_files import encoded, portrait, write_folder

FIXTURES = Path(__file__).parents[1] / "fixtures/data"
COUNT = 12  # past 9: natural order is not text order
ARRAYS = np.stack([np.asarray(portrait(i)) for i in range(COUNT)])
CLASSES = [i % 3 for i in range(COUNT)]


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "expected.npz") as file:
        return dict(file)


def stored(source, dest, **options):
    """Levels by side, and labels by picture as names (None: unknown), of the store made from a source."""
    prepare(str(source), dest, PrepareOptions(**options))
    with Store(dest) as store:
        levels = {side: store.read(side, range(len(store))) for side in store.resolutions}
        columns = store.manifest.labels
        rows = [tuple(c.classes[n] if n >= 0 else None for c, n in zip(columns, row)) for row in store.labels]
    return levels, rows


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for side in expected:
        np.testing.assert_array_equal(found[side], expected[side])


def assert_portraits(source, tmp_path, names=None, indices=range(COUNT), **options):
    """The store holds these portraits in their order, at all levels, with these labels."""
    levels, rows = stored(source, tmp_path / "data", **options)
    made = [pyramid(ARRAYS[i]) for i in indices]
    assert_same(levels, {side: np.stack([each[side] for each in made]) for side in made[0]})
    assert rows == ([(name,) for name in names] if names else [()] * len(made))
    shutil.rmtree(tmp_path / "data")


def numpy_images(source):
    """What a source gives, by readers and references that have been sent to another process."""
    reader = pickle.loads(pickle.dumps(source.reader(32, 0)))
    found = []
    for ref in source.refs():
        try:
            picture = reader.read(pickle.loads(pickle.dumps(ref)), source.channels or 3)
            assert reader.size(ref) == picture.image.shape[1::-1]
            found.append(picture)
        except BadImage as bad:
            found.append(str(bad))
    assert len(found) == len(source)
    assert len(list(source.sample(3, len(source)))) <= 3
    return found


def reasons(source):
    return [each if isinstance(each, str) else None for each in numpy_images(source)]


# the official TFRecords and HDF5


@pytest.mark.parametrize("name, top", [("synthcolor", 64), ("synthgray", 16)])
@pytest.mark.parametrize("kind", ["directory", "file", "hdf5"])
def test_the_official_files_are_read_exactly(name, top, kind, expected, tmp_path):
    source = {
        "directory": FIXTURES / name,
        "file": FIXTURES / name / f"{name}-r{top.bit_length() - 1:02d}.tfrecords",
        "hdf5": FIXTURES / f"{name}-{top}x{top}.h5",
    }[kind]
    levels, rows = stored(source, tmp_path / "data")
    made = {value.shape[-1]: value for key, value in expected.items() if key.startswith(f"{name}/lod")}
    assert_same(levels, made)
    assert rows == [(str(number),) for number in expected[f"{name}/labels"]]
    # their lower levels are means of the highest, and so are ours
    levels, _ = stored(source, tmp_path / "low", max_res=8)
    assert_same(levels, {side: made[side] for side in (4, 8)})
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
    assert_same({64: levels[64]}, {64: np.delete(expected["synthcolor/lod0"], number, 0)})
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
    assert numpy_images(open_source(str(tfrecords)))[0].image.shape == (32, 32, 3)


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
        (np.full(COUNT, 0.5), "neither class numbers nor names"),
        (np.array(0), r"labels of shape \(\) do not fit"),
        (np.arange(COUNT) - 5, "class numbers run from 0 up to 100000"),
        (np.full(COUNT, 10**6), "class numbers run from 0 up to 100000"),
        (None, r"rxx\.labels is not a whole array of labels .*; make it again, or remove it"),
    ],
)
def test_wrong_labels_beside_tfrecords(tfrecords, values, message):
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
def test_hdf5_of_any_layout(tmp_path, labels, names):
    path = write_h5(tmp_path / "a.h5", **{"train/images": ARRAYS, "thumbs": ARRAYS[:, ::2, ::2], "label": labels})
    assert_portraits(path, tmp_path, names)


def test_hdf5_with_attributes(tmp_path):
    marks = np.where(np.random.default_rng(0).random((COUNT, 4)) < 0.5, 1, -1)
    path = write_h5(tmp_path / "a.h5", images=ARRAYS, attributes=marks)
    _, rows = stored(path, tmp_path / "data")
    assert rows == [tuple("yes" if mark > 0 else "no" for mark in row) for row in marks]
    assert open_source(str(path)).label_columns[3].name == "attribute3"


def test_hdf5_without_pictures_and_damaged(tmp_path):
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
def test_packages_that_are_not_installed(module, extra, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes({"hdf5": b"\x89HDF\r\n\x1a\n", "parquet": b"PAR1"}[extra])
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"needs one more package: pip install 'pggan\[{extra}\]'"):
        open_source(str(path))


# Parquet

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def rows_of(indices=range(COUNT)):
    return [{"bytes": encoded(portrait(i)), "path": f"{i}.png"} for i in indices]


def write_parquet(path, features=None, row_group_size=4, **columns):
    table = pa.table({k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in columns.items()})
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True, parents=True)
    pyarrow.parquet.write_table(table, path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize("layout", ["", "data"])
def test_parquet_shards_with_named_classes(tmp_path, layout):
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog", "owl", "yak"]}}
    for shard in range(2):
        part = range(shard * 6, shard * 6 + 6)
        path = tmp_path / "set" / layout / f"train-0000{shard}-of-00002.parquet"
        write_parquet(path, features, image=pa.array(rows_of(part), IMAGE), label=[CLASSES[i] for i in part])
    write_parquet(tmp_path / "set" / layout / "test-00000-of-00001.parquet", image=pa.array(rows_of([1]), IMAGE))
    (tmp_path / "set/README.md").write_text("a set")
    (tmp_path / "set/cover.png").write_bytes(encoded(portrait(3)))  # one picture is no folder of pictures
    source = open_source(str(tmp_path / "set"))
    assert source.label_columns[0].classes == ("cat", "dog", "owl", "yak")
    assert_portraits(tmp_path / "set", tmp_path, [["cat", "dog", "owl"][c] for c in CLASSES])
    write_parquet(tmp_path / "set" / layout / "train-00001-of-00002.parquet", image=pa.array(rows_of([1]), IMAGE))
    with pytest.raises(DataError, match=r"has other columns than .*; give shards of one data set"):
        open_source(str(tmp_path / "set"))


def test_parquet_columns_that_are_labels(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet",
        image=pa.array(rows_of(), IMAGE),
        kind=[10 * c for c in CLASSES],
        smiles=[c == 1 for c in CLASSES],
        who=[None if i == 3 else f"p{i % 4}" for i in range(COUNT)],
        hue=pa.array([str(c) for c in CLASSES]).dictionary_encode(),
        known=[-1 if i == 5 else i % 2 for i in range(COUNT)],
        image_id=list(range(COUNT)),
        caption=[f"picture {i}" for i in range(COUNT)],
        width=[32 + i % 2 for i in range(COUNT)],
        always=["x"] * COUNT,
        score=[0.5 * c for c in CLASSES],
        boxes=[[{"x": i}] for i in range(COUNT)],
        mask=pa.array([b"no picture"] * COUNT, pa.binary()),
    )
    source = open_source(str(path))
    columns = {column.name: column.classes for column in source.label_columns}
    assert list(columns) == ["kind", "smiles", "who", "hue", "known"]
    assert columns["who"] == ("p0", "p1", "p2", "p3")
    _, rows = stored(path, tmp_path / "data")
    assert rows == [
        (
            str(10 * c),
            "yes" if c == 1 else "no",
            None if i == 3 else f"p{i % 4}",
            str(c),
            None if i == 5 else str(i % 2),
        )
        for i, c in enumerate(CLASSES)
    ]


def test_parquet_rows_without_pictures(tmp_path):
    rows = rows_of(range(4))
    rows[1] = None
    rows[2] = {"bytes": None, "path": "/etc/passwd"}
    rows[3] = {"bytes": b"junk", "path": None}
    path = write_parquet(tmp_path / "a.parquet", image=pa.array(rows, IMAGE))
    bad = reasons(open_source(str(path)))
    assert bad[0] is None
    assert bad[1] == bad[2] == "the row holds no picture, or only the path of one that is not there"
    assert bad[3] == "not a picture that can be read"
    assert [ref.name for ref in open_source(str(path)).refs()] == ["0.png", "row 1", "/etc/passwd", "row 3"]


def test_parquet_of_plain_bytes(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", jpg=pa.array([row["bytes"] for row in rows_of()], pa.binary()))
    assert_portraits(path, tmp_path)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"text": ["a"]}, r"has no column of images \(bytes\); its columns: text"),
        ({"image": [{"bytes": "text", "path": "a"}]}, "has no column of images"),
        ({"image": [[{"bytes": b"x"}]]}, "has no column of images"),
        ({"image": pa.array([], IMAGE)}, "holds no rows"),
    ],
)
def test_parquet_of_something_else(tmp_path, columns, message):
    path = write_parquet(tmp_path / "a.parquet", **columns)
    with pytest.raises(DataError, match=message):
        open_source(str(path))


def test_damaged_parquet(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", image=pa.array(rows_of(), IMAGE))
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(DataError, match=r"a\.parquet is not a whole Parquet file \(.*\); copy or make it again"):
        open_source(str(path))
    path.write_bytes(data[:200] + b"\xff" * 400 + data[600:])
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        prepare(str(path), tmp_path / "data")
    assert not (tmp_path / "data").exists()


# stores and other LMDBs


def test_cutting_a_store_keeps_its_levels_and_labels(tmp_path):
    folder = write_folder(tmp_path / "pictures", COUNT)
    (folder / "labels.csv").write_text("name,kind\n" + "".join(f"{i}.png,k{c}\n" for i, c in enumerate(CLASSES) if i))
    big, rows = stored(folder, tmp_path / "big")
    cut, cut_rows = stored(tmp_path / "big", tmp_path / "cut", max_res=8)
    assert_same(cut, {side: big[side] for side in (4, 8)})
    assert cut_rows == rows
    assert rows[:3] == [(None,), ("k1",), ("k2",)]
    again, _ = stored(tmp_path / "big", tmp_path / "again", codec="16:png,32:webp")
    assert_same(again, big)
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


def test_the_lmdb_of_the_stylegan_ports(tmp_path):
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
def test_wrong_lmdbs(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        open_source(str(write_port(tmp_path / "port", **change)))


def test_lmdbs_that_are_neither(tmp_path):
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


# idx

GREY = np.stack([np.asarray(portrait(i).convert("L")) for i in range(COUNT)])


def idx(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, parts, ending=".gz"):
    folder.mkdir(exist_ok=True)
    for name, part, labelled in parts:
        pack = gzip.compress if ending else bytes
        (folder / f"{name}-images-idx3-ubyte{ending}").write_bytes(pack(idx(GREY[part])))
        if labelled:
            (folder / f"{name}-labels-idx1-ubyte{ending}").write_bytes(pack(idx(np.array(CLASSES)[part])))
    return folder


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files(tmp_path, ending):
    folder = write_idx(tmp_path / "mnist", [("t10k", slice(8, 12), True), ("train", slice(0, 8), True)], ending)
    names = [(str(c),) for c in CLASSES]
    for part in (slice(0, 12), slice(8, 12)):
        source = folder if part.start == 0 else folder / f"t10k-images-idx3-ubyte{ending}"
        levels, rows = stored(source, tmp_path / f"data{part.start}")
        np.testing.assert_array_equal(levels[32][:, 0], GREY[part])
        assert rows == names[part]
    assert not any(reasons(open_source(str(folder))))


def test_idx_beside_its_own_gzip_counts_once(tmp_path):
    for ending in ("", ".gz"):
        write_idx(tmp_path / "mnist", [("train", slice(0, 8), True)], ending)
    assert len(open_source(str(tmp_path / "mnist"))) == 8


def test_idx_where_a_part_has_no_labels(tmp_path):
    folder = write_idx(tmp_path / "mnist", [("t10k", slice(8, 12), False), ("train", slice(0, 8), True)])
    _, rows = stored(folder, tmp_path / "data")
    assert rows == [(str(c),) for c in CLASSES[:8]] + [(None,)] * 4


@pytest.mark.parametrize(
    "data, message",
    [
        (idx(GREY)[:-1], "is not a whole idx file .*; copy it again"),
        (idx(GREY)[:9], "is not a whole idx file"),
        (gzip.compress(idx(GREY))[:-20], "is not a whole idx file"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "absurdly large"),
        (idx(GREY[:0]), "holds no pictures"),
        (idx(GREY[:, :0]), "holds no pictures"),
    ],
)
def test_wrong_idx_files(tmp_path, data, message):
    (tmp_path / "a-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a-images-idx3-ubyte"))


def test_idx_files_that_do_not_fit(tmp_path):
    folder = write_idx(tmp_path / "mnist", [("train", slice(0, 8), True)], "")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(CLASSES))
    with pytest.raises(DataError, match="has 12 labels for 8 pictures"):
        open_source(str(folder))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(GREY[:, :16]))
    with pytest.raises(DataError, match="pictures of several sizes; name one file"):
        open_source(str(folder))


# NumPy


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_all_pictures(tmp_path, axes, order):
    np.save(tmp_path / "a.npy", np.asarray(ARRAYS.transpose(axes), order=order))
    assert_portraits(tmp_path / "a.npy", tmp_path)
    np.save(tmp_path / "a-labels.npy", np.array(["b", "a", ""])[CLASSES])
    assert_portraits(tmp_path / "a.npy", tmp_path, [["b", "a", None][c] for c in CLASSES])
    assert not any(reasons(open_source(str(tmp_path / "a.npy"))))


def test_npy_in_grey_and_with_transparency(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    levels, _ = stored(tmp_path / "a.npy", tmp_path / "grey")
    np.testing.assert_array_equal(levels[32][:, 0], GREY)
    np.save(tmp_path / "b.npy", np.concatenate([ARRAYS, np.full((COUNT, 32, 32, 1), 255, np.uint8)], 3))
    assert_portraits(tmp_path / "b.npy", tmp_path)


@pytest.mark.parametrize(
    "array, message",
    [
        (ARRAYS.astype(np.float32), r"a\.npy is float32 of shape \(12, 32, 32, 3\); pictures are uint8"),
        (ARRAYS[0], r"of shape \(32, 32, 3\)"),  # one picture, not 32 of 32x3
        (ARRAYS[0].transpose(2, 0, 1), "pictures are uint8"),
        (ARRAYS[:0], "pictures are uint8"),
        (ARRAYS[:, :0], "pictures are uint8"),
        (np.zeros((2, 5, 6, 7), np.uint8), "pictures are uint8"),
        (np.array([{"a": 1}], dtype=object), "is not a whole array of pictures"),
    ],
)
def test_npy_of_something_else(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "images, labels", [("x_train", "y_train"), ("train_images", "train_labels"), ("arr_0", "none")]
)
def test_npz(tmp_path, save, images, labels):
    path = tmp_path / "a.npz"
    save(path, **{images: ARRAYS, "x_test": ARRAYS[:3], labels: np.array(CLASSES)[:, None]})
    assert_portraits(path, tmp_path, None if labels == "none" else [str(c) for c in CLASSES])
    assert not any(reasons(open_source(str(path))))


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a": ARRAYS / 255}, r"no array of pictures \(a: float64 \(12, 32, 32, 3\)\); pictures are uint8 from 0"),
        ({"a": np.asfortranarray(ARRAYS)}, "in Fortran's order; save them with np.ascontiguousarray"),
        ({"a": ARRAYS, "y": np.array(["a"] * COUNT, object)}, r"y\.npy holds pickled objects, which are never loaded"),
        ({"a": np.array([{}] * COUNT, object)}, "no array of pictures"),
        ({f"a{i}": each[None] for i, each in enumerate(np.tile(ARRAYS, (2, 1, 1, 1)))}, "24 arrays, .*; unpack it"),
    ],
)
def test_npz_of_something_else(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a.npz"))


def write_arrays(folder, first=0):
    folder.mkdir()
    for i in range(COUNT):
        np.save(folder / f"imgHQ{i + first:05d}.npy", ARRAYS[i].transpose(2, 0, 1)[None])
    return folder


def test_a_folder_of_arrays(tmp_path):
    folder = write_arrays(tmp_path / "arrays")
    (folder / "readme.txt").write_text("hello")
    (folder / "preview.png").write_bytes(encoded(portrait(0)))
    assert_portraits(folder, tmp_path)
    (folder / "labels.csv").write_text("name,kind\n" + "".join(f"imgHQ{i:05d},k{c}\n" for i, c in enumerate(CLASSES)))
    assert_portraits(folder, tmp_path, [f"k{c}" for c in CLASSES])


def test_bad_arrays_among_the_others(tmp_path):
    folder = write_arrays(tmp_path / "arrays")
    (folder / "imgHQ00003.npy").write_bytes((folder / "imgHQ00003.npy").read_bytes()[:-100])
    np.save(folder / "imgHQ00004.npy", ARRAYS[4] / 255)
    np.save(folder / "imgHQ00005.npy", ARRAYS)
    np.save(folder / "imgHQ00006.npy", np.array([{}], object))
    (folder / "imgHQ00007.npy").unlink()
    (folder / "imgHQ00007.npy").mkdir()
    bad = {i: reason for i, reason in enumerate(reasons(open_source(str(folder)))) if reason}
    assert list(bad) == [3, 4, 5, 6, 7]
    assert bad[3].startswith("not a whole array (")
    assert bad[4] == "an array of float64; pictures are uint8 from 0 to 255"
    assert bad[5] == "an array of shape (12, 32, 32, 3), which is no picture"
    assert_portraits(folder, tmp_path, indices=[0, 1, 2, 8, 9, 10, 11])


# CelebAMask-HQ

ATTRIBUTES = "12\nSmiling Young\n" + "".join(f"{i}.jpg  {1 if i % 2 else -1} {1 if i % 3 else -1}\n" for i in range(12))
EXPECTED = [("yes" if i % 2 else "no", "yes" if i % 3 else "no") for i in range(COUNT)]


@pytest.fixture
def celebamask(tmp_path):
    root = tmp_path / "all" / "CelebAMask-HQ"
    write_folder(root / "CelebA-HQ-img", COUNT)
    for path in (root / "CelebA-HQ-img").iterdir():
        path.rename(path.with_suffix(".jpg"))  # by their content they stay PNG
    write_folder(root / "CelebAMask-HQ-mask-anno/0", 3, side=64)
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text(ATTRIBUTES)
    return root


def zipped(folder, path, prefix="", extra=()):
    with zipfile.ZipFile(path, "w") as file:
        for name, data in extra:
            file.writestr(name, data)
        for each in sorted(folder.rglob("*"), key=str):
            if each.is_file():
                file.write(each, prefix + each.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("form", ["folder", "parent", "zip", "bare zip"])
def test_celebamask(celebamask, tmp_path, form):
    litter = [("__MACOSX/CelebAMask-HQ/CelebA-HQ-img/._0.jpg", b"x"), ("other-CelebA-HQ-img/0.jpg", b"x")]
    source = {
        "folder": lambda: celebamask,
        "parent": lambda: celebamask.parent,
        "zip": lambda: zipped(celebamask.parent, tmp_path / "a.zip", extra=litter),
        "bare zip": lambda: zipped(celebamask, tmp_path / "a.zip"),
    }[form]()
    opened = open_source(str(source))
    assert isinstance(opened, CelebAMaskSource)
    assert [column.name for column in opened.label_columns] == ["Smiling", "Young"]
    levels, rows = stored(source, tmp_path / "data")
    np.testing.assert_array_equal(levels[32], ARRAYS.transpose(0, 3, 1, 2))
    assert rows == EXPECTED
    assert not any(reasons(opened))


def test_celebamask_without_its_list_or_with_another(celebamask, tmp_path):
    (celebamask / "CelebAMask-HQ-attribute-anno.txt").unlink()
    assert_portraits(celebamask, tmp_path)
    (tmp_path / "my.csv").write_text("file;kind\n" + "".join(f"{i};k{c}\n" for i, c in enumerate(CLASSES)))
    assert_portraits(celebamask, tmp_path, [f"k{c}" for c in CLASSES], labels=str(tmp_path / "my.csv"))


# webdataset


def shard(path, part, labels="cls", mode="w"):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as file:
        for i in part:
            members = {"png": encoded(portrait(i)), "txt": b"a caption"}
            if labels == "cls":
                members["cls"] = str(CLASSES[i]).encode()
            elif labels == "json":
                members["json"] = json.dumps({"label": f"k{CLASSES[i]}", "more": [1]}).encode()
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{i:06d}.{ending}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode, ending", [("w", "tar"), ("w:gz", "tar.gz")])
@pytest.mark.parametrize("labels", ["cls", "json", None])
def test_webdataset_shards(tmp_path, labels, mode, ending):
    for number in range(3):
        shard(tmp_path / "set" / f"data-{number + 8:02d}.{ending}", range(number * 4, number * 4 + 4), labels, mode)
    names = {"cls": [str(c) for c in CLASSES], "json": [f"k{c}" for c in CLASSES], None: None}[labels]
    assert_portraits(tmp_path / "set", tmp_path, names)
    assert_portraits(tmp_path / "set" / f"data-{{08..10}}.{ending}", tmp_path, names)
    assert_portraits(tmp_path / "set" / f"data-09.{ending}", tmp_path, names and names[4:8], indices=range(4, 8))
    assert not any(reasons(open_source(str(tmp_path / "set"))))


def test_webdataset_ranges_with_something_wrong(tmp_path):
    shard(tmp_path / "data-00.tar", range(4))
    for spec, message in (
        ("data-{00..01}.tar", r"data-01\.tar does not exist; check the numbers in braces"),
        ("data-{01..00}.tar", r"\{01\.\.00\} is no range of shards"),
        ("data-{0..999999999}.tar", "is no range of shards"),
        ("data-{00..01}.txt", "does not exist; give one of"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / spec))


def test_webdataset_labels_that_are_none(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name, data in {
            "0.png": encoded(portrait(0)),
            "0.json": b'{"label": "owl"}',
            "0.cls": b"2",
            "1.png": encoded(portrait(1)),
            "1.json": b"[" * 50_000,
            "2.png": encoded(portrait(2)),
            "2.cls": b"\xff\xfe",
            "3.png": encoded(portrait(3)),
            "3.cls": b"-1",
            "4.png": encoded(portrait(4)),
            "4.json": b'{"label": true}',
            "5.cls": b"1",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    source = open_source(str(tmp_path / "a.tar"))
    assert source.label_columns[0].classes == ("0", "1", "2")
    assert [picture.labels for picture in numpy_images(source)] == [(2,), (-1,), (-1,), (-1,), (-1,)]


def test_a_damaged_compressed_shard(tmp_path):
    path = shard(tmp_path / "a.tar.bz2", range(12), mode="w:bz2")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"is not a whole tar file .*; copy or make it again"):
        open_source(str(path))


# what is taken for what


def test_pictures_with_a_stray_file_of_another_format_stay_pictures(tmp_path):
    folder = write_folder(tmp_path / "pictures", 4)
    nested = tmp_path / "nested"
    write_folder(nested / "a", 4)
    for place in (folder, nested):
        shard(place / "backup.tar", range(2))
        write_parquet(place / "metadata.parquet", file_name=["0.png"])
        np.save(place / "mean.npy", ARRAYS[0])
        shutil.copy(FIXTURES / "synthgray/synthgray-r02.tfrecords", place)
        (place / "x-images-idx3-ubyte").write_bytes(idx(GREY))
        source = open_source(str(place))
        assert isinstance(source, FolderSource)
        assert len(source) == 4
    # the more files of a set there are, the more it is one
    for number in range(5):
        shard(folder / f"data-{number}.tar", range(2))
    assert isinstance(open_source(str(folder)), WebDatasetSource)


def test_a_zip_of_pictures_with_an_array_stays_a_zip(tmp_path):
    folder = write_folder(tmp_path / "pictures", 4)
    np.save(folder / "mean.npy", ARRAYS)
    source = open_source(str(zipped(folder, tmp_path / "a.zip")))
    assert isinstance(source, ZipSource)
    assert len(source) == 4


def test_a_tar_that_ends_in_a_zip_stays_a_tar(tmp_path):
    np.savez(tmp_path / "extra.npz", a=ARRAYS)
    path = shard(tmp_path / "shard", range(3))
    with tarfile.open(path, "a") as file:
        file.add(tmp_path / "extra.npz", "extra.npz")
    assert zipfile.is_zipfile(path)
    source = open_source(str(path))
    assert type(source) is TarSource
    assert len(source) == 3
