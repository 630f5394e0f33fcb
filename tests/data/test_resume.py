"""Preparations that are stopped, and what the same command makes of what they left."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pggan.cli import run
from pggan.data.prepare.prepare import PrepareOptions, plan, prepare
from pggan.data.store import writer as writer_module
from pggan.data.store.resume import read_progress
from pggan.data.store.store import Store
from pggan.data.store.writer import DiskFull, StoreWriter
from pggan.utils.errors import DataError, UsageError
from tests.helpers.image_files import portrait, tree, write_folder
from tests.helpers.lmdb_contents import assert_same
from tests.helpers.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
FLUSH = 5
# Every picture that is written makes a mark on stderr.
SCRIPT = f"""
import os
from pggan.cli import main
from pggan.data.store import writer
writer.FLUSH_COUNT = {FLUSH}
done = writer.StoreWriter.skip
def skip(self):
    os.write(2, b"#")
    done(self)
writer.StoreWriter.skip = skip
main()
"""


@pytest.fixture(autouse=True)
def small_transactions(monkeypatch):
    monkeypatch.setattr(writer_module, "FLUSH_COUNT", FLUSH)


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "prepare-data", *arguments, "--json", "--quiet"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "workers, seed",
    [(1, 0), (2, 1), pytest.param(1, 2, marks=pytest.mark.slow), pytest.param(2, 3, marks=pytest.mark.slow)],
)
def test_a_run_killed_at_random_points_is_resumed(tmp_path, workers, seed):
    folder = write_folder(tmp_path / "pictures", 60, side=16)
    (folder / "7.png").write_bytes(b"broken")
    portrait(1, 8).save(folder / "20.png")
    (folder / "labels.csv").write_text("name,kind\n" + "".join(f"{i}.png,{i % 3}\n" for i in range(60)))
    arguments = [str(folder), str(tmp_path / "data"), "--max-res", "16", "--workers", str(workers)]
    dice = random.Random(seed)
    done = 0
    for _ in range(3):
        process = started(*arguments)
        seen = 0
        for _ in range(dice.randrange(1, 24)):
            assert process.stderr.read(1) == b"#"
            seen += 1
        os.killpg(process.pid, signal.SIGKILL)
        seen += process.communicate()[1].count(b"#")
        assert not (tmp_path / "data").exists()
        progress = read_progress(tmp_path / "data.partial")
        committed = progress.consumed if progress else 0
        # no more than the last transaction is lost
        assert done <= committed <= done + seen <= committed + FLUSH
        done = committed
        if done == 60:
            break
    process = started(*arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err
    report = json.loads(out)
    assert (report["resumed"], err.count(b"#")) == (done, 60 - done)
    whole = prepare(str(folder), tmp_path / "whole", PrepareOptions(max_res=16))
    assert_same(tmp_path / "data", tmp_path / "whole")
    assert sorted(os.listdir(tmp_path)) == ["data", "pictures", "whole"]
    for name in ("count", "left_out", "bad", "converted", "labels", "attribution"):
        assert report[name] == getattr(whole, name)


@pytest.mark.long
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_store_to_resume(tmp_path, number, status):
    dest = tmp_path / "data"
    process = started("drawn:100000", str(dest), "--max-res", "4", "--workers", "2")
    for _ in range(FLUSH + 2):
        assert process.stderr.read(1) == b"#"
    # Ctrl-C goes to the whole group
    os.killpg(process.pid, number) if number == signal.SIGINT else process.terminate()
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (status, b"")
    committed = read_progress(tmp_path / "data.partial").consumed
    message = f"interrupted; {committed} pictures are done and kept in {dest}.partial, run the same command again to"
    assert err.decode().lstrip("#") == f"pggan: error: {message} go on\n"
    assert committed >= FLUSH
    assert os.listdir(tmp_path) == ["data.partial"]


class Stop(BaseException):
    pass


def stopping_at(monkeypatch, flush, before):
    """The writer's transaction number `flush` (from 0) does not come about, or is the last thing that does."""
    real, calls = StoreWriter._flush, iter(range(10**6))

    def stopped(self):
        at = next(calls)
        if at == flush and before:
            raise Stop
        real(self)
        if at == flush:
            raise Stop

    monkeypatch.setattr(StoreWriter, "_flush", stopped)


def tarred(tmp_path, mode, name, folder):
    path = tmp_path / name
    with tarfile.open(path, mode) as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, file.name)
    return path


