"""A lock file has one holder among all processes, and is free again however that one ends."""

from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import filelock
import pytest

from pggan.utils.file_lock import exclusive_lock, is_locked

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from pggan.utils.file_lock import exclusive_lock
with exclusive_lock(Path(sys.argv[1])) as acquired:
    print(acquired, flush=True)
    sys.stdin.read()
"""


def test_another_process_s_lock_is_seen_until_that_process_is_killed(tmp_path):
    path = tmp_path / "lock"
    path.write_text("content")
    assert not is_locked(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"True\n"
        assert is_locked(path)
        with exclusive_lock(path) as acquired:
            assert not acquired
        holder.kill()
    assert not is_locked(path)
    with exclusive_lock(path) as acquired, exclusive_lock(path) as again:
        assert acquired
        assert not again
        assert is_locked(path)
    assert not is_locked(path)
    assert path.read_text() == "content"


def test_a_lock_is_released_by_an_exception(tmp_path):
    with suppress(KeyError), exclusive_lock(tmp_path / "lock") as acquired:
        assert acquired
        assert is_locked(tmp_path / "lock")
        raise KeyError
    assert not is_locked(tmp_path / "lock")


def test_asking_creates_no_lock_file(tmp_path):
    assert not is_locked(tmp_path / "lock")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, number):
    def fail(self, *_, **__):
        raise OSError(number, "no locks")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with exclusive_lock(tmp_path / "lock") as acquired:
        assert acquired


def test_a_directory_without_permission_is_an_error(tmp_path, monkeypatch):
    def fail(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    with pytest.raises(PermissionError, match="Permission denied"), exclusive_lock(tmp_path / "lock"):
        pass
