"""Staging directory of a new store: written under a temporary name, renamed to its own when it is complete.

An interrupted run leaves `DEST.partial` there; the same command resumes it. The other names beside DEST, `own_name`,
begin with a dot and hold "pggan", so that no file of another program is meant: a lock, the faces found so far, and the
store that --overwrite replaces until the new one is in its place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pggan.data.store.lmdb_environment import FILE
from pggan.data.store.resume import partial_path, read_progress
from pggan.utils.atomic_files import sync_directory
from pggan.utils.errors import DataError, UsageError
from pggan.utils.file_lock import exclusive_lock

# The only files in a store's directory: --overwrite replaces no directory with other files.
_STORE_FILES = {FILE, "lock.mdb"}
_MAX_NAME_BYTES = 255


def check_destination(dest: Path, overwrite: bool) -> None:
    """Raises `UsageError` if `dest` exists and must not be replaced, `PermissionError` if it cannot be created."""
    if Path.cwd().is_relative_to(dest.resolve()):  # a rename would take it away from the shell
        raise UsageError(f"DEST {dest} is the current folder, or holds it; give the name of a new folder")
    _recover_replaced(dest)
    if dest.is_dir():
        names = set(os.listdir(dest))
        if names and not overwrite:
            raise UsageError(f"{dest} exists already; give another DEST, or --overwrite to replace it")
        if names and not (FILE in names and names <= _STORE_FILES):
            raise UsageError(f"{dest} is not a data store, so --overwrite does not replace it; give another DEST")
    elif dest.exists():
        raise UsageError(f"{dest} is a file; give a directory to be made as DEST")
    parent = existing_parent(dest)
    if store := next((folder for folder in dest.resolve().parents if (folder / FILE).is_file()), None):
        raise UsageError(f"{dest} lies in the data store {store}; give a DEST outside it")
    if not parent.is_dir():
        raise UsageError(f"{parent} is a file, so that {dest} cannot be made; give another DEST")
    if not os.access(parent, os.W_OK):
        raise PermissionError(13, "Permission denied", str(parent))


def check_place(file: Path, name: str) -> None:
    """Raises `UsageError`, which begins with `name`, where a file cannot be made."""
    folder = existing_parent(file.absolute())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = "you may not write there" if folder.is_dir() else "that is a file"
        raise UsageError(f"{name} cannot be written to {folder}: {reason}; give another name")


def existing_parent(dest: Path) -> Path:
    """Returns the closest existing parent of `dest`, on whose disk it will be."""
    return next(parent for parent in dest.parents if parent.exists())


class UnusableStore(DataError):  # noqa: N818 (of the store)
    """A failure that makes the unfinished store useless: it is removed."""


@contextmanager
def staging_directory(dest: Path, keep: bool = True) -> Iterator[Path]:
    """Yields the directory to write the store into, and renames it to `dest` after the block.

    The directory may hold an unfinished store to resume. After a failure, committed data stay there for the next run.

    Args:
        dest: Final path of the store.
        keep: False removes the staging directory after any failure, not only after `UnusableStore`.

    Raises:
        DataError: Another process is making the same store.
        UsageError: `DEST.partial` exists and is not an unfinished store.
    """
    dest.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(dest)
    with _locked(dest):
        if _in_the_way(partial):
            raise UsageError(f"{partial} is in the way, and no unfinished store; rename or remove it")
        try:
            yield partial
            _move_into_place(partial, dest)
        except BaseException as error:
            if not keep or isinstance(error, UnusableStore) or _is_empty(partial):
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _in_the_way(place: Path) -> bool:
    """Whether something is there that is no directory of a store."""
    if place.is_symlink() or not place.is_dir():
        return place.is_symlink() or place.exists()
    return not set(os.listdir(place)) <= _STORE_FILES


def _is_empty(partial: Path) -> bool:
    """Whether no transaction has been committed to the unfinished store."""
    try:
        return not _in_the_way(partial) and read_progress(partial) is None
    except (DataError, UsageError):
        return False


def own_name(dest: Path, kind: str) -> Path:
    """Returns the path beside `dest` of its "lock", "faces" or "replaced" store; a long name becomes its digest."""
    name = dest.name
    if len(os.fsencode(f".{name}.pggan-{kind}")) > _MAX_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return dest.with_name(f".{name}.pggan-{kind}")


@contextmanager
def _locked(dest: Path) -> Iterator[None]:
    """Holds the lock file of `dest` for the block, then removes it."""
    path = own_name(dest, "lock")
    if path.is_symlink() or (path.exists() and (not path.is_file() or path.stat().st_size)):
        raise UsageError(f"{path} is in the way: it is no lock of pggan's; rename or remove it")
    with exclusive_lock(path) as acquired:
        if not acquired:
            raise DataError(f"{dest} is being made by another process; wait for it, or give another DEST")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _recover_replaced(dest: Path) -> None:
    """Restores the old store if a process was killed between the two renames of `_move_into_place`."""
    old = own_name(dest, "replaced")
    if not dest.exists() and old.is_dir() and not _in_the_way(old):
        os.replace(old, dest)


def _move_into_place(partial: Path, dest: Path) -> None:
    """Renames the new store to `dest`; removes an old store there only afterwards."""
    with suppress(OSError):  # some network file systems cannot sync directories
        sync_directory(partial)
    if not dest.exists() or not os.listdir(dest):
        if dest.exists():
            dest.rmdir()
        os.replace(partial, dest)
    else:
        old = own_name(dest, "replaced")
        if _in_the_way(old):
            raise UsageError(f"{old} is in the way, and no store that was replaced; rename or remove it")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(dest, old)
        try:
            os.replace(partial, dest)
        except BaseException:
            os.replace(old, dest)
            raise
        shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):
        sync_directory(dest.parent)
