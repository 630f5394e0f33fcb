"""Where a store is made: under a temporary name beside its own, which it takes when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pggan.data.store import FILE
from pggan.errors import DataError, UsageError

try:
    import fcntl
except ImportError:  # Windows: two preparations of one store at once are not noticed there
    fcntl = None  # type: ignore[assignment]

# What a store's directory may hold, so that nothing else is ever replaced with it.
_OWN_FILES = {FILE, "lock.mdb"}


def check_destination(dest: Path, overwrite: bool) -> None:
    """Raises `UsageError` where something lies at `dest` that is not to be replaced."""
    _recover(dest)
    if dest.is_dir():
        names = set(os.listdir(dest))
        if names and not overwrite:
            raise UsageError(f"{dest} exists already; give another DEST, or --overwrite to replace it")
        if names and not (FILE in names and names <= _OWN_FILES):
            raise UsageError(f"{dest} is not a data store, so --overwrite does not replace it; give another DEST")
    elif dest.exists():
        raise UsageError(f"{dest} is a file; give a directory to be made as DEST")
    for parent in dest.parents:
        if parent.exists():
            if not parent.is_dir():
                raise UsageError(f"{parent} is a file, so that {dest} cannot be made; give another DEST")
            if not os.access(parent, os.W_OK):
                raise PermissionError(13, "Permission denied", str(parent))
            return


def existing_parent(dest: Path) -> Path:
    """The directory on whose disk `dest` will lie."""
    return next(parent for parent in dest.parents if parent.exists())


@contextmanager
def under_construction(dest: Path) -> Iterator[Path]:
    """An empty directory to make the store in. It becomes `dest` at the end of the block, and goes if that fails.

    Raises `DataError` where another process is making the same store.
    """
    dest.parent.mkdir(parents=True, exist_ok=True)
    partial = dest.with_name(dest.name + ".partial")
    with _claimed(dest):
        if partial.exists():  # of a run that was killed
            shutil.rmtree(partial)
        partial.mkdir()
        try:
            yield partial
            _move_into_place(partial, dest)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def _claimed(dest: Path) -> Iterator[None]:
    """The lock goes with the process, however it ends."""
    if fcntl is None:
        yield
        return
    path = dest.with_name(dest.name + ".lock")
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{dest} is being made by another process; wait for it, or give another DEST") from None
        except OSError:  # a file system without locks
            pass
        if not _is_at(file, path):  # its last holder has just removed it
            raise DataError(f"{dest} was being made by another process; run the same again")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _replaced(dest: Path) -> Path:
    return dest.with_name(dest.name + ".replaced")


def _recover(dest: Path) -> None:
    """Gives back its name to a store that was being replaced when the process was killed between two renames."""
    if not dest.exists() and _replaced(dest).is_dir():
        os.replace(_replaced(dest), dest)


def _move_into_place(partial: Path, dest: Path) -> None:
    """The new store takes its name; what was there before goes only then."""
    _sync(partial)
    if not dest.exists() or not os.listdir(dest):
        if dest.exists():
            dest.rmdir()
        os.replace(partial, dest)
    else:
        old = _replaced(dest)
        shutil.rmtree(old, ignore_errors=True)
        os.replace(dest, old)
        try:
            os.replace(partial, dest)
        except BaseException:
            os.replace(old, dest)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(dest.parent)


def _sync(directory: Path) -> None:
    """Makes a directory's entries outlast a power cut, where the system can."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
