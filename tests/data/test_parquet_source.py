"""Hugging Face's Parquet as a source."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from pggan.data.prepare.prepare import prepare
from pggan.data.sources import open_source
from pggan.utils.errors import DataError
from tests.helpers.image_files import encoded, portrait
from tests.helpers.source_files import CLASSES, COUNT, IMAGE, assert_portraits, reasons, rows_of, stored, write_parquet


@pytest.mark.parametrize("layout", ["", "data"])
def test_parquet_shards_keep_their_named_classes(tmp_path, layout):
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


def test_parquet_columns_of_classes_become_labels(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet",
        image=pa.array(rows_of(), IMAGE),
        kind=[10 * c for c in CLASSES],
        smiles=[c == 1 for c in CLASSES],
        who=[None if i == 3 else f"p{i % 4}" for i in range(COUNT)],
        hue=pa.array([str(c) for c in CLASSES]).dictionary_encode(),
        known=[-1 if i == 5 else i % 2 for i in range(COUNT)],
        young=[1 if c == 1 else -1 for c in CLASSES],
        old=[str(2 * (c == 1) - 1) for c in CLASSES],
        tilt=[c - 2 for c in CLASSES],
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
    assert list(columns) == ["kind", "smiles", "who", "hue", "known", "young", "old", "tilt"]
    assert columns["who"] == ("p0", "p1", "p2", "p3")
    _, rows = stored(path, tmp_path / "data")
    assert rows == [
        (
            str(10 * c),
            "yes" if c == 1 else "no",
            None if i == 3 else f"p{i % 4}",
            str(c),
            None if i == 5 else str(i % 2),
            "yes" if c == 1 else "no",
            "yes" if c == 1 else "no",
            str(c - 2),
        )
        for i, c in enumerate(CLASSES)
    ]


def test_parquet_rows_without_pictures_are_bad_pictures(tmp_path):
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


def test_parquet_of_plain_bytes_is_read(tmp_path):
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
def test_parquet_of_something_else_is_refused(tmp_path, columns, message):
    path = write_parquet(tmp_path / "a.parquet", **columns)
    with pytest.raises(DataError, match=message):
        open_source(str(path))


def test_damaged_parquet_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", image=pa.array(rows_of(), IMAGE))
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    with pytest.raises(DataError, match=r"a\.parquet is not a whole Parquet file \(.*\); copy or make it again"):
        open_source(str(path))
    path.write_bytes(data[:200] + b"\xff" * 400 + data[600:])
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        prepare(str(path), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_shards_that_order_classes_differently_are_refused(tmp_path):
    (tmp_path / "set").mkdir()
    for number, names in enumerate((["cat", "dog"], ["dog", "cat"])):
        features = {"info": {"features": {"kind": {"_type": "ClassLabel", "names": names}}}}
        table = pa.table({"image": pa.array(rows_of([0, 1]), IMAGE), "kind": [0, 1]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        pa.parquet.write_table(table, tmp_path / "set" / f"{number}.parquet")
    with pytest.raises(DataError, match=r"names or orders classes unlike .*; give shards of one data set"):
        open_source(str(tmp_path / "set"))
