"""Preparing a store: the destination, and what lies beside it."""

import fcntl
import os
import shutil
from pathlib import Path

import lmdb
import pytest

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store.store import Store
from pggan.data.store.writer import StoreWriter
from pggan.utils.errors import DataError, UsageError
from tests.helpers.image_files import tree, write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures", 12)


def contents(path):
    with Store(path) as store:
        return {side: store.read(side, range(len(store))) for side in store.resolutions}


def assert_nothing_left(tmp_path, *names):
    assert sorted(os.listdir(tmp_path)) == sorted(("pictures", *names))


def test_an_existing_destination_is_never_lost(folder, tmp_path, monkeypatch):
    dest = tmp_path / "data"
    prepare(str(folder), dest, PrepareOptions(limit=3))
    before = tree(dest)
    with pytest.raises(UsageError, match="exists already; give another DEST, or --overwrite"):
        prepare(str(folder), dest, PrepareOptions())
    with pytest.raises(DataError, match="they are smaller than 64x64"):
        prepare(str(folder), dest, PrepareOptions(max_res=64, overwrite=True))
    with monkeypatch.context() as patch:  # a failure in the very last step
        patch.setattr(os, "replace", failing_after(os.replace, 1))
        with pytest.raises(OSError, match="no"):
            prepare(str(folder), dest, PrepareOptions(overwrite=True))
    assert tree(dest) == before
    assert_nothing_left(tmp_path, "data", "data.partial")  # a whole one, which only has to take its name
    again = prepare(str(folder), dest, PrepareOptions(overwrite=True))
    assert (again.count, again.resumed) == (12, 12)
    assert len(contents(dest)[4]) == 12
    assert_nothing_left(tmp_path, "data")


def failing_after(function, calls):
    """`function`, whose call number `calls` (from 0) fails."""
    calls_made = iter(range(10**6))

    def replaced(*arguments):
        if next(calls_made) == calls:
            raise OSError("no")
        return function(*arguments)

    return replaced


def test_a_store_killed_between_two_renames_gets_its_name_back(folder, tmp_path):
    dest = tmp_path / "data"
    prepare(str(folder), dest, PrepareOptions(limit=3))
    before = tree(dest)
    dest.rename(tmp_path / ".data.pggan-replaced")
    shutil.copytree(tmp_path / ".data.pggan-replaced", tmp_path / "data.partial")
    with pytest.raises(UsageError, match="exists already"):
        prepare(str(folder), dest, PrepareOptions())
    assert tree(dest) == before
    with pytest.raises(UsageError, match="is a whole store, made with other options"):
        prepare(str(folder), dest, PrepareOptions(overwrite=True))
    prepare(str(folder), dest, PrepareOptions(limit=3, overwrite=True))
    assert_nothing_left(tmp_path, "data")


