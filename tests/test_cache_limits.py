"""The user's caches stay within their limits: what was used least recently goes, and nothing that may be in use."""

import json
import os
import time
from pathlib import Path

import pytest

from pggan.cli import run
from pggan.metrics.cache import Cache
from pggan.utils import paths
from pggan.utils.caching import cache_folders, limits_of_caches
from pggan.utils.caching.cache_folders import cache_folder
from pggan.utils.caching.limits_of_caches import CACHES, LIMIT, limit_of, remove_least_recent, size_of
from pggan.utils.errors import UsageError

HOUR = 3600


def write(path, size, hours):
    """A file last used so many hours ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - hours * HOUR
    os.utime(path, (then, then))
    return path


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def test_the_least_recently_used_files_go_until_the_rest_fits(tmp_path):
    for number in range(6):
        write(tmp_path / f"{number % 2}/{number}", 100, hours=10 - number)
    assert remove_least_recent(tmp_path, 350) == 300
    assert names(tmp_path) == ["0/4", "1/3", "1/5"]
    assert remove_least_recent(tmp_path, 350) == 0
    assert remove_least_recent(tmp_path, None) == 0
    assert remove_least_recent(tmp_path, 0) == 300
    assert list(tmp_path.iterdir()) == []  # empty folders go, too


def test_files_in_use_locks_and_what_lies_behind_links_stay(tmp_path):
    mine = write(tmp_path / "mine", 500, hours=99)
    cache = tmp_path / "cache"
    write(cache / "now", 500, hours=0.1)
    write(cache / "a.lock", 500, hours=99)
    write(cache / "blobs/old", 500, hours=99)
    (cache / "snapshots").mkdir()
    (cache / "snapshots/model").symlink_to("../blobs/old")
    (cache / "out").symlink_to(mine)
    (cache / "folder").symlink_to(tmp_path)
    assert size_of(cache) == 1500
    assert remove_least_recent(cache, 0) == 500
    assert {"now", "a.lock", "out"} <= set(names(cache))
    assert not (cache / "snapshots").exists()  # its link led nowhere
    assert mine.exists()


def test_a_cache_is_brought_within_its_limit_once_a_process(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache_folders, "_bounded", set())
    monkeypatch.setenv(LIMIT, "1KB")
    folder = tmp_path / "pggan" / "seeds"
    for number in range(3):
        write(folder / f"{number}", 500, hours=30 - number)
    assert cache_folder("seeds") == folder
    assert names(folder) == ["1", "2"]
    write(folder / "3", 5000, hours=30)
    cache_folder("seeds")
    assert names(folder) == ["1", "2", "3"]


def test_reading_counts_as_use(tmp_path):
    torch = pytest.importorskip("torch")
    cache = Cache(tmp_path)
    cache.save("a", {"x": 1}, {"t": torch.zeros(3)})
    (file,) = tmp_path.iterdir()
    write_time = time.time() - 50 * HOUR
    os.utime(file, (write_time, write_time))
    assert cache.load("a", {"x": 1}) is not None
    assert file.stat().st_mtime > write_time + 40 * HOUR


def test_limits_are_those_of_the_table_or_of_the_environment(monkeypatch):
    monkeypatch.delenv(LIMIT, raising=False)
    assert limit_of("seeds") == CACHES["seeds"].limit == 1 << 30
    assert limit_of("locks") is None
    assert limit_of("another") is None
    monkeypatch.setenv(LIMIT, "2GB")
    assert (limit_of("seeds"), limit_of("hub"), limit_of("locks")) == (2 << 30, 2 << 30, None)
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(UsageError, match="PGGAN_CACHE_LIMIT=much is no size, as 2GB"):
        limit_of("seeds")


def test_every_cache_of_the_package_is_in_the_table():
    import re

    package = Path(paths.__file__).parents[1]
    used = set()
    for path in package.rglob("*.py"):
        used |= set(re.findall(r'cache_folder\("(\w+)"\)', path.read_text(encoding="utf-8")))
    assert used == set(CACHES)


def test_doctor_names_them_with_size_and_limit(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(LIMIT, raising=False)
    write(tmp_path / "pggan/hub/blobs/a", 2048, hours=1)
    (tmp_path / "pggan/hub/link").symlink_to("blobs/a")  # not counted twice
    write(tmp_path / "pggan/other", 10, hours=1)
    assert run(["doctor", "--json"]) == 0
    caches = json.loads(capsys.readouterr().out)["caches"]
    assert caches["hub"] == "2.0 KiB of at most 50.0 GiB: models and data sets of the Hugging Face Hub"
    assert caches["other"] == "10 B: not pggan's"
    assert run(["doctor", "--clear-caches", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["caches"]["cleared"] == "2.0 KiB"
    assert list((tmp_path / "pggan").iterdir()) == []
    assert limits_of_caches.IN_USE_SECONDS == HOUR
