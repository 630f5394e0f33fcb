"""This process's LMDB environments of stores, one a file, opened read-only and checked before they are read."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import lmdb

from pggan.data.store.lmdb_pages import LmdbPages, PageTree
from pggan.data.store.manifest import Manifest, NewerFormat
from pggan.utils.errors import DataError
from pggan.utils.untrusted import reading

FILE = "data.mdb"
META, MANIFEST, LABELS = b"meta", b"manifest", b"labels"
DIGESTS = b"digests"
ADVICE = "prepare the data again"
# Least bytes of a record in the file: header and offset of its node, and its key.
NODE_BYTES = 18


def database_name(resolution: int) -> bytes:
    """Returns the name of a resolution's database."""
    return f"{resolution}x{resolution}".encode()


def record_key(index: int) -> bytes:
    """Returns the key of an image in each database."""
    return struct.pack(">Q", index)


class Environment:
    """An LMDB environment that all `Store`s of this process on one file share: LMDB forbids opening a file twice.

    Raises `DataError` for what is no whole store, `lmdb.Error` where later a page or a database is damaged.
    """

    def __init__(self, path: Path, identity: tuple[int, ...]) -> None:
        self.path, self.identity, self.pid, self.users = path, identity, os.getpid(), 0
        self._lock = threading.Lock()
        self._databases: dict[bytes, tuple[Any, PageTree]] = {}
        with ExitStack() as stack:
            try:
                self._pages = stack.enter_context(closing(LmdbPages(path / FILE)))
                self._entries = self._pages.main.entries()
                self.env = stack.enter_context(open_readonly(path))
            except lmdb.Error as error:
                raise DataError(f"{path} is not a readable data store ({error}); prepare the data again") from None
            self.manifest = self._read_manifest()
            self._close = stack.pop_all().close

    def records(self, name: bytes, keys: Iterable[bytes], most: int) -> list[bytes | None]:
        """Returns records of a database, None where one is missing. `most`: the largest size allowed, in bytes."""
        database, tree = self._database(name)
        with self.env.begin(db=database, buffers=True) as txn:
            records: list[bytes | None] = []
            for key in keys:
                if not tree.is_intact(key):
                    raise lmdb.CorruptedError("a damaged page")
                record = txn.get(key)
                if record is not None and len(record) > most:
                    raise lmdb.CorruptedError(f"a record of {len(record)} bytes, {most} at most belong there")
                records.append(None if record is None else bytes(record))
            return records

    @contextmanager
    def view(self, name: bytes, key: bytes) -> Iterator[memoryview]:
        """Yields a record without copying it; an empty one where it is missing."""
        database, tree = self._database(name)
        if not tree.is_intact(key):
            raise lmdb.CorruptedError("a damaged page")
        with self.env.begin(db=database, buffers=True) as txn:
            yield txn.get(key, b"")

    def entries(self, name: bytes) -> int:
        """Returns the number of records of a database. Raises `lmdb.Error` if it is missing."""
        database, _ = self._database(name)  # LMDB opens databases outside of other transactions
        with self.env.begin() as txn:
            return int(txn.stat(database)["entries"])

    def release(self) -> None:
        with _OPEN_LOCK:
            self.users -= 1
            if self.users <= 0:
                _OPEN.pop(self.identity, None)
                self._close()

    def _database(self, name: bytes) -> tuple[Any, PageTree]:
        with self._lock:
            if name not in self._databases:
                if name not in self._entries:
                    raise lmdb.NotFoundError(f"no database {name.decode()}")
                tree = PageTree(self._pages, self._entries[name])
                self._databases[name] = self.env.open_db(name, create=False), tree
            return self._databases[name]

    def _read_manifest(self) -> Manifest:
        path = self.path
        if META not in self._entries:
            raise DataError(f"{path} is another program's LMDB or a half-made store, not one of pggan's")
        try:
            with reading(f"{path}: the store", DataError, ADVICE):
                with self.view(META, MANIFEST) as text:
                    if not len(text):
                        raise DataError(f"{path} is a half-made store; run pggan prepare-data again")
                    manifest = Manifest.parse(text)
                if manifest.count * NODE_BYTES > os.path.getsize(path / FILE):
                    raise ValueError(f"{manifest.count} pictures in a smaller file")
        except NewerFormat as error:
            raise DataError(f"{path}: {error}") from None
        return manifest


def open_readonly(path: Path) -> Any:
    """Opens an LMDB environment whose pages were checked; the caller closes it. Raises `lmdb.Error`."""
    return lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False, max_dbs=64, create=False)


_OPEN: dict[tuple[int, ...], Environment] = {}
_OPEN_LOCK = threading.Lock()


def open_shared(path: Path) -> Environment:
    """Returns this process's environment of the store at `path`; the caller releases it. Raises `DataError`."""
    try:
        status = os.stat(path / FILE)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} is no data store; make one with: pggan prepare-data PICTURES DEST") from None
    # keyed by file, not by name: another store may have taken the name since
    identity = (os.getpid(), status.st_dev, status.st_ino)
    with _OPEN_LOCK:
        environment = _OPEN.get(identity)
        if environment is None:
            environment = _OPEN[identity] = Environment(path, identity)
        environment.users += 1
        return environment
