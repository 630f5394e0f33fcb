"""Memory that the processes of one machine share by name, and that nobody has to remember to give back.

A file in the memory file system. Whoever uses it holds a shared lock (flock), which the kernel takes back however a
process ends; a file that can be locked exclusively has no user. The last user removes it; what a killed one left is
removed by the next process that asks for shared memory.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PLACE = Path("/dev/shm")
PREFIX = "pggan-cache"


class SharedMemory:
    """`size` bytes, zeros at first, the same ones for every process of this user that gives the same key.

    `view` is valid until `close`, which also happens when the object or the process ends.
    """

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        self.path = path
        self._map = mmap.mmap(descriptor, size)
        self.view = memoryview(self._map)
        self._release = weakref.finalize(self, _release, self._map, self.view, descriptor, path)

    @classmethod
    def attach(cls, key: object, size: int) -> SharedMemory | None:
        """None where there is no memory file system, or not so much room in it."""
        if fcntl is None or not os.access(PLACE, os.W_OK):
            return None
        sweep()
        path = PLACE / f"{_own()}{hashlib.sha256(repr((key, size)).encode()).hexdigest()[:24]}"
        try:
            descriptor = _locked(path)
        except OSError:
            return None
        try:
            if os.fstat(descriptor).st_uid != os.getuid():
                raise PermissionError(13, "another user's", str(path))
            # a file system that is full must say so now: later, writing to the map would end the process
            os.posix_fallocate(descriptor, 0, size)
            return cls(descriptor, path, size)
        except OSError:
            _leave(descriptor, path)
            return None

    def close(self) -> None:
        """Gives the memory back; harmless when done twice. No array may look at `view` any more."""
        self._release()


def sweep() -> None:
    """Removes this user's files that nobody uses any more."""
    for path in PLACE.glob(f"{_own()}*"):
        _remove_unused(path)


def _own() -> str:
    return f"{PREFIX}-{os.getuid()}-"


def _locked(path: Path) -> int:
    """A descriptor of the file of this name, made where there is none, with a shared lock on it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for a removal at most
            if _same(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # removed between the two calls


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _release(memory: mmap.mmap, view: memoryview, descriptor: int, path: Path) -> None:
    try:
        view.release()
        memory.close()
    except BufferError:  # an array still looks at it: the map goes with that array
        pass
    _leave(descriptor, path)


def _leave(descriptor: int, path: Path) -> None:
    # our lock first: the last of several who leave at once finds the file free. Unlocked, not only closed: a map holds
    # a copy of the descriptor, and the lock with it
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
    _remove_unused(path)


def _remove_unused(path: Path) -> None:
    with _opened(path) as descriptor:
        if descriptor is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same(descriptor, path):
                os.unlink(path)
        except OSError:  # in use, or gone already
            pass


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
