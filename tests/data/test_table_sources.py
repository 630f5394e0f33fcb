"""Tables of pictures: Arrow folders of `save_to_disk`, tables of paths, shards, and what their files may not do."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from pggan.cli import run
from pggan.data.sources import open_source
from pggan.utils.errors import DataError
from tests.helpers.image_files import encoded, portrait
from tests.helpers.source_files import (
    ARRAYS,
    CLASSES,
    COUNT,
    IMAGE,
    assert_portraits,
    read_all,
    reasons,
    rows_of,
    stored,
    write_parquet,
)

NAMES = ["cat", "dog", "owl"]
FEATURES = b'{"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": %s}}}}'


def a_table(indices):
    table = pa.table({"image": pa.array(rows_of(indices), IMAGE), "label": [CLASSES[i] for i in indices]})
    return table.replace_schema_metadata({"huggingface": FEATURES % str(NAMES).replace("'", '"').encode()})


def save_to_disk(folder, shards):
    """Writes what Hugging Face's `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    for number, indices in enumerate(shards):
        path = folder / f"data-{number:05d}-of-{len(shards):05d}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, a_table(indices).schema) as writer:
            writer.write_table(a_table(indices), max_chunksize=3)
    (folder / "state.json").write_text("{}")
    (folder / "dataset_info.json").write_text("{}")


def test_folders_of_save_to_disk_are_read(tmp_path):
    save_to_disk(tmp_path / "set/train", [range(7), range(7, COUNT)])
    save_to_disk(tmp_path / "set/test", [range(3)])
    (tmp_path / "set/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    (tmp_path / "set/train/cache-0123.arrow").write_bytes(b"junk")
    assert_portraits(tmp_path / "set", tmp_path, [NAMES[c] for c in CLASSES])
    assert open_source(str(tmp_path / "set")).remark == "read train; passed over test"
    assert len(open_source(str(tmp_path / "set/test"))) == 3
    read_all(open_source(str(tmp_path / "set/test/data-00000-of-00001.arrow")))
    (tmp_path / "set/test/indices.arrow").write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(DataError, match=r"holds a selection of rows; save it again after flatten_indices\(\)"):
        open_source(str(tmp_path / "set/test"))


def test_arrow_files_are_read_unless_they_are_compressed(tmp_path):
    pyarrow.feather.write_feather(a_table(range(COUNT)), str(tmp_path / "a.feather"), compression="uncompressed")
    assert_portraits(tmp_path / "a.feather", tmp_path, [NAMES[c] for c in CLASSES])
    pyarrow.feather.write_feather(a_table(range(COUNT)), str(tmp_path / "a.feather"), compression="lz4")
    with pytest.raises(DataError, match="is compressed, or has dictionaries; save it with to_parquet"):
        open_source(str(tmp_path / "a.feather"))


def test_a_cut_arrow_stream_is_refused(tmp_path):
    save_to_disk(tmp_path / "set", [range(COUNT)])
    path = tmp_path / "set/data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match="is not a whole Arrow stream"):
        open_source(str(path))


@pytest.mark.parametrize("place", ["", "data", "train", "default", "default/train"])
def test_parquet_is_found_where_the_hub_puts_it(place, tmp_path):
    name = "0000.parquet" if place.endswith("train") else "train-00000-of-00001.parquet"
    write_parquet(tmp_path / "set" / place / name, image=pa.array(rows_of(), IMAGE))
    assert_portraits(tmp_path / "set", tmp_path)


def test_missing_and_other_shards_are_named(tmp_path):
    for name in ("train-00000-of-00003", "train-00002-of-00003", "test-00000-of-00001"):
        write_parquet(tmp_path / f"{name}.parquet", image=pa.array(rows_of(range(4)), IMAGE))
    remark = open_source(str(tmp_path)).remark
    assert remark == "read the train split; passed over 1 other files; 1 of 3 shards are not there"


def paths_only(folder, paths, **columns):
    image = pa.array([{"bytes": None, "path": path} for path in paths], IMAGE)
    return write_parquet(folder / "a.parquet", image=image, **columns)


@pytest.fixture
def root(tmp_path):
    """Returns a folder with pictures in `in/`, and one outside of it."""
    (tmp_path / "in/sub").mkdir(parents=True)
    for i in range(COUNT):
        (tmp_path / f"in/sub/{i}.png").write_bytes(encoded(portrait(i)))
    (tmp_path / "secret.png").write_bytes(encoded(portrait(0)))
    return tmp_path / "in"


def test_a_table_of_paths_is_refused_with_its_reason(root, tmp_path):
    path = paths_only(tmp_path, [str(root / "sub/0.png")] * 3)
    with pytest.raises(DataError, match=r"holds only the paths of its pictures, not the pictures; .*--images-root DIR"):
        open_source(str(path))
    path = write_parquet(tmp_path / "b.parquet", file_name=["0.png", "1.png"])
    with pytest.raises(DataError, match="holds only the paths"):
        open_source(str(path))


def test_relative_paths_are_read_below_the_root(root, tmp_path):
    path = paths_only(tmp_path, [f"sub/{i}.png" for i in range(COUNT)], label=CLASSES)
    assert_portraits(path, tmp_path, [str(c) for c in CLASSES], images_root=str(root))
    path = write_parquet(tmp_path / "b.parquet", image=[f"./{i}.png" for i in range(COUNT)])
    assert_portraits(path, tmp_path, images_root=str(root / "sub"))
    rows = [{"bytes": encoded(portrait(0)), "path": "none.png"}, {"bytes": None, "path": "sub/1.png"}]
    path = write_parquet(tmp_path / "c.parquet", image=pa.array(rows, IMAGE))
    levels, _ = stored(path, tmp_path / "mixed", images_root=str(root))
    np.testing.assert_array_equal(levels[32], ARRAYS[:2].transpose(0, 3, 1, 2))


def test_no_path_leaves_the_root(root, tmp_path):
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "up").symlink_to(tmp_path)
    (root / "inside.png").symlink_to(root / "sub/1.png")
    os.mkfifo(root / "pipe.png")
    outside = [
        str(tmp_path / "secret.png"), str(root / "sub/0.png"), "../secret.png", "sub/../../secret.png", "link.png",
        "up/secret.png", "..\\secret.png", "file:///etc/passwd", "https://example.org/a.png", "C:/a.png", "/etc/passwd",
        "a\0b", "pipe.png", "sub", "", "missing.png", "x" * 5000, "/proc/self/environ",
    ]  # fmt: skip
    path = paths_only(tmp_path, [*outside, "inside.png"])
    bad = reasons(open_source(str(path), images_root=str(root)))
    assert bad[-1] is None
    assert all(bad[:-1])
    assert bad[0] == bad[2] == "its path is not a relative one below --images-root"
    assert bad[4] == bad[5] == "its path leads out of --images-root"
    with pytest.raises(DataError, match=r"--images-root .*none is no folder"):
        open_source(str(path), images_root=str(root / "none"))