@pytest.mark.parametrize("kind", ["folder", "drawn", "tar.gz"])
@pytest.mark.parametrize("flush", range(5))
@pytest.mark.parametrize("before", [True, False])
def test_a_run_stopped_at_any_transaction_is_resumed(tmp_path, monkeypatch, kind, flush, before):
    source = "drawn:18"
    if kind != "drawn":
        source = folder = write_folder(tmp_path / "pictures", 18, side=16)
    if kind == "tar.gz":
        source = tarred(tmp_path, "w:gz", "pictures.tar.gz", folder)
    options = PrepareOptions(max_res=8, seed=4)
    prepare(str(source), tmp_path / "whole", options)
    with monkeypatch.context() as patch:
        stopping_at(patch, flush, before)
        try:
            prepare(str(source), tmp_path / "data", options)
            stopped = False
        except Stop:
            stopped = True
    committed = min(18, FLUSH * (flush if before else flush + 1))
    if stopped:
        with pytest.raises(DataError, match=r"no data store"):
            Store(tmp_path / "data")
        assert (tmp_path / "data.partial").exists() == bool(committed)
        if committed:
            with pytest.raises(DataError, match="half-made"):
                Store(tmp_path / "data.partial")
            assert plan(str(source), tmp_path / "data", options).done == committed
        done = []
        report = prepare(str(source), tmp_path / "data", options, on_start=done.append)
        assert (report.resumed, done) == (committed, [18 - committed])
    assert_same(tmp_path / "data", tmp_path / "whole")
    assert not (tmp_path / "data.partial").exists()


def left_behind(monkeypatch, source, dest, options=None):
    with monkeypatch.context() as patch:
        stopping_at(patch, 1, False)
        with pytest.raises(Stop):
            prepare(str(source), dest, options or PrepareOptions())
    assert read_progress(dest.with_name("data.partial")).consumed == 10


@pytest.mark.long
@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_res": 16}, "--max-res was 32, now 16"),
        ({"codec": "32:png"}, "--codec was unset, now 32:png"),
        ({"upscale": True, "fit": "pad"}, "--fit was crop, now pad; --upscale was not given, now given"),
        ({"limit": 3}, "--limit was unset, now 3"),
        ({"shard": (1, 2)}, "--shard was unset, now 1/2"),
        ({"labels": "folders"}, None),
        ({"workers": 2, "force": True}, ""),
    ],
)
def test_other_options_are_refused(tmp_path, monkeypatch, options, message):
    folder, dest = write_folder(tmp_path / "pictures", 12), tmp_path / "data"
    left_behind(monkeypatch, folder, dest)
    before = tree(tmp_path / "data.partial")
    if message == "":
        assert prepare(str(folder), dest, PrepareOptions(**options)).resumed == 10
        return
    with pytest.raises((UsageError, DataError), match="." if message is None else "made with other options") as caught:
        prepare(str(folder), dest, PrepareOptions(**options))
    if message:
        assert f"made with other options ({message}); run that command again, or --overwrite" in str(caught.value)
        with pytest.raises(UsageError, match="made with other options"):
            plan(str(folder), dest, PrepareOptions(**options))
    assert tree(tmp_path / "data.partial") == before
    if message:
        assert prepare(str(folder), dest, PrepareOptions(**options, overwrite=True)).resumed == 0
    assert prepare(str(folder), dest, PrepareOptions(overwrite=True)).count == 12


def test_another_source_is_refused(tmp_path, monkeypatch):
    folder, dest = write_folder(tmp_path / "pictures", 12), tmp_path / "data"
    left_behind(monkeypatch, folder, dest)
    (folder / "notes.txt").write_text("no picture")
    assert plan(str(folder), dest, PrepareOptions()).done == 10
    portrait(50).save(folder / "5.png")
    with pytest.raises(UsageError, match="another SOURCE, or files in it have changed"):
        prepare(str(folder), dest, PrepareOptions())
    with pytest.raises(UsageError, match=r"another SOURCE.*; pictures was 12, now 7"):
        prepare("drawn:7", dest, PrepareOptions(max_res=32))
    assert prepare("drawn:7", dest, PrepareOptions(max_res=32, overwrite=True)).count == 7


@pytest.mark.parametrize("changed", ["x-labels.npy", "classes.json"])
def test_other_labels_beside_the_source_are_refused(tmp_path, monkeypatch, changed):
    array, dest = tmp_path / "x.npy", tmp_path / "data"
    np.save(array, np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8))
    np.save(tmp_path / "x-labels.npy", np.arange(12) % 3)
    table = tmp_path / "table.csv"
    table.write_text("file,kind\n" + "".join(f"picture {i},{'ab'[i % 2]}\n" for i in range(12)))
    (tmp_path / "classes.json").write_text('{"kind": ["a", "b"]}')
    options = PrepareOptions(labels=str(table) if changed == "classes.json" else None)
    with monkeypatch.context() as patch:
        stopping_at(patch, 1, False)
        with pytest.raises(Stop):
            prepare(str(array), dest, options)
    assert plan(str(array), dest, options).done == 10
    np.save(tmp_path / "x-labels.npy", 2 - np.arange(12) % 3)
    (tmp_path / "classes.json").write_text('{"kind": ["b", "a"]}')
    os.utime(tmp_path / changed, ns=(1, 1))
    with pytest.raises(UsageError, match="another SOURCE, or files in it have changed"):
        prepare(str(array), dest, options)


