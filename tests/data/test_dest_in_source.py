"""DEST inside SOURCE and SOURCE inside DEST: the own output is never picked up, no picture is ever lost."""

from __future__ import annotations

import random
import shutil

import pytest

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.store.merge import merge
from pggan.data.store.store import Store
from pggan.interop.export_data import export_data
from pggan.utils.errors import DataError, PgganError, UsageError
from tests.helpers.image_files import encoded, portrait, tree, write_folder
from tests.helpers.lmdb_contents import write
from tests.helpers.source_files import write_shard, write_zip

ROUNDS = 12
OPTIONS = PrepareOptions(max_res=8, force=True)
FOLDERS = ["", "a", "a/b", "c", "x.partial", ".hidden", "data", "data.lock", "uv.replaced"]


def pictures_of(folder, without=()):
    """Paths of the pictures that a folder holds, without hidden folders and without other folders."""
    found = [path.relative_to(folder) for path in folder.rglob("*.png")]
    return [p for p in found if not any(part.startswith(".") for part in p.parts) and p.parts[0] not in without]


def contents(folder, without):
    """The files of a folder but those of a place in it."""
    return {name: data for name, data in tree(folder).items() if not (folder / name).is_relative_to(without)}


@pytest.mark.long
@pytest.mark.parametrize("form", ["folder", "zip", "shards"])
def test_a_destination_in_the_source_changes_nothing_else(form, tmp_path):
    chance = random.Random(form)
    for number in range(ROUNDS):
        root = tmp_path / str(number)
        for folder in chance.sample(FOLDERS, 4):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(chance.randint(1, 3)):
                (root / folder / f"{i}.png").write_bytes(encoded(portrait(chance.randrange(9), 8)))
        source = root
        if form == "zip":
            source = write_zip(root, root / "all.zip")
        elif form == "shards":
            shutil.rmtree(root)
            write_shard(root / "data-0.tar", range(3))
            write_shard(root / "data-1.tar", range(3, 5))
        count = len(open_source(str(source)))
        dest = root / chance.choice(["new", "a/new", "a/b/c/new.png", "x/new.tar", ".hidden/new"])
        before = contents(root, dest)
        for overwrite in (False, True, True):
            options = PrepareOptions(max_res=8, force=True, overwrite=overwrite, workers=1)
            report = prepare(str(source), dest, options)
            assert report.count + sum(report.left_out.values()) == count
            assert contents(root, dest) == before
            assert len(open_source(str(source))) == count
        with Store(dest) as store:
            assert len(store) == count


@pytest.mark.parametrize("source", ["pictures", "pictures/a", "data.partial", "data", "data/data.mdb"])
@pytest.mark.parametrize("dest", ["pictures", "pictures/a", "pictures/a/b", "data", "data/x", "data.partial"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_no_pair_of_source_and_destination_loses_a_picture(source, dest, overwrite, tmp_path):
    write_folder(tmp_path / "pictures", 3, 8)
    write_folder(tmp_path / "pictures" / "a", 2, 8)
    for name in ("data", "data.partial"):
        prepare(str(tmp_path / "pictures"), tmp_path / name, OPTIONS)
    before = tree(tmp_path)
    options = PrepareOptions(max_res=8, force=True, overwrite=overwrite)
    try:
        report = prepare(str(tmp_path / source), tmp_path / dest, options)
    except PgganError:
        assert tree(tmp_path) == before
        return
    after = tree(tmp_path)
    places = [dest]
    if dest == "data" and not (tmp_path / "data.partial").exists():  # the same command's whole store took its name
        places.append("data.partial")
    ours = [f"{place}/{name}" for place in places for name in ("data.mdb", "lock.mdb")]
    assert {n: d for n, d in after.items() if n not in ours} == {n: d for n, d in before.items() if n not in ours}
    assert report.count in (2, 5)
    with Store(tmp_path / dest) as store:
        assert len(store) == report.count


def test_an_export_in_its_store_is_refused(tmp_path):
    write_folder(tmp_path / "pictures", 2, 8)
    prepare(str(tmp_path / "pictures"), tmp_path / "data", OPTIONS)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="lies in the data store"):
        export_data(tmp_path / "data", tmp_path / "data" / "x" / "out", "folder")
    assert tree(tmp_path) == before


def test_a_source_that_would_be_the_unfinished_store_is_refused(tmp_path):
    write_folder(tmp_path / "pictures", 2, 8)
    prepare(str(tmp_path / "pictures"), tmp_path / "data.partial", OPTIONS)
    before = tree(tmp_path)
    for overwrite in (False, True):
        with pytest.raises((DataError, UsageError), match=r"data\.partial"):
            prepare(str(tmp_path / "data.partial"), tmp_path / "data", PrepareOptions(max_res=8, overwrite=overwrite))
        assert tree(tmp_path) == before


def test_no_store_is_made_within_another(tmp_path):
    """--overwrite would not replace the outer one then."""
    write(tmp_path / "data", [1, 2], {4: "raw"})
    with pytest.raises(UsageError, match=r"lies in the data store .*data; give a DEST outside it"):
        prepare("drawn:2", tmp_path / "data" / "inner", PrepareOptions(max_res=8))
    with pytest.raises(UsageError, match="lies in the data store"):
        merge(tmp_path / "data" / "inner", [tmp_path / "data"])
