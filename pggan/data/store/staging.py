"""Where a store is made: under a temporary name beside its own, which it takes when it is whole.

What a run that was stopped left there stays, for the same command to go on from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pggan.data.store.resume import read_progress, unfinished
from pggan.data.store.store import FILE
from pggan.utils.errors import DataError, UsageError

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


class Unusable(DataError):  # noqa: N818 (of the store)
    """A failure after which what has been made is of no use, so that it goes."""


@contextmanager
def staging_directory(dest: Path, keep: bool = True) -> Iterator[Path]:
    """The directory to make the store in, where there may be an unfinished one. It becomes `dest` after the block.

    If that fails, what has been committed there stays for the same command; all goes after `Unusable`, and unless
    `keep`. Raises `DataError` where another process is making the same store.
    """
    dest.parent.mkdir(parents=True, exist_ok=True)
    partial = unfinished(dest)
    with _claimed(dest):
        if partial.exists() and not (partial.is_dir() and set(os.listdir(partial)) <= _OWN_FILES):
            raise UsageError(f"{partial} is in the way, and no unfinished store; rename or remove it")
        try:
            yield partial
            _move_into_place(partial, dest)
        except BaseException as error:
            if not keep or isinstance(error, Unusable) or _is_new(partial):
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _is_new(partial: Path) -> bool:
    """Whether nothing has been committed there."""
    try:
        return read_progress(partial) is None
    except DataError:
        return False


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
    sync_entries(partial)
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
    sync_entries(dest.parent)


def sync_entries(directory: Path) -> None:
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
