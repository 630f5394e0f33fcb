"""Merging shards and other stores."""

import json
import os
import shutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pggan.cli import run
from pggan.data.label_columns import LabelColumn
from pggan.data.prepare.prepare import PrepareOptions, plan, prepare
from pggan.data.store import writer as writer_module
from pggan.data.store.lmdb_environment import record_key
from pggan.data.store.merge import merge
from pggan.data.store.resume import read_progress
from pggan.data.store.store import Store
from pggan.data.store.verify import verify
from pggan.data.store.writer import StoreWriter
from pggan.report.contact_sheet import write_contact_sheet
from pggan.utils.errors import DataError, UsageError
from tests.helpers.image_files import portrait, write_folder
from tests.helpers.lmdb_contents import assert_same, get, put, write

CODECS = {4: "raw", 8: "png"}
KIND = LabelColumn("kind", ("a", "b", "c"))
CLASSES = [(i % 3,) for i in range(40)]


@pytest.fixture
def folder(tmp_path):
    """Thirteen pictures of 32x32; one broken, one small; labelled."""
    folder = write_folder(tmp_path / "pictures", 13)
    (folder / "4.png").write_bytes(b"broken")
    portrait(1, 8).save(folder / "11.png")
    (folder / "labels.csv").write_text("name,kind\n" + "".join(f"{i}.png,{'xyz'[i % 3]}\n" for i in range(13)))
    return folder


def shards(source, tmp_path, of, **options):
    parts = []
    for number in range(1, of + 1):
        parts.append(tmp_path / f"part{number}")
        prepare(str(source), parts[-1], PrepareOptions(shard=(number, of), **options))
    return parts


def test_jpegs_of_two_qualities_merge_to_a_whole_store(tmp_path):
    folder = tmp_path / "noise"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(folder / "0.png")
    parts = [tmp_path / "fine", tmp_path / "coarse"]
    for part, quality in zip(parts, (95, 10)):
        prepare(str(folder), part, PrepareOptions(codec="jpeg", quality=quality))
        assert verify(part).intact
    merge(tmp_path / "data", parts)
    assert verify(tmp_path / "data").intact


@pytest.mark.long
@pytest.mark.parametrize("of", [1, 2, 3, 13])
def test_merged_shards_are_the_unsharded_store(folder, tmp_path, of):
    whole = prepare(str(folder), tmp_path / "whole", PrepareOptions(max_res=16))
    parts = shards(folder, tmp_path, of, max_res=16)
    assert sum(len(Store(part)) for part in parts) == 11
    done = []
    report = merge(tmp_path / "data", parts[::-1], on_start=done.append, on_progress=done.append)
    assert_same(tmp_path / "data", tmp_path / "whole", but=("progress",))
    assert done == [11, *[1] * 11]
    assert report.parts == [str(part) for part in parts]
    for name in ("count", "left_out", "labels", "bytes", "attribution"):
        assert getattr(report, name) == getattr(whole, name)
    assert verify(tmp_path / "data").intact


def test_shards_agree_on_the_resolution_of_the_whole(tmp_path):
    folder = write_folder(tmp_path / "pictures", 40, side=16)
    for i in range(20):
        portrait(i, 64).save(folder / f"{i}.png")
    first = plan(str(folder), tmp_path / "data", PrepareOptions(shard=(1, 2)))
    assert (first.resolution, first.pictures) == (16, 20)
    assert plan("drawn:7", tmp_path / "data", PrepareOptions(shard=(3, 3), limit=5)).pictures == 2