def test_a_source_with_its_destination_inside(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "pictures", 12)
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        stopping_at(patch, 1, False)
        with pytest.raises(Stop):
            prepare(".", "data", PrepareOptions())
    assert prepare(".", "data", PrepareOptions()).resumed == 10


def test_a_damaged_unfinished_store_needs_overwrite(tmp_path, monkeypatch):
    folder, dest = write_folder(tmp_path / "pictures", 12), tmp_path / "data"
    left_behind(monkeypatch, folder, dest)
    file = tmp_path / "data.partial" / "data.mdb"
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"unfinished store at .* is damaged .*; --overwrite it, or remove it"):
        prepare(str(folder), dest)
    assert file.stat().st_size == 20_000
    assert prepare(str(folder), dest, PrepareOptions(overwrite=True)).count == 12


def test_what_is_no_unfinished_store_is_left_alone(tmp_path):
    folder = write_folder(tmp_path / "pictures", 2)
    (tmp_path / "data.partial").mkdir()
    (tmp_path / "data.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="in the way"):
        prepare(str(folder), tmp_path / "data")
    assert (tmp_path / "data.partial" / "thesis.txt").exists()


def test_the_time_between_transactions_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 0.0)
    committed = []
    real = StoreWriter._flush
    monkeypatch.setattr(StoreWriter, "_flush", lambda self: (real(self), committed.append(self.committed)))
    prepare(str(write_folder(tmp_path / "pictures", 3)), tmp_path / "data")
    assert committed == [1, 2, 3, 3]


def test_a_run_stopped_before_anything_is_written_leaves_nothing(tmp_path, monkeypatch):
    def stopped(directory):
        raise KeyboardInterrupt

    folder = write_folder(tmp_path / "pictures", 3)
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "sync_directory", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare(str(folder), tmp_path / "data")
    assert os.listdir(tmp_path) == ["pictures"]
    assert prepare(str(folder), tmp_path / "data").count == 3


def test_strictness_leaves_nothing(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "pictures", 12)
    (folder / "11.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="--strict"):
        prepare(str(folder), tmp_path / "data", PrepareOptions(strict=True))
    assert os.listdir(tmp_path) == ["pictures"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MiB, and how to make it larger."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", *options, str(place)], capture_output=True, check=False).returncode == 0

    if not mount("-t", "tmpfs", "-o", "size=2m", "tmpfs"):
        pytest.skip("no right to mount a disk")
    yield place, lambda: mount("-o", "remount,size=40m")
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.long
def test_a_full_disk_leaves_a_store_to_resume(tmp_path, small_disk, capsys):
    place, enlarge = small_disk
    dest, arguments = place / "data", ["prepare-data", "drawn:120", "--max-res", "64", "--quiet", "--workers", "1"]
    assert run([*arguments, str(dest)]) == 1
    assert "are needed at" in capsys.readouterr().err
    assert os.listdir(place) == []
    assert run([*arguments, str(dest), "--force"]) == 1
    err = capsys.readouterr().err
    done = read_progress(place / "data.partial").consumed
    assert 20 < done < 120
    assert err.count("\n") == 1
    assert f"the disk is full: {place}/data.partial; about " in err
    assert f"iB more are needed, with {done} of 120 pictures done; free as much, then run the same command again" in err
    assert run([*arguments, str(dest)]) == 1  # it knows what is missing
    assert "are needed at" in capsys.readouterr().err
    assert enlarge()
    assert run([*arguments, str(dest)]) == 0
    assert f"going on after {done}" in capsys.readouterr().out
    prepare("drawn:120", tmp_path / "whole", PrepareOptions(max_res=64))
    assert_same(dest, tmp_path / "whole")


def test_a_full_disk_is_explained(tmp_path):
    writer = StoreWriter(tmp_path / "data.partial", {4: "raw"})
    explained = writer_module.explain_full_disk(writer, 10, 2 << 20)
    with pytest.raises(DiskFull, match=r"about 2.0 MiB more are needed, with 0 of 10") as caught, explained:
        raise OSError(errno.EDQUOT, "quota", "x")
    assert (caught.value.errno, caught.value.filename) == (errno.EDQUOT, str(writer.path))
    with pytest.raises(PermissionError, match="no"), writer_module.explain_full_disk(writer, 10):
        raise PermissionError(errno.EACCES, "no")
    writer.close()


@pytest.mark.long
def test_a_writer_keeps_only_labels_in_memory(tmp_path):
    """Of 20,000 pictures, a writer keeps their labels only."""
    import tracemalloc

    record = np.zeros((3, 4, 4), np.uint8).tobytes()
    writer = StoreWriter(tmp_path / "data", {4: "raw"})
    writer_module.FLUSH_COUNT = 1000
    tracemalloc.start()
    for _ in range(20_000):
        writer.add({4: record}, (1, 2))
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert allocated < 20_000 * 2 * 4 * 1.3 + 200_000
    writer.close()
