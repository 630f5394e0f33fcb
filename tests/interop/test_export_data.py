"""Stores written out and read back: the same pixels and the same labels."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pggan.cli import run
from pggan.data.label_columns import LabelColumn
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store.store import Store
from pggan.interop import export_data as module
from pggan.interop.export_data import KINDS, export_data
from pggan.interop.export_files import folder_names
from pggan.utils.errors import DataError, UsageError
from pggan.utils.file_lock import exclusive_lock
from tests.helpers.image_files import write_folder
from tests.helpers.lmdb_contents import write


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


def prepared_exported_and_back(source, kind, tmp_path, **options):
    """The contents of a store of what was exported of the store of a source, which is `tmp_path / "store"`."""
    prepare(str(source), tmp_path / "store")
    export_data(tmp_path / "store", tmp_path / "out", kind, **options)
    prepare(str(tmp_path / "out"), tmp_path / "again")
    return contents(tmp_path / "again")


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
        assert json.loads(archive.read("dataset.json"))["labels"][1] == ["00000/img00000001.png", [0, 0, 1]]
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
    with pytest.raises(UsageError, match="parquet writes all"):
        export_data(drawn, tmp_path / "x", "parquet", labels="hair")
    for side in (0, 256):
        with pytest.raises(DataError, match=f"no {side}x{side}"):
            export_data(drawn, tmp_path / "x", "folder", resolution=side)

    def fail(done):
        raise OSError(28, "No space left on device")

    for kind in KINDS:
        with pytest.raises(OSError, match="No space left"):
            export_data(drawn, tmp_path / "x", kind, advance=fail)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="lies in the data store"):
        export_data(drawn, drawn / "x", "folder")
    for kind in ("tfrecord", "parquet"):
        with pytest.raises(UsageError, match="--by-class makes folders"):
            export_data(drawn, tmp_path / "x", kind, by_class="hair")


def test_classes_that_a_table_would_join_are_refused(tmp_path):
    write(tmp_path / "data", [0, 1], {4: "raw"}, [(0,), (1,)], (LabelColumn("kind", ("a", " a")),))
    with pytest.raises(UsageError, match=r"classes of 'kind' differ in spaces alone.*give --as parquet"):
        export_data(tmp_path / "data", tmp_path / "x", "zip")
    assert export_data(tmp_path / "data", tmp_path / "x", "parquet")["labels"] == ["kind"]
    assert not (tmp_path / "x.zip").exists()


def test_what_tfrecords_cannot_hold_is_said(drawn, tmp_path):
    told = export_data(drawn, tmp_path / "x", "tfrecord", labels="hair")
    assert told["labels"] == ["hair"]
    assert "label columns are left out: TFRecords hold one, which --labels COLUMN chooses" in told["notes"][0]
    told = export_data(drawn, tmp_path / "y", "tfrecord")
    assert told["labels"] == []
    assert not list((tmp_path / "y").glob("*.labels"))


def test_the_command_says_what_it_wrote(grey, tmp_path, capsys):
    assert run(["export-data", str(grey), str(tmp_path / "out"), "--as", "folder", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["pictures"], done["resolution"], done["labels"]) == (10, 16, ["class"])
    assert run(["export-data", str(grey), str(tmp_path / "out"), "--as", "folder"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["export-data", str(tmp_path), str(tmp_path / "y"), "--as", "zip"]) == 1


class StyleGanLabels:
    """Reads a dataset as StyleGAN3's loader does: every picture needs a label, numbers or vectors."""

    def __init__(self, path):
        if path.is_dir():
            self.names = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
            read = lambda name: (path / name).read_bytes()  # noqa: E731
        else:
            assert path.suffix == ".zip"
            archive = zipfile.ZipFile(path)
            self.names, read = set(archive.namelist()), archive.read
        images = sorted(name for name in self.names if name.endswith(".png"))
        labels = json.loads(read("dataset.json"))["labels"]
        self.labels = None
        if labels is not None:
            found = dict(labels)
            array = np.array([found[name] for name in images])
            self.labels = array.astype({1: np.int64, 2: np.float32}[array.ndim])


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_stylegans_loader_reads_labels_of_which_some_are_unknown(kind, grey, tmp_path, monkeypatch):
    done = export_data(grey, tmp_path / "out", kind)
    assert done["out"] == str(tmp_path / ("out.zip" if kind == "zip" else "out"))
    assert done["notes"] == ["dataset.json has vectors, of zeros for the 2 pictures without a label"]
    read = StyleGanLabels(Path(done["out"])).labels
    expected = contents(grey)[1][:, 0]
    assert np.array_equal(np.where(read.any(axis=1), read.argmax(axis=1), -1), expected)
    monkeypatch.setattr(module, "MAX_VECTOR_NUMBERS", 5)
    done = export_data(grey, tmp_path / "small", kind)
    assert StyleGanLabels(Path(done["out"])).labels is None
    assert "dataset.json holds no labels: 2 pictures have none" in done["notes"][0]
    with Store(grey) as store:
        whole = export_data(grey, tmp_path / "whole", kind, limit=2)
        assert np.array_equal(StyleGanLabels(Path(whole["out"])).labels, store.labels[:2, 0])
    assert whole["notes"] == []


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_folders_of_classes_are_read_with_their_labels(kind, grey, tmp_path):
    images, labels, manifest = contents(grey)
    done = export_data(grey, tmp_path / "out", kind, by_class="class")
    assert (done["pictures"], done["notes"][0]) == (8, "2 pictures without a label are left out: they have no folder")
    labelled = labels[:, 0] >= 0
    out = Path(done["out"])
    assert len(StyleGanLabels(out).labels) == 8
    prepare(done["out"], tmp_path / "again", PrepareOptions(channels=1))
    again, labels_again, manifest_again = contents(tmp_path / "again")
    order = np.argsort(labels[labelled, 0], kind="stable")
    assert np.array_equal(again[16], images[16][labelled][order])
    assert np.array_equal(labels_again, labels[labelled][order])
    assert manifest_again.labels == manifest.labels
    if kind == "folder":
        datasets = pytest.importorskip("torchvision.datasets")
        read = datasets.ImageFolder(out)
        assert read.classes == ["0", "1", "2"]
        assert [label for _, label in read.samples] == list(labels[labelled, 0][order])
        assert np.array_equal(np.asarray(read[0][0])[..., 0], images[16][labelled][order][0, 0])


