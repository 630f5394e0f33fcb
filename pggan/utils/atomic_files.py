"""Atomic file writes: a name holds either the whole new content or what it held before."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
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