def test_the_command_takes_the_root(root, tmp_path, capsys):
    path = paths_only(tmp_path, [f"sub/{i}.png" for i in range(COUNT)])
    arguments = ["prepare-data", str(path), str(tmp_path / "data"), "--images-root", str(root)]
    assert run([*arguments, "--workers", "1"]) == 0
    assert f"{COUNT} pictures" in capsys.readouterr().out


def test_classes_called_nan_and_whole_floats_are_classes(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet",
        image=pa.array(rows_of(), IMAGE),
        kind=[("nan", "inf", "a")[c] for c in CLASSES],
        number=[None if i == 0 else float(c) for i, c in enumerate(CLASSES)],
        score=[i / 7 for i in range(COUNT)],
        caption=[f"picture {i}" for i in range(COUNT)],
    )
    source = open_source(str(path))
    assert {c.name: c.classes for c in source.label_columns} == {"kind": ("a", "inf", "nan"), "number": ("0", "1", "2")}
    assert source.remark == "columns that hold no classes: score, caption"
    _, rows = stored(path, tmp_path / "data")
    assert rows == [(("nan", "inf", "a")[c], None if i == 0 else str(c)) for i, c in enumerate(CLASSES)]


def test_a_picture_of_a_table_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("pggan.data.sources.table_base.MAX_CARRIED_BYTES", 1 << 20)
    rows = [{"bytes": bytes((1 << 20) + 1), "path": "a"}, *rows_of([1])]
    bad = reasons(open_source(str(write_parquet(tmp_path / "a.parquet", image=pa.array(rows, IMAGE)))))
    assert bad == ["a picture of 1 MiB; the limit in a table is 1", None]