def test_a_shard_without_a_usable_picture_is_merged(tmp_path):
    folder = write_folder(tmp_path / "pictures", 6)
    for i in (0, 1):
        portrait(i, 8).save(folder / f"{i}.png")
    parts = shards(folder, tmp_path, 3, max_res=32)
    assert [len(Store(part)) for part in parts] == [0, 2, 2]
    with pytest.raises(UsageError, match="holds no pictures, so there is nothing to show"):
        write_contact_sheet(parts[0], tmp_path / "sheet.png")
    with pytest.raises(DataError, match=r"part1 holds no pictures$"):
        prepare(str(parts[0]), tmp_path / "again")
    merge(tmp_path / "data", parts)
    prepare(str(folder), tmp_path / "whole", PrepareOptions(max_res=32))
    assert_same(tmp_path / "data", tmp_path / "whole", but=("progress",))
    with pytest.raises(DataError, match="none of the 1 stores holds a picture"):
        merge(tmp_path / "other", [write(tmp_path / "empty", [], CODECS)])


def test_missing_repeated_and_foreign_shards_are_refused(folder, tmp_path):
    parts = shards(folder, tmp_path, 4, max_res=8)
    dest = tmp_path / "data"
    with pytest.raises(UsageError, match=r"missing: shard 2/4, 3/4; make it with pggan prepare-data --shard"):
        merge(dest, [parts[3], parts[0]])
    shutil.copytree(parts[1], tmp_path / "copy")
    with pytest.raises(UsageError, match=r"part2 and .*copy are the same, shard 2/4 of 13 pictures of pictures"):
        merge(dest, [*parts, tmp_path / "copy"])
    with pytest.raises(UsageError, match="named twice"):
        merge(dest, [*parts, parts[0]])
    prepare(str(folder), tmp_path / "other", PrepareOptions(max_res=8, fit="pad", shard=(2, 4)))
    with pytest.raises(
        UsageError, match=r"part1 \(shard 1/4.*other \(shard 2/4.* are not of one preparation, by --fit \(crop, pad\);"
    ):
        merge(dest, [parts[0], tmp_path / "other", *parts[2:]])
    prepare(str(folder), tmp_path / "whole", PrepareOptions(max_res=8))
    with pytest.raises(UsageError, match=r"whole is none; merge the shards first"):
        merge(dest, [*parts, tmp_path / "whole"])
    assert not dest.exists()
    assert not dest.with_name("data.partial").exists()


@pytest.mark.long
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 20), max_size=6), labelled=st.booleans())
def test_any_split_merges_to_the_same(tmp_path_factory, cuts, labelled):
    place = tmp_path_factory.mktemp("split")
    columns = (KIND,) if labelled else ()
    write(place / "whole", list(range(20)), CODECS, CLASSES, columns)
    bounds = [0, *sorted(cuts), 20]
    parts = [
        write(place / str(at), list(range(first, last)), CODECS, CLASSES, columns)
        for at, (first, last) in enumerate(pairwise(bounds))
    ]
    merge(place / "data", parts)
    assert_same(place / "data", place / "whole", but=("progress", "pggan"))
    shutil.rmtree(place)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"codecs": {4: "raw"}}, r"has other resolutions \(4\) than .* \(4, 8\); prepare them alike"),
        ({"codecs": {4: "raw", 8: "raw"}}, r"has other codecs \(4:raw, 8:raw\) than .* \(4:raw, 8:png\)"),
        ({"columns": ()}, r"has other label columns \(none\) than .* \(kind\)"),
        ({"columns": (LabelColumn("hat", ("no", "yes", "?")),)}, r"has other label columns \(hat\)"),
    ],
)
def test_parts_that_differ_are_refused(tmp_path, change, message):
    one = write(tmp_path / "one", [0, 1], CODECS, CLASSES, (KIND,))
    store_options = {"codecs": CODECS, "labels": CLASSES, "columns": (KIND,), **change}
    other = write(tmp_path / "other", [2], **store_options)
    with pytest.raises(DataError, match=message):
        merge(tmp_path / "data", [one, other])


