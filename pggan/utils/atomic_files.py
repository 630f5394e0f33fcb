"""Atomic file writes: a name holds either the whole new content or what it held before."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
            os.chmod(temporary, default_mode)  # some libraries make files that only their owner can read
            sync_file(temporary)
        else:
            write(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    if durable:
        sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Waits until a directory's entries (new names, renames) are on the disk. Does nothing on Windows."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically and durably."""
    text = json.dumps(value, indent=2) + "\n"
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
