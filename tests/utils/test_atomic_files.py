"""A name holds the whole new content, or what it held before."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from pggan.utils import atomic_files
from pggan.utils.atomic_files import TEMPORARY, replace_atomically, sync_directory, write_json


class LibraryError(OSError):
    """As PyAV's: the file name cannot be changed."""

    filename = property(lambda self: None)


@pytest.mark.parametrize("kind", [OSError, LibraryError])
def test_a_failure_tells_the_name_that_was_asked_for(tmp_path, kind):
    path = tmp_path / "a"
    path.write_text("before")

    def fail(temporary):
        temporary.write_text("half")
        raise kind(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="No space left") as caught:
        replace_atomically(path, fail)
    assert caught.value.filename == str(path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupted(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_atomically(tmp_path / "a", interrupted)
    assert not list(tmp_path.iterdir())


KILLED = """
import os, sys
from pathlib import Path
from pggan.utils.atomic_files import replace_atomically
def write(temporary):
    temporary.write_text("half")
    os.chmod(temporary, 0o600)
    os._exit(9)
replace_atomically(Path(sys.argv[1]), write)
"""


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "a"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert [p.name for p in tmp_path.iterdir()] == [f".a{TEMPORARY}"]
    replace_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "whole"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # not what the killed process set


def test_two_writers_of_a_name_keep_apart(tmp_path):
    path = tmp_path / "a"

    def write(temporary):
        temporary.write_text("one")
        replace_atomically(path, lambda other: other.write_text("two"))
        assert path.read_text() == "two"
        assert temporary.read_text() == "one"

    replace_atomically(path, write)
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder", "fifo"])
def test_what_is_not_ours_at_the_temporary_name_stays(tmp_path, kind):
    other, name = tmp_path / "other", tmp_path / f".a{TEMPORARY}"
    if kind == "folder":
        name.mkdir()
    elif kind == "fifo":
        os.mkfifo(name)
    elif kind == "dangling link":
        name.symlink_to(other)
    else:
        other.write_text("theirs")
        name.symlink_to(other) if kind == "link" else name.hardlink_to(other)
    replace_atomically(tmp_path / "a", lambda temporary: temporary.write_text("ours"))
    assert (tmp_path / "a").read_text() == "ours"
    assert os.path.lexists(name)
    assert other.exists() == (kind in ("link", "hard link"))
    assert not other.exists() or other.read_text() == "theirs"


def test_without_locks_nothing_is_left(tmp_path, monkeypatch):
    def refuse(handle, shared):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(atomic_files, "try_flock", refuse)
    for text in ("1", "2"):
        replace_atomically(tmp_path / "a", lambda temporary, text=text: temporary.write_text(text))
    assert (tmp_path / "a").read_text() == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "a.json", {"name": "größe", "n": [1, 2]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "größe", "n": [1, 2]}
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", {"bad": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["n"] == [1, 2]


def refuses(number, only=lambda *arguments: True):
    def call(*arguments, **options):
        if only(*arguments):
            raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
def test_mounts_that_cannot_flush_or_change_modes_are_written_all_the_same(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", refuses(number))
    monkeypatch.setattr(os, "chmod", refuses(errno.EPERM))
    write_json(tmp_path / "a.json", {"n": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_to_flush_is_an_error(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", refuses(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        write_json(tmp_path / "a.json", {"n": 1})
    with pytest.raises(OSError, match=os.strerror(number)):
        sync_directory(tmp_path)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.ETXTBSY])
def test_a_file_that_is_open_elsewhere_is_replaced_when_it_is_let_go(tmp_path, monkeypatch, number):
    write_json(tmp_path / "a.json", {"n": 1})
    replace, refusals = os.replace, [1, 2]

    def busy(old, new):
        if refusals:
            refusals.pop()
            raise OSError(number, os.strerror(number))
        replace(old, new)

    monkeypatch.setattr(os, "replace", busy)
    write_json(tmp_path / "a.json", {"n": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 2}
    refusals.extend(range(99))
    with pytest.raises(OSError, match=os.strerror(number)):
        write_json(tmp_path / "a.json", {"n": 3})
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
