"""Writing a store: pictures in order, the manifest last, in a map that grows by itself."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from mmap import PAGESIZE
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import numpy as np

from pggan.data.store.checksums import RunningChecksums, part_names, row
from pggan.data.store.manifest import Manifest
from pggan.data.store.resume import PROGRESS, Progress
from pggan.data.store.staging import sync_entries
from pggan.data.store.store import DIGESTS, FILE, LABELS, MANIFEST, META, database_name, key
from pggan.utils.errors import DataError
from pggan.utils.formatting import size

T = TypeVar("T")

FIRST_MAP = 16 << 20
# A transaction holds at most so many bytes or pictures of the source, and what came in so many seconds.
FLUSH_BYTES, FLUSH_COUNT, FLUSH_SECONDS = 32 << 20, 2048, 10.0
# Digests read at once when they are summed up.
_DIGESTS_AT_ONCE = 10_000


class DiskFull(DataError, OSError):  # noqa: N818 (what happened)
    """The disk filled up: `errno`, and what is needed, in words."""

    def __str__(self) -> str:
        return str(self.strerror)


class StoreWriter:
    """Writes a new store into a directory: `add` or `skip` every picture of the source, then `finish`.

    The map doubles when it is full. A transaction at a time goes to the disk, with a record of how far the store is;
    whatever ends the process, or the power, the last one that was committed stands, and a writer that gets this
    `progress` (see `load_resume_point`) goes on from there. `notes()`: what is kept with the record.

    Raises `OSError` (ENOSPC or EIO) where the disk is full or fails.
    """

    def __init__(
        self,
        path: Path,
        codecs: Mapping[int, str],
        progress: Progress | None = None,
        notes: Callable[[], dict[str, Any]] | None = None,
        first_map: int = FIRST_MAP,
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.codecs = path, dict(codecs)
        self.progress = progress or Progress()
        self.progress.sizes = self.progress.sizes or dict.fromkeys(self.codecs, 0)
        self.committed = self.progress.consumed
        self._notes = notes or dict
        self._pending: list[dict[int, bytes]] = []
        self._rows: list[bytes] = []
        self._pending_bytes, self._flushed = 0, time.monotonic()
        self._labels = array("i")  # flat: millions of tuples would be gigabytes
        # LMDB's own syncs stay on: pages reach the disk before the page that makes them count, at each commit. With
        # sync=False and a sync afterwards, a power cut in between could leave that page without the others.
        # lock=False: nobody else knows this directory, and no lock.mdb is left in the store.
        self._env = self._grown(
            lambda: lmdb.open(str(path), map_size=first_map, max_dbs=len(codecs) + 3, meminit=False, lock=False)
        )
        try:
            self._begin()
        except BaseException:
            self._env.close()
            raise

    def _begin(self) -> None:
        """Opens the databases, and reads what is needed of what they hold."""
        opened = self._grown(self._open_databases)
        for directory in (self.path, self.path.parent):
            sync_entries(directory)
        self._databases = {r: opened[database_name(r)] for r in self.codecs}
        self._meta, self._digests = opened[META], opened[DIGESTS]
        self._parts = opened[PROGRESS]  # the labels, a piece a transaction
        if self.progress.count:
            self._read_labels()
        self._labels_kept = len(self._labels)

    @property
    def count(self) -> int:
        """Pictures written."""
        return self.progress.count

    @property
    def sizes(self) -> dict[int, int]:
        """Of their records, by resolution."""
        return self.progress.sizes

    def add(self, records: Mapping[int, bytes], labels: tuple[int, ...] = ()) -> None:
        """One picture: its record at every resolution, and a class number for each label column."""
        self._pending.append(dict(records))
        self._rows.append(row(records, labels))
        self._labels.extend(labels)
        for resolution, record in records.items():
            self.progress.sizes[resolution] += len(record)
            self._pending_bytes += len(record)
        self.progress.count += 1
        self.skip()

    def skip(self) -> None:
        """A picture of the source that is left out."""
        self.progress.consumed += 1
        if (
            self._pending_bytes >= FLUSH_BYTES
            or self.progress.consumed - self.committed >= FLUSH_COUNT
            or time.monotonic() - self._flushed >= FLUSH_SECONDS
        ):
            self._flush()

    def finish(self, manifest: Manifest) -> Manifest:
        """Writes labels and manifest, which make the store whole, and closes it. The manifest gets its digests."""
        self._flush()
        width = len(manifest.labels)
        manifest = replace(manifest, digests=self._totals(bool(width)))
        labels = io.BytesIO()
        np.save(labels, np.asarray(self._labels, np.int32).reshape(self.count, width), allow_pickle=False)

        def write() -> None:
            with self._env.begin(write=True, db=self._meta) as txn:
                txn.put(LABELS, labels.getbuffer())
                txn.put(MANIFEST, json.dumps(manifest.to_json()).encode())
                txn.drop(self._parts)

        self._grown(write)
        self._grown(lambda: self._env.sync(True))
        self._env.close()
        return manifest

    def close(self) -> None:
        """Gives up what is not written yet. Harmless after `finish`."""
        self._env.close()

    def _open_databases(self) -> dict[bytes, Any]:
        with self._env.begin(write=True) as txn:
            names = [*map(database_name, self.codecs), META, DIGESTS, PROGRESS]
            return {name: self._env.open_db(name, txn=txn) for name in names}

    def _read_labels(self) -> None:
        with self._env.begin(db=self._parts) as txn:
            for _, piece in txn.cursor():
                self._labels.frombytes(piece)

    def _totals(self, labelled: bool) -> dict[str, str]:
        totals = RunningChecksums(part_names(self.codecs, labelled))
        with self._env.begin(db=self._digests) as txn:
            rows: list[bytes] = []
            for _, each in txn.cursor():
                rows.append(each)
                if len(rows) == _DIGESTS_AT_ONCE:
                    totals.feed(b"".join(rows))
                    rows.clear()
            totals.feed(b"".join(rows))
        return totals.values()

    def _flush(self) -> None:
        if self.progress.consumed == self.committed:
            return
        first = self.count - len(self._pending)
        self.progress.notes = self._notes()
        labels = self._labels[self._labels_kept :].tobytes()

        def write() -> None:
            with self._env.begin(write=True) as txn:
                for resolution, database in self._databases.items():
                    for at, records in enumerate(self._pending):
                        txn.put(key(first + at), records[resolution], db=database, append=True)
                for at, each in enumerate(self._rows):
                    txn.put(key(first + at), each, db=self._digests, append=True)
                if labels:
                    txn.put(key(first), labels, db=self._parts, append=True)
                txn.put(PROGRESS, self.progress.dump(), db=self._meta)

        self._grown(write)
        self.committed, self._labels_kept = self.progress.consumed, len(self._labels)
        self._pending.clear()
        self._rows.clear()
        self._pending_bytes, self._flushed = 0, time.monotonic()

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


@contextmanager
def full_disk_told(writer: StoreWriter, total: int, estimate: float | None = None) -> Iterator[None]:
    """A disk that fills up in the block: `DiskFull`, saying what is kept and how much more `total` pictures take.

    `estimate`: bytes of all of them, used until some are written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        done = writer.committed
        whole = (writer.path / FILE).stat().st_size / done * total if done else estimate
        need = f"about {size(whole * (1 - done / total))} more are needed" if whole else "more is needed"
        if done == total:  # the labels and the manifest
            need = "a few bytes a picture more are needed"
        message = (
            f"the disk is full: {writer.path}; {need}, with {done} of {total} pictures done; free as much, then run "
            "the same command again, and it goes on from there"
        )
        raise DiskFull(error.errno, message, str(writer.path)) from error


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
