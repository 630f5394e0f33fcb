"""Locks between processes by lock files; the kernel releases them however a process ends."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows, where only `exclusive_lock` works
    fcntl = None  # type: ignore[assignment]

HAS_FLOCK = fcntl is not None
# What flock raises on file systems that have no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[bool]:
    """Takes the lock file `path` for the block, without waiting. Yields whether this process holds it now.

    Yields True on file systems without locks, where two processes do not see each other.
    """
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield True
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path`; read permission is enough. False if the system has no locks."""
    try:
        with open(path, "rb") as file:
            return not try_flock(file.fileno(), shared=True)
    except OSError:  # no such file, one that this user may not read, or a file system without locks
        return False


def try_flock(descriptor: int, shared: bool, wait: bool = False) -> bool:
    """Locks an open file; returns whether it succeeded. Raises `OSError` on file systems without locks.

    Args:
        descriptor: Of the open file. The lock belongs to it and to its copies, and goes with the last of them.
        shared: Allow other shared locks beside this one.
        wait: Wait for the holder instead of returning False.
    """
    if not HAS_FLOCK:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Releases the lock of `try_flock`, also for copies of the descriptor (`mmap` keeps one)."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