def test_folders_of_classes_are_none_that_are_passed_over_or_hide_a_list(tmp_path):
    classes = ["lost+found", "labels.csv", "dataset.json", "ATTRIBUTION.txt", "a.lrdata", "plain"]
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8))
    np.save(tmp_path / "a-labels.npy", np.array(classes))
    _, labels, manifest = prepared_exported_and_back(tmp_path / "a.npy", "folder", tmp_path, by_class="class")
    assert sorted(manifest.labels[0].classes[n] for (n,) in labels) == sorted(classes)


@pytest.mark.parametrize("kind", KINDS)
def test_large_numbers_that_differ_little_are_exported_whole(tmp_path, kind):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8))
    values = 1_700_000_000 + np.array([0, 60.5, 25, 100])
    np.save(tmp_path / "a-labels.npy", values)
    prepare(str(tmp_path / "a.npy"), tmp_path / "store")
    done = export_data(tmp_path / "store", tmp_path / "out", kind)
    numbers = ("class",) if kind == "parquet" else ()
    prepare(done["out"], tmp_path / "again", PrepareOptions(numbers=numbers))
    _, labels, manifest = contents(tmp_path / "again")
    np.testing.assert_allclose([manifest.labels[0].value(n) for (n,) in labels], values, rtol=0, atol=1e-5)


def test_a_label_with_semicolons_in_its_name_comes_back(tmp_path):
    folder = write_folder(tmp_path / "pictures", 4)
    (folder / "labels.csv").write_text(
        '"file","hair; length; shade"\n' + "".join(f"{i}.png,a{i % 2}\n" for i in range(4))
    )
    _, labels, manifest = prepared_exported_and_back(folder, "folder", tmp_path)
    assert [column.name for column in manifest.labels] == ["hair; length; shade"]
    assert labels[:, 0].tolist() == [0, 1, 0, 1]


def test_labels_of_any_name_are_exported_to_parquet(tmp_path):
    folder = write_folder(tmp_path / "pictures", 4)
    (folder / "labels.csv").write_text(
        "file,image,img,id\n" + "".join(f"{i}.png,a{i % 2},b{i},c{i}\n" for i in range(4))
    )
    images, labels, manifest = prepared_exported_and_back(folder, "parquet", tmp_path)
    expected_images, expected, before = contents(tmp_path / "store")
    assert manifest.labels == before.labels
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(images[32], expected_images[32])


def test_class_names_become_folder_names_that_differ_everywhere():
    names = folder_names(["a/b", "a\\b", "..", ".hidden", "", "A_B", "x" * 300, "köln", "con\0trol", "a_b-2", "\ud800"])
    assert names == [
        "a_b", "a_b-2", "class", "hidden", "class-2", "A_B-3", "x" * 100, "köln", "con_trol", "a_b-2-2", "?",
    ]  # fmt: skip


def test_a_killed_export_leaves_nothing_for_the_next_one(grey, tmp_path):
    place = tmp_path / ".out.pggan-export"
    (place / "out" / "00000").mkdir(parents=True)
    (place / "out" / "00000" / "stale.png").write_bytes(b"x")
    (place / "pggan-export.lock").touch()
    with (
        exclusive_lock(place / "pggan-export.lock"),
        pytest.raises(DataError, match="being written by another process"),
    ):
        export_data(grey, tmp_path / "out", "folder")
    export_data(grey, tmp_path / "out", "folder")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    place.mkdir()
    (place / "mine.txt").touch()
    (tmp_path / "out").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="is in the way; rename or remove it"):
        export_data(grey, tmp_path / "out", "folder")
    assert (place / "mine.txt").exists()
