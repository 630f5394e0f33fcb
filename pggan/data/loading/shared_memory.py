"""Named memory that processes of one machine share and that the last user, however it ends, gives back.

A file in the memory file system. Every user holds a shared lock on it, which the kernel releases with the process; a
file that can be locked exclusively has no user. The last user removes it; the next process that needs shared memory
removes what a killed one left.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import weakref
from contextlib import suppress
from pathlib import Path

from pggan.utils.file_lock import HAS_FLOCK, try_flock, unlock

DIRECTORY = Path("/dev/shm")
PREFIX = "pggan-cache"


class SharedMemory:
    """`size` bytes, zeros at first, shared by all processes of this user that use the same key.

    `view` is valid until `close`, which also happens when the object or the process ends.
    """

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        self.path = path
        self._map = mmap.mmap(descriptor, size)
        self.view = memoryview(self._map)
        self._release = weakref.finalize(self, _release, self._map, self.view, descriptor, path)

    @classmethod
    def attach(cls, key: object, size: int) -> SharedMemory | None:
        """Opens or creates the memory of this key. Returns None without a memory file system, or without room in it."""
        if not HAS_FLOCK or not os.access(DIRECTORY, os.W_OK):
            return None
        remove_unused_files()
        path = DIRECTORY / f"{_own_prefix()}{hashlib.sha256(repr((key, size)).encode()).hexdigest()[:24]}"
        try:
            descriptor = _open_locked(path)
        except OSError:
            return None
        try:
            if os.fstat(descriptor).st_uid != os.getuid():
                raise PermissionError(13, "another user's", str(path))
            # allocate now: on a full file system, writing to the map later would kill the process
            os.posix_fallocate(descriptor, 0, size)
            return cls(descriptor, path, size)
        except OSError:
            _close(descriptor, path)
            return None

    def close(self) -> None:
        """Gives the memory back; may be called twice. No array may refer to `view` any more."""
        self._release()


def remove_unused_files() -> None:
    """Removes this user's files that no process uses."""
    for path in DIRECTORY.glob(f"{_own_prefix()}*"):
        _remove_unused(path)


def _own_prefix() -> str:
    return f"{PREFIX}-{os.getuid()}-"


def _open_locked(path: Path) -> int:
    """Opens or creates a file with a shared lock; returns its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try_flock(descriptor, shared=True, wait=True)  # waits at most for a removal
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed between opening and locking


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _release(memory: mmap.mmap, view: memoryview, descriptor: int, path: Path) -> None:
    with suppress(BufferError):  # an array still refers to it: the map is freed with that array
        view.release()
        memory.close()
    _close(descriptor, path)


def _close(descriptor: int, path: Path) -> None:
    # Unlock first: of several users that leave at once, the last one must find the file unlocked. Closing is not
    # enough, because the map holds a copy of the descriptor, and with it the lock.
    unlock(descriptor)
    os.close(descriptor)
    _remove_unused(path)


def _remove_unused(path: Path) -> None:
    with suppress(OSError):  # already gone
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if try_flock(descriptor, shared=False) and _is_at(descriptor, path):
                os.unlink(path)
        finally:
            os.close(descriptor)
