"""Stores written out and read back: the same pixels and the same labels."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from pggan.cli import run
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store.store import Store
from pggan.interop import export_data as module
from pggan.interop.export_data import KINDS, export_data
from pggan.utils.errors import DataError, UsageError


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "store"
    prepare("drawn:24", path, PrepareOptions(max_res=128))
    return path


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Grey, with one column of labels of which some are unknown."""
    folder = tmp_path_factory.mktemp("grey")
    np.save(folder / "a.npy", np.random.default_rng(0).integers(0, 256, (10, 16, 16), np.uint8))
    np.save(folder / "a-labels.npy", np.array([0, 2, -1, 1, 0, 2, 2, 1, -1, 0]))
    prepare(str(folder / "a.npy"), folder / "store")
    return folder / "store"


def contents(path):
    with Store(path) as store:
        images = {side: store.read(side, range(len(store))) for side in store.resolutions}
        return images, store.labels if store.manifest.labels else None, store.manifest


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["drawn", "grey"])
def test_an_exported_store_reads_back_to_the_same_pixels_and_labels(kind, which, drawn, grey, tmp_path):
    data = drawn if which == "drawn" else grey
    out = tmp_path / ("out.zip" if kind == "zip" else "out")
    done = export_data(data, out, kind)
    images, labels, manifest = contents(data)
    assert done["pictures"] == manifest.count
    prepare(str(out), tmp_path / "again", PrepareOptions(channels=manifest.channels))
    again, labels_again, manifest_again = contents(tmp_path / "again")
    assert again.keys() == images.keys()
    assert images
    assert all(np.array_equal(again[side], images[side]) for side in images)
    if kind == "tfrecord" and which == "drawn":
        assert labels_again is None  # several columns, and none was asked for
    else:
        assert np.array_equal(labels, labels_again)
        if kind != "tfrecord":
            assert manifest_again.labels == manifest.labels


def test_resolution_label_column_and_limit_are_chosen(drawn, tmp_path):
    export_data(drawn, tmp_path / "tf", "tfrecord", resolution=32, labels="hair", limit=7)
    assert sorted(p.name for p in (tmp_path / "tf").glob("tf-r*.tfrecords")) == [
        f"tf-r{level:02d}.tfrecords" for level in (2, 3, 4, 5)
    ]
    prepare(str(tmp_path / "tf"), tmp_path / "again")
    images, labels, manifest = contents(drawn)
    again, labels_again, _ = contents(tmp_path / "again")
    column = [c.name for c in manifest.labels].index("hair")
    assert np.array_equal(labels_again[:, 0], labels[:7, column])
    assert max(again) == 32
    assert np.array_equal(again[32], images[32][:7])


@pytest.mark.long
def test_parquet_is_split_into_shards(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 30_000)
    export_data(drawn, tmp_path / "out", "parquet")
    names = sorted(p.name for p in (tmp_path / "out/data").iterdir())
    assert len(names) > 2
    assert names[0] == f"train-00000-of-{len(names):05d}.parquet"
    prepare(str(tmp_path / "out"), tmp_path / "again")
    assert np.array_equal(contents(drawn)[0][128], contents(tmp_path / "again")[0][128])


def test_a_zip_has_images_labels_and_attribution_and_the_same_bytes_each_time(grey, drawn, tmp_path):
    export_data(grey, tmp_path / "a.zip", "zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist()[0] == "00000/img00000000.png"
        assert archive.read("labels.csv").decode().splitlines()[:4] == [
            "file,class", "00000/img00000000.png,0", "00000/img00000001.png,2", "00000/img00000002.png,",
        ]  # fmt: skip
        assert json.loads(archive.read("dataset.json"))["labels"][1] == ["00000/img00000001.png", 2]
    export_data(grey, tmp_path / "b.zip", "zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    export_data(drawn, tmp_path / "c.zip", "zip", limit=2)
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        assert b"ToonHead" in archive.read("ATTRIBUTION.txt")


def test_refusals_leave_nothing(drawn, tmp_path):
    with pytest.raises(UsageError, match="exists already"):
        export_data(drawn, tmp_path, "folder")
    with pytest.raises(UsageError, match="--as"):
        export_data(drawn, tmp_path / "x", "rar")
    with pytest.raises(UsageError, match="no 'nose'"):
        export_data(drawn, tmp_path / "x", "folder", labels="nose")
    with pytest.raises(DataError, match="no 256x256"):
        export_data(drawn, tmp_path / "x", "folder", resolution=256)

    def fail(done):
        raise OSError(28, "No space left on device")

    for kind in KINDS:
        with pytest.raises(OSError, match="No space left"):
            export_data(drawn, tmp_path / "x", kind, advance=fail)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(grey, tmp_path, capsys):
    assert run(["export-data", str(grey), str(tmp_path / "out"), "--as", "folder", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["pictures"], done["resolution"], done["labels"]) == (10, 16, ["class"])
    assert run(["export-data", str(grey), str(tmp_path / "out"), "--as", "folder"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["export-data", str(tmp_path), str(tmp_path / "y"), "--as", "zip"]) == 1