@pytest.mark.long
def test_classes_are_joined_by_name(tmp_path):
    one = write(tmp_path / "one", [0, 1], CODECS, [(0,), (1,)], (LabelColumn("kind", ("cat", "dog")),))
    columns = (LabelColumn("kind", ("owl", "cat")),)
    other = write(tmp_path / "other", [0, 1, 2], CODECS, [(0,), (-1,), (1,)], columns)
    merge(tmp_path / "data", [other, one])
    with Store(tmp_path / "data") as store:
        assert store.manifest.labels == (LabelColumn("kind", ("owl", "cat", "dog")),)
        assert store.labels[:, 0].tolist() == [0, -1, 1, 1, 2]
    assert verify(tmp_path / "data").intact


def test_damage_is_named_and_not_copied(tmp_path):
    one, other = (write(tmp_path / name, [0, 1], CODECS, CLASSES, (KIND,)) for name in ("one", "other"))
    record = get(other, "8x8", record_key(1))
    put(other, "8x8", record_key(1), record[:-1])
    with pytest.raises(DataError, match=r"other: picture 1: damaged \(8x8\); run pggan verify-data --fix on it"):
        merge(tmp_path / "data", [one, other])
    data = bytearray(get(one, "meta", b"labels"))
    data[-4] ^= 1
    put(one, "meta", b"labels", bytes(data))
    with pytest.raises(
        DataError, match=r"one: the label record is damaged .* .digest differs.; run pggan verify-data --fix"
    ):
        merge(tmp_path / "data2", [one, other])


def test_a_stopped_merge_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "FLUSH_COUNT", 4)
    parts = [write(tmp_path / str(at), list(range(at, at + 5)), CODECS, CLASSES, (KIND,)) for at in (0, 5, 10)]
    write(tmp_path / "whole", list(range(15)), CODECS, CLASSES, (KIND,))
    with monkeypatch.context() as patch:
        real = StoreWriter._flush

        def stopped(self):
            real(self)
            if self.committed == 8:
                raise KeyboardInterrupt

        patch.setattr(StoreWriter, "_flush", stopped)
        with pytest.raises(KeyboardInterrupt):
            merge(tmp_path / "data", parts)
    assert read_progress(tmp_path / "data.partial").consumed == 8
    with pytest.raises(UsageError, match="another list of stores"):
        merge(tmp_path / "data", parts[:2])
    with pytest.raises(UsageError, match=r"it is of pggan merge-data"):
        prepare("drawn:3", tmp_path / "data", PrepareOptions(max_res=8))
    assert merge(tmp_path / "data", parts).resumed == 8
    assert_same(tmp_path / "data", tmp_path / "whole", but=("progress", "pggan"))


def test_a_merge_without_room_on_the_disk_is_refused(tmp_path, monkeypatch):
    part = write(tmp_path / "one", [0, 1], CODECS)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(DataError, match=r"are needed at .*, 10 B are free; free some space, or --force"):
        merge(tmp_path / "data", [part])
    assert merge(tmp_path / "data", [part], force=True).count == 2


def test_the_command_prints_a_summary(folder, tmp_path, capsys):
    for number in (1, 2):
        dest = str(tmp_path / f"part{number}")
        arguments = [str(folder), dest, "--shard", f"{number}/2", "--max-res", "16", "--workers", "1"]
        assert run(["prepare-data", *arguments, "--quiet"]) == 0
    capsys.readouterr()
    parts = [str(tmp_path / "part2"), str(tmp_path / "part1")]
    assert run(["merge-data", str(tmp_path / "data"), *parts]) == 0
    out, err = capsys.readouterr()
    assert "11 pictures of 2 stores" in out
    assert "left out of them: 1 bad" in out
    assert "merging: 11/11 pictures" in err
    assert run(["merge-data", str(tmp_path / "data"), *parts]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["merge-data", str(tmp_path / "data"), *parts, "--overwrite", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert (json.loads(out)["count"], json.loads(out)["parts"]) == (11, parts[::-1])
    assert run(["merge-data", str(tmp_path / "data")]) == 2
    assert run(["merge-data", str(tmp_path / "other"), parts[0]]) == 2
    assert "missing: shard 1/2" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["data", "part1", "part2", "pictures"]
    with Store(tmp_path / "data") as store:
        assert store.labels.dtype == np.int32
