"""The table of pggan's caches, and their limits: beyond one, the files that were used least recently are removed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pggan.utils.errors import UsageError
from pggan.utils.formatting import bytes_of

# Environment variable with a limit for each cache, as 2GB, in place of those of the table.
LIMIT = "PGGAN_CACHE_LIMIT"
# Files used less long ago stay: another process may be at them.
IN_USE_SECONDS = 3600.0
_GIB = 1 << 30


class CacheSpec(NamedTuple):
    """A cache: a folder of that name in `cache_root()`."""

    name: str
    what: str  # for people
    limit: int | None  # bytes; None: it stays small by itself


CACHES = {
    spec.name: spec
    for spec in (
        CacheSpec("compiled", "torch's compiled code", 4 * _GIB),
        CacheSpec("hub", "models and data sets of the Hugging Face Hub", 50 * _GIB),
        CacheSpec("metrics", "features of real pictures, where their data cannot be written to", 8 * _GIB),
        CacheSpec("seeds", "thumbnails of seeds", 1 * _GIB),
        CacheSpec("locks", "locks of open files of favourites", None),
    )
}


def limit_of(name: str) -> int | None:
    """Returns a cache's limit in bytes, None for none. Raises `UsageError` where the environment's is no size."""
    spec = CACHES.get(name)
    text = os.environ.get(LIMIT)
    if spec is None or spec.limit is None or not text:
        return spec.limit if spec is not None else None
    try:
        return int(bytes_of(text))
    except ValueError:
        raise UsageError(f"{LIMIT}={text} is no size, as 2GB; unset it, or give one") from None


def size_of(place: Path) -> int:
    """Returns the bytes of the files in a place, links aside."""
    return sum(file.size for file in _files(place))


class _File(NamedTuple):
    used: float  # seconds since 1970
    size: int
    path: Path


def _files(place: Path) -> Iterator[_File]:
    paths = place.rglob("*") if place.is_dir() and not place.is_symlink() else [place]
    for path in paths:
        with suppress(OSError):  # another process may remove it meanwhile
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                yield _File(max(status.st_atime, status.st_mtime), status.st_size, path)


def remove_least_recent(folder: Path, limit: int | None) -> int:
    """Removes files until a folder is within its limit, those used least recently first. Returns the bytes removed.

    Lock files and those used within the last hour stay. Links to removed files, and folders that are empty, go, too.
    """
    files = sorted(_files(folder)) if limit is not None else []
    excess = sum(file.size for file in files) - (limit or 0)
    removed, newest = 0, time.time() - IN_USE_SECONDS
    for file in files:
        if removed >= excess or file.used > newest:
            break
        if file.path.suffix == ".lock":
            continue
        with suppress(OSError):
            file.path.unlink()
            removed += file.size
    if removed:
        _remove_remains(folder)
    return removed


def _remove_remains(folder: Path) -> None:
    """Removes links that lead nowhere, and empty folders."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            with suppress(OSError):
                if path.is_symlink() and not path.exists():
                    path.unlink()
        if Path(place) != folder:
            with suppress(OSError):  # not empty
                os.rmdir(place)


def mark_used(path: Path) -> None:
    """Notes that a cached file is used now: most disks note it once a day alone."""
    with suppress(OSError):
        os.utime(path)
