"""CelebAMask-HQ and webdataset as sources; and which format a folder or archive is taken for."""

import io
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from pggan.cli import run
from pggan.data.sources import open_source
from pggan.data.sources.celebamask import CelebAMaskSource
from pggan.data.sources.folder import FolderSource
from pggan.data.sources.tar_archive import TarSource
from pggan.data.sources.webdataset import WebDatasetSource
from pggan.data.sources.zip_archive import ZipSource
from pggan.utils.errors import DataError
from tests.helpers.image_files import encoded, portrait, write_folder
from tests.helpers.label_sources import rows
from tests.helpers.source_files import (
    ARRAYS,
    CLASSES,
    COUNT,
    FIXTURES,
    GREY,
    assert_portraits,
    idx_bytes,
    read_all,
    reasons,
    stored,
    write_parquet,
    write_shard,
    write_zip,
)

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


@pytest.mark.parametrize("form", ["folder", "parent", "zip", "bare zip"])
def test_celebamask_is_read_from_folders_and_zips(celebamask, tmp_path, form):
    litter = [("__MACOSX/CelebAMask-HQ/CelebA-HQ-img/._0.jpg", b"x"), ("other-CelebA-HQ-img/0.jpg", b"x")]
    source = {
        "folder": lambda: celebamask,
        "parent": lambda: celebamask.parent,
        "zip": lambda: write_zip(celebamask.parent, tmp_path / "a.zip", extra=litter),
        "bare zip": lambda: write_zip(celebamask, tmp_path / "a.zip"),
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


@pytest.mark.parametrize("mode, ending", [("w", "tar"), ("w:gz", "tar.gz")])
@pytest.mark.parametrize("labels", ["cls", "json", None])
def test_webdataset_shards_are_one_source(tmp_path, labels, mode, ending):
    for number in range(3):
        write_shard(
            tmp_path / "set" / f"data-{number + 8:02d}.{ending}", range(number * 4, number * 4 + 4), labels, mode
        )
    names = {"cls": [str(c) for c in CLASSES], "json": [f"k{c}" for c in CLASSES], None: None}[labels]
    assert_portraits(tmp_path / "set", tmp_path, names)
    assert_portraits(tmp_path / "set" / f"data-{{08..10}}.{ending}", tmp_path, names)
    assert_portraits(tmp_path / "set" / f"data-09.{ending}", tmp_path, names and names[4:8], indices=range(4, 8))
    assert not any(reasons(open_source(str(tmp_path / "set"))))


def test_wrong_webdataset_ranges_are_refused(tmp_path):
    write_shard(tmp_path / "data-00.tar", range(4))
    for spec, message in (
        ("data-{00..01}.tar", r"data-01\.tar does not exist; check the numbers in braces"),
        ("data-{01..00}.tar", r"\{01\.\.00\} is no range of shards"),
        ("data-{0..999999999}.tar", "is no range of shards"),
        ("data-{00..01}.txt", "does not exist; give one of"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / spec))


def test_webdataset_labels_that_name_no_class_are_unknown(tmp_path):
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
    assert [picture.labels for picture in read_all(source)] == [(2,), (-1,), (-1,), (-1,), (-1,)]


SAMPLES = ("image.png", "mask.png")


def write_samples(path, names, pack="w"):
    """Samples of several pictures: portrait i by the first name, portrait i + 20 by the others."""
    with tarfile.open(path, pack) as file:
        for i in range(3):
            for number, name in enumerate(names):
                data = encoded(portrait(i + 20 * min(number, 1)))
                info = tarfile.TarInfo(f"{i}{'.' if name else ''}{name}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return str(path)


@pytest.mark.parametrize("pack", ["w", "w:gz"])
@pytest.mark.parametrize(
    "names, member, portraits, remark",
    [
        (SAMPLES, None, [0, 1, 2], "passed over 3 others: mask.png; --member NAME chooses"),
        (("jpg", "mask.png"), None, [0, 1, 2], "passed over 3 others: mask.png; --member NAME chooses"),
        (SAMPLES, "mask", [20, 21, 22], "passed over 3 others: image.png; --member NAME chooses"),
        (("png", "jpg"), ".JPG", [20, 21, 22], "passed over 3 others: png; --member NAME chooses"),
        (SAMPLES, "mask.png", [20, 21, 22], "passed over 3 others: image.png; --member NAME chooses"),
        (("png", "jpg"), None, [0, 20, 1, 21, 2, 22], "samples hold several pictures, all are read: jpg, png; --memb"),
        (("1.png", "2.png"), None, [0, 20, 1, 21, 2, 22], "samples hold several pictures, all are read: 1.png, 2.png"),
        (("mask.png",), None, [0, 1, 2], None),
        (("png",), None, [0, 1, 2], None),
    ],
)
def test_of_a_samples_pictures_the_one_is_read_whose_name_says_so(tmp_path, pack, names, member, portraits, remark):
    source = open_source(write_samples(tmp_path / "a.tar", names, pack), member=member)
    assert sorted(picture.image.tobytes() for picture in read_all(source)) == sorted(
        np.asarray(portrait(number)).tobytes() for number in portraits
    )
    assert (source.remark is None) is (remark is None)
    assert (source.remark or "").startswith(remark or "")


def tar_of(path, members):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("ending", ["tar", "tgz"])
def test_a_label_file_of_a_picture_with_a_dot_in_its_name_is_that_pictures_alone(tmp_path, ending):
    members = {f"clip.{i:02d}.png": encoded(portrait(i)) for i in range(4)}
    members |= {"clip.00.cls": b"walk", "clip.01.json": b'{"label": "run"}', "clip.02.cls": b"sit"}
    # the file of a sample is still that of all its pictures
    members |= {"7.front.png": encoded(portrait(5)), "7.side.png": encoded(portrait(6)), "7.cls": b"run"}
    columns, labels = rows(tar_of(tmp_path / f"a.{ending}", members))
    assert columns == {"class": ("run", "sit", "walk")}
    assert labels == {
        "clip.00.png": "walk", "clip.01.png": "run", "clip.02.png": "sit", "clip.03.png": None,
        "7.front.png": "run", "7.side.png": "run",
    }  # fmt: skip


@pytest.mark.parametrize("first", [0, 3])
def test_a_member_is_read_whole_beside_many_other_names(tmp_path, first):
    data = encoded(portrait(0))
    samples = [f"{i}.image.png" for i in range(9)]
    names = [*samples[:first], *(f"a.{i}x.png" for i in range(80)), *samples[first:]]
    source = TarSource(str(tar_of(tmp_path / "a.tar", dict.fromkeys(names, data))), member="image")
    assert len(source) == 9
    assert [ref.name for ref in source.refs()] == samples


def test_members_that_are_not_there_and_formats_without_members_are_refused(tmp_path, capsys):
    shard = write_samples(tmp_path / "a.tar", SAMPLES)
    assert run(["prepare-data", shard, str(tmp_path / "data"), "--member", "depth"]) == 2
    assert "--member depth: no sample of" in (error := capsys.readouterr().err)
    assert "they have image.png, mask.png" in error
    assert run(["prepare-data", str(write_folder(tmp_path / "f", 3)), str(tmp_path / "data"), "--member", "image"]) == 2
    assert "--member does not go with" in capsys.readouterr().err
    assert run(["prepare-data", shard, str(tmp_path / "data"), "--dry-run"]) == 0
    assert "passed over 3 others: mask.png" in capsys.readouterr().out
    assert run(["prepare-data", shard, str(tmp_path / "data")]) == 0
    assert "passed over 3 others: mask.png" in capsys.readouterr().out


def test_a_damaged_compressed_shard_is_an_error(tmp_path):
    path = write_shard(tmp_path / "a.tar.bz2", range(12), mode="w:bz2")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"is not a whole tar file .*; copy or make it again"):
        open_source(str(path))


def test_pictures_with_a_stray_file_of_another_format_stay_pictures(tmp_path):
    folder = write_folder(tmp_path / "pictures", 4)
    nested = tmp_path / "nested"
    write_folder(nested / "a", 4)
    for place in (folder, nested):
        write_shard(place / "backup.tar", range(2))
        write_parquet(place / "metadata.parquet", file_name=["0.png"])
        np.save(place / "mean.npy", ARRAYS[0])
        shutil.copy(FIXTURES / "synthgray/synthgray-r02.tfrecords", place)
        (place / "x-images-idx3-ubyte").write_bytes(idx_bytes(GREY))
        source = open_source(str(place))
        assert isinstance(source, FolderSource)
        assert len(source) == 4
    # the more files of a set there are, the more it is one
    for number in range(5):
        write_shard(folder / f"data-{number}.tar", range(2))
    assert isinstance(open_source(str(folder)), WebDatasetSource)


def test_a_zip_of_pictures_with_an_array_stays_a_zip(tmp_path):
    folder = write_folder(tmp_path / "pictures", 4)
    np.save(folder / "mean.npy", ARRAYS)
    source = open_source(str(write_zip(folder, tmp_path / "a.zip")))
    assert isinstance(source, ZipSource)
    assert len(source) == 4


def test_a_tar_that_ends_in_a_zip_stays_a_tar(tmp_path):
    np.savez(tmp_path / "extra.npz", a=ARRAYS)
    path = write_shard(tmp_path / "shard", range(3))
    with tarfile.open(path, "a") as file:
        file.add(tmp_path / "extra.npz", "extra.npz")
    assert zipfile.is_zipfile(path)
    source = open_source(str(path))
    assert type(source) is TarSource
    assert len(source) == 3


@pytest.mark.parametrize(
    ("labels", "classes", "expected", "remark"),
    [
        (("1", "-1", "1"), ("no", "yes"), [1, 0, 1], None),
        (("1", "-1", "-2"), ("-2", "-1", "1"), [2, 1, 0], None),
        (("1", "-1", "0"), ("0", "1"), [1, -1, 0], None),
        (("0.5", "1.5", "2"), None, None, "columns that hold no classes: class"),
    ],
)
def test_webdataset_labels_mean_what_those_of_tables_mean(tmp_path, labels, classes, expected, remark):
    members = {}
    for number, label in enumerate(labels):
        members |= {f"{number}.png": encoded(portrait(number)), f"{number}.cls": label.encode()}
    source = open_source(str(tar_of(tmp_path / "a.tar", members)))
    assert source.remark == remark
    if classes is None:
        assert source.label_columns == ()
        return
    assert source.label_columns[0].classes == classes
    assert [picture.labels[0] for picture in read_all(source)] == expected
