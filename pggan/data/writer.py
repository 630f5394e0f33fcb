"""Writing a store: pictures in order, the manifest last, in a map that grows by itself."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from array import array
from collections.abc import Callable, Mapping
from mmap import PAGESIZE
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import numpy as np

from pggan.data.manifest import Manifest
from pggan.data.store import LABELS, MANIFEST, META, database_name, key

T = TypeVar("T")

FIRST_MAP = 16 << 20
# A transaction holds at most so many bytes, or pictures.
FLUSH_BYTES, FLUSH_COUNT = 32 << 20, 512


class StoreWriter:
    """Writes a new store into a directory: `add` pictures in order, then `finish`. The map doubles when it is full.

    Raises `OSError` (ENOSPC or EIO) where the disk is full or fails.
    """

    def __init__(self, path: Path, codecs: Mapping[int, str], first_map: int = FIRST_MAP) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.codecs = path, dict(codecs)
        # lock=False: nobody else knows this directory, and no lock.mdb is left in the store. sync=False: `finish` makes
        # the whole last; until then a store that a power cut hits is made again, and nobody waits for the disk
        self._env = lmdb.open(
            str(path), map_size=first_map, max_dbs=len(codecs) + 2, meminit=False, lock=False, sync=False
        )
        self._databases = {r: self._database(database_name(r)) for r in self.codecs}
        self._meta = self._database(META)
        self._pending: list[dict[int, bytes]] = []
        self._pending_bytes = 0
        self._labels = array("i")  # flat: millions of tuples would be gigabytes
        self.count = 0
        self.bytes = dict.fromkeys(self.codecs, 0)

    def add(self, records: Mapping[int, bytes], labels: tuple[int, ...] = ()) -> None:
        """One picture: its record at every resolution, and a class number for each label column."""
        self._pending.append(dict(records))
        self._labels.extend(labels)
        for resolution, record in records.items():
            self.bytes[resolution] += len(record)
            self._pending_bytes += len(record)
        self.count += 1
        if self._pending_bytes >= FLUSH_BYTES or len(self._pending) >= FLUSH_COUNT:
            self._flush()

    def finish(self, manifest: Manifest) -> None:
        """Writes labels and manifest, which make the store whole, and closes it."""
        self._flush()
        labels = io.BytesIO()
        width = len(manifest.labels)
        np.save(labels, np.array(self._labels, np.int32).reshape(self.count, width), allow_pickle=False)

        def write() -> None:
            with self._env.begin(write=True, db=self._meta) as txn:
                txn.put(LABELS, labels.getvalue())
                txn.put(MANIFEST, json.dumps(manifest.to_json()).encode())

        self._grown(write)
        self._grown(lambda: self._env.sync(True))
        self._env.close()

    def close(self) -> None:
        """Gives up what is not written yet. Harmless after `finish`."""
        self._env.close()

    def _database(self, name: bytes) -> Any:
        return self._grown(lambda: self._env.open_db(name))

    def _flush(self) -> None:
        first = self.count - len(self._pending)

        def write() -> None:
            with self._env.begin(write=True) as txn:
                for resolution, database in self._databases.items():
                    for at, records in enumerate(self._pending):
                        txn.put(key(first + at), records[resolution], db=database, append=True)

        self._grown(write)
        self._pending.clear()
        self._pending_bytes = 0

    def _grown(self, work: Callable[[], T]) -> T:
        """Does a transaction, again with twice the map as long as it does not fit."""
        while True:
            try:
                return work()
            except lmdb.MapFullError:
                self._env.set_mapsize(self._env.info()["map_size"] * 2)
            except lmdb.DiskError as error:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
            except lmdb.Error as error:
                raise _as_os_error(error, self.path) from error


def bytes_on_disk(record: int) -> float:
    """What LMDB takes for a record of so many bytes: a share of a page, or, from half a page, whole pages."""
    node, room = record + 18, PAGESIZE - 16
    if node <= room // 2:
        return PAGESIZE / (room // node)
    return -(-(record + 16) // PAGESIZE) * PAGESIZE + 26


def _as_os_error(error: Any, path: Path) -> OSError:
    """LMDB names the system's failures only in its message ("mdb_txn_commit: Input/output error").

    A write that a full disk cuts short is an input/output error to it, too.
    """
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EFBIG):
        if os.strerror(number) in str(error):
            return OSError(number, os.strerror(number), str(path))
    number = errno.ENOSPC if shutil.disk_usage(path).free < 2 * FLUSH_BYTES else errno.EIO
    return OSError(number, os.strerror(number) if number == errno.ENOSPC else str(error), str(path))
