"""Atomic file writes: a name holds either the whole new content or what it held before."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pggan.utils.file_lock import HAS_FLOCK, try_flock

# The end of the name of every temporary file, after "." and the name of the file that it becomes.
TEMPORARY = ".pggan.tmp"
# How often a rename over a file that is open is tried, and the seconds between.
_REPLACE_TRIES, _REPLACE_SECONDS = 5, 0.1


def replace_atomically(path: Path, write: Callable[[Path], object], durable: bool = True) -> None:
    """Calls `write(temporary)` beside `path`, flushes the file to the disk and renames it to `path`.

    On any failure the temporary file is removed and `path` stays as it was.

    Args:
        path: The file to write or replace.
        write: Writes the content to the path it gets.
        durable: Wait for the disk. False suits files that can be made again: a power cut may lose them, and the file
            mode stays as `write` leaves it.

    Raises:
        OSError: Writing failed; the error names `path`, not the temporary file.
    """
    with _temporary_name(path) as temporary:
        try:
            if durable:
                temporary.touch()
                default_mode = temporary.stat().st_mode & 0o777
                write(temporary)
                with suppress(OSError):  # refused on some mounts, where it is not needed either
                    os.chmod(temporary, default_mode)  # some libraries make files that only their owner can read
                sync_file(temporary)
            else:
                write(temporary)
            _replace(temporary, path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
                raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
            raise
    if durable:
        sync_directory(path.parent)


@contextmanager
def _temporary_name(path: Path) -> Iterator[Path]:
    """Yields the name to write to before `path` gets its content.

    It is the same every time, so that the next one who writes `path` takes up what a killed process left. A lock on the
    file keeps two writers of `path` apart: the second one gets a name of its own.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    handle = _claim(temporary) if HAS_FLOCK else None
    try:
        own = f".{path.name}.{os.getpid()}.{threading.get_native_id()}{TEMPORARY}"
        yield path.with_name(own) if handle is None else temporary
    finally:
        if handle is not None:
            os.close(handle)


def _claim(temporary: Path) -> int | None:
    """Creates and locks a temporary file, in place of one that a killed process left. None where that cannot be."""
    handle = _create(temporary)
    if handle is None and _remove_leftover(temporary):
        handle = _create(temporary)
    if handle is None:  # another writer holds the name, or something that is not ours
        return None
    try:
        if _is_ours(handle, temporary):
            return handle
    except OSError:  # a file system without locks
        temporary.unlink(missing_ok=True)
    os.close(handle)
    return None


def _create(temporary: Path) -> int | None:
    try:
        return os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except OSError:
        return None


def _remove_leftover(temporary: Path) -> bool:
    """Removes a temporary file that nobody holds; returns whether it did."""
    with suppress(OSError), open(temporary, "rb+", opener=_open_plainly) as leftover:
        if _is_ours(leftover.fileno(), temporary):
            temporary.unlink()
            return True
    return False


def _open_plainly(path: str, flags: int) -> int:
    """An opener that follows no link and waits for no pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_ours(handle: int, temporary: Path) -> bool:
    """Locks an open file; whether that was possible and it still has its name, and that alone."""
    status = os.fstat(handle)
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_nlink == 1
        and try_flock(handle, shared=False)
        and os.path.samestat(status, os.lstat(temporary))
    )


def sync_file(path: Path) -> None:
    """Waits until a file's content is on the disk, where its file system can say so."""
    with open(path, "rb+") as file:
        _fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Waits until a directory's entries (new names, renames) are on the disk, where its file system can say so.

    Windows, CIFS, FUSE and shared folders of virtual machines cannot.
    """
    if os.name == "nt":
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written, but not listed
        return
    try:
        _fsync(handle)
    finally:
        os.close(handle)


def _fsync(handle: int) -> None:
    """Flushes a descriptor. Raises `OSError` where the disk fails; a file system that refuses to flush is tolerated."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise


def _replace(temporary: Path, path: Path) -> None:
    """Renames a file over another one, which some file systems refuse for moments while a program has that open."""
    for _ in range(_REPLACE_TRIES - 1):
        try:
            os.replace(temporary, path)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EBUSY, errno.ETXTBSY) or not path.exists():
                raise
        time.sleep(_REPLACE_SECONDS)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically and durably."""
    text = json.dumps(value, indent=2) + "\n"
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