@pytest.mark.parametrize("dest", [".", "..", "/", "here/.."])
def test_the_current_folder_and_those_above_it_are_no_destination(folder, tmp_path, monkeypatch, dest):
    (tmp_path / "empty" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is the current folder, or holds it"):
            prepare(str(folder), Path(dest), PrepareOptions(overwrite=overwrite))
    assert os.listdir() == ["here"]


def test_overwrite_replaces_stores_only(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    with pytest.raises(UsageError, match="not a data store"):
        prepare(str(folder), other, PrepareOptions(overwrite=True))
    (other / "data.mdb").write_text("not all that is there")
    with pytest.raises(UsageError, match="not a data store"):
        prepare(str(folder), other, PrepareOptions(overwrite=True))
    for dest in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(UsageError, match="is a file"):
            prepare(str(folder), dest, PrepareOptions(overwrite=True))
    with pytest.raises(UsageError, match="not a data store"):
        prepare(str(folder), folder, PrepareOptions(overwrite=True))
    assert len(tree(folder)) == 12


def test_destinations_of_all_kinds(folder, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    prepare(str(folder), tmp_path / "empty", PrepareOptions(limit=1))
    prepare(str(folder), tmp_path / "a" / "b" / "c", PrepareOptions(limit=1))
    (tmp_path / "link").symlink_to(tmp_path / "target")
    prepare(str(folder), tmp_path / "link", PrepareOptions(limit=1))
    assert len(contents(tmp_path / "target")[4]) == 1
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    prepare("../pictures", "data/", PrepareOptions(limit=1))
    assert os.listdir() == ["data"]


def test_what_a_killed_run_left_is_not_taken_for_whole(folder, tmp_path):
    writer = StoreWriter(tmp_path / "data.partial", {4: "raw"})
    writer.close()
    prepare(str(folder), tmp_path / "data", PrepareOptions(limit=2))
    assert len(contents(tmp_path / "data")[4]) == 2
    assert_nothing_left(tmp_path, "data")


def test_a_store_that_another_process_makes_is_refused(folder, tmp_path):
    with open(tmp_path / ".data.pggan-lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="being made by another process"):
            prepare(str(folder), tmp_path / "data", PrepareOptions())
    prepare(str(folder), tmp_path / "data", PrepareOptions())
    assert_nothing_left(tmp_path, "data")


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_other_programs_beside_the_destination_stay(folder, tmp_path, overwrite):
    dest = tmp_path / "uv"
    for name in ("uv.lock", ".uv.lock", "uv.tmp"):
        (tmp_path / name).write_text("precious")
    (tmp_path / "uv.replaced").mkdir()
    (tmp_path / "uv.replaced" / "thesis.txt").write_text("years of work")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    prepare(str(folder), dest, PrepareOptions(limit=2))
    if overwrite:
        prepare(str(folder), dest, PrepareOptions(limit=3, overwrite=True))
    for path, content in before.items():
        assert path.read_bytes() == content
    assert len(contents(dest)[4]) == (3 if overwrite else 2)


@pytest.mark.parametrize("name", [".data.pggan-lock", ".data.pggan-replaced", "data.partial"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "folder", "fifo"])
def test_what_lies_at_our_own_names_is_not_touched(folder, tmp_path, name, kind):
    """Only what is provably pggan's is used or removed: an empty lock file, a folder with nothing but a store."""
    prepare(str(folder), tmp_path / "data", PrepareOptions(limit=2))
    target, place = tmp_path / "precious", tmp_path / name
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    if kind == "folder":
        shutil.copytree(target, place)
    elif kind == "file":
        place.write_text("years of work")
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to(target if kind == "link" else tmp_path / "nowhere")
    before = place.lstat()
    with pytest.raises(UsageError, match="is in the way"):
        prepare(str(folder), tmp_path / "data", PrepareOptions(limit=3, overwrite=True))
    assert (place.lstat().st_ino, place.lstat().st_size) == (before.st_ino, before.st_size)
    assert not (tmp_path / "nowhere").exists()
    assert os.listdir(target) == ["thesis.txt"]
    assert len(contents(tmp_path / "data")[4]) == 2


def test_a_database_of_another_program_is_no_unfinished_store(folder, tmp_path):
    with lmdb.open(str(tmp_path / "data.partial"), map_size=1 << 20) as env, env.begin(write=True) as transaction:
        transaction.put(b"years", b"of work")
    before = (tmp_path / "data.partial" / "data.mdb").read_bytes()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="in the way, and no unfinished store"):
            prepare(str(folder), tmp_path / "data", PrepareOptions(overwrite=overwrite))
    assert (tmp_path / "data.partial" / "data.mdb").read_bytes() == before


def test_the_longest_name_has_a_lock_and_can_be_replaced(folder, tmp_path):
    dest = tmp_path / ("x" * 247)  # .partial makes it 255
    for limit in (1, 2):
        prepare(str(folder), dest, PrepareOptions(limit=limit, overwrite=True))
    assert len(contents(dest)[4]) == 2
    assert_nothing_left(tmp_path, dest.name)
