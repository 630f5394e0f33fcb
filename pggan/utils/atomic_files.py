"""Writing files so that a name either holds the whole new content or what it held before."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: two processes in one place are not noticed there
    fcntl = None  # type: ignore[assignment]


def replace_atomically(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """Calls `write(temporary)` beside `path`, flushes it to the disk and renames it into place.

    On any failure the temporary file is removed and `path` is as it was. `durable` False, for what can be made again:
    nothing waits for the disk, so that a machine that goes down may lose the file; its mode is as `write` leaves it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    try:
        if durable:
            _write_durably(temporary, write)
        else:
            write(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            # told of the name that a person asked for
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    if durable:
        sync_directory(path.parent)


def _write_durably(path: Path, write: Callable[[Path], None]) -> None:
    path.touch()
    usual = path.stat().st_mode & 0o777
    write(path)
    os.chmod(path, usual)  # some libraries make files that only their owner can read
    sync_file(path)


def sync_file(path: Path) -> None:
    """Waits until a file's contents are on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Makes a rename in a directory durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process alone holds the lock file `path` for the block; the lock goes with the process.

    True, too, where the system or the file system has no locks.
    """
    if fcntl is None:
        yield True
        return
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True


def is_claimed(path: Path) -> bool:
    """Whether a process holds the lock file `path`. False where there is none, and where there are no locks."""
    if fcntl is None:
        return False
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # none, one that others may not read, or a file system without locks
        return False
    return False


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2) + "\n"
    replace_atomically(path, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
