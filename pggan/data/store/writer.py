"""Writes a store: images in order, transaction by transaction, into a memory map that grows; the manifest last."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from mmap import PAGESIZE
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import numpy as np

from pggan.data.store.checksums import RunningChecksums, checksum_row, part_names
from pggan.data.store.lmdb_environment import DIGESTS, FILE, LABELS, MANIFEST, META, database_name, record_key
from pggan.data.store.lmdb_pages import LmdbPages, no_memory_maps
from pggan.data.store.manifest import Manifest
from pggan.data.store.resume import PROGRESS, StoreProgress, explain_unfinished
from pggan.utils.atomic_files import sync_directory
from pggan.utils.errors import DataError
from pggan.utils.formatting import size
from pggan.utils.limits import MAX_MANIFEST_BYTES

T = TypeVar("T")

FIRST_MAP = 16 << 20
# Limits of a transaction: bytes of records, images of the source, seconds since the last one.
FLUSH_BYTES, FLUSH_COUNT, FLUSH_SECONDS = 32 << 20, 2048, 10.0
# Checksum rows that `finish` reads at once.
_ROWS_AT_ONCE = 10_000


class DiskFull(DataError, OSError):  # noqa: N818 (what happened)
    """The disk filled up: an `OSError` with its `errno` whose message says how much space is needed."""

    def __str__(self) -> str:
        return str(self.strerror)


class StoreWriter:
    """Writes a store into a directory: `add` or `skip` every image of the source in order, then `finish`.

    Each transaction also stores the progress. A crash or power cut loses at most the transaction in progress; a
    writer with the stored `progress` (see `load_resume_point`) continues after the last one. The memory map doubles
    when it is full.

    Args:
        path: Directory of the store.
        codecs: Codec of each resolution.
        progress: Of the unfinished store in `path`; None for a new one.
        notes: Returns JSON values to store with the progress.
        first_map: Initial size of the memory map, in bytes.

    Raises:
        OSError: The disk is full (ENOSPC) or fails (EIO).
    """

    def __init__(
        self,
        path: Path,
        codecs: Mapping[int, str],
        progress: StoreProgress | None = None,
        notes: Callable[[], dict[str, Any]] | None = None,
        first_map: int = FIRST_MAP,
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.codecs = path, dict(codecs)
        self.progress = progress or StoreProgress()
        self.progress.sizes = self.progress.sizes or dict.fromkeys(self.codecs, 0)
        self.committed = self.progress.consumed
        self._notes = notes or dict
        self._pending: list[dict[int, bytes]] = []
        self._rows: list[bytes] = []
        self._pending_bytes, self._flushed = 0, time.monotonic()
        self._labels = array("i")  # flat: millions of tuples would take gigabytes
        # LMDB's own syncs stay on: each commit writes the data pages before the meta page that refers to them. With
        # sync=False and a sync afterwards, a power cut could leave the meta page without its data.
        # lock=False: no other process opens this directory, and no lock.mdb is left in the store.
        # LMDB zeroes its memory (meminit): unused parts of pages would hold what lay there, such as photographs' EXIF.
        if self.progress.consumed:
            with explain_unfinished(path), closing(LmdbPages(path / FILE)) as pages:
                pages.check()
        self._env = self._retry_with_larger_map(
            lambda: lmdb.open(str(path), map_size=first_map, max_dbs=len(codecs) + 3, lock=False)
        )
        try:
            self._open()
        except BaseException:
            self._env.close()
            raise

    def _open(self) -> None:
        """Opens the databases; reads the labels of an unfinished store."""
        databases = self._retry_with_larger_map(self._open_databases)
        for directory in (self.path, self.path.parent):
            with suppress(OSError):  # some network file systems cannot sync directories
                sync_directory(directory)
        self._databases = {r: databases[database_name(r)] for r in self.codecs}
        self._meta, self._digests = databases[META], databases[DIGESTS]
        self._label_pieces = databases[PROGRESS]  # one piece per transaction, until `finish`
        if self.progress.consumed:
            with explain_unfinished(self.path):
                self._read_unfinished()
        self._labels_committed = len(self._labels)

    def _read_unfinished(self) -> None:
        """Reads the labels of an unfinished store. Raises `ValueError` unless it holds as much as its progress says."""
        with self._env.begin() as txn:
            for database in (*self._databases.values(), self._digests):
                if txn.stat(database)["entries"] != self.count:
                    raise ValueError(f"{txn.stat(database)['entries']} of {self.count} records")
            for _, piece in txn.cursor(self._label_pieces):
                self._labels.frombytes(piece)
        if len(self._labels) % max(1, self.count):
            raise ValueError(f"{len(self._labels)} class numbers of {self.count} pictures")

    @property
    def count(self) -> int:
        """Number of images written."""
        return self.progress.count

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes of their records, by resolution."""
        return self.progress.sizes

    def add(self, records: Mapping[int, bytes], labels: tuple[int, ...] = ()) -> None:
        """Adds an image: its record at every resolution, and a class number for each label column."""
        self._pending.append(dict(records))
        self._rows.append(checksum_row(records, labels))
        self._labels.extend(labels)
        for resolution, record in records.items():
            self.progress.sizes[resolution] += len(record)
            self._pending_bytes += len(record)
        self.progress.count += 1
        self.skip()

    def skip(self) -> None:
        """Counts an image of the source that is left out."""
        self.progress.consumed += 1
        if (
            self._pending_bytes >= FLUSH_BYTES
            or self.progress.consumed - self.committed >= FLUSH_COUNT
            or time.monotonic() - self._flushed >= FLUSH_SECONDS
        ):
            self._flush()

    def finish(self, manifest: Manifest) -> Manifest:
        """Writes labels and manifest, which complete the store, and closes it. Returns the manifest with digests."""
        self._flush()
        width = len(manifest.labels)
        with explain_unfinished(self.path):
            rows = np.asarray(self._labels, np.int32).reshape(self.count, width)
        manifest = replace(manifest, digests=self._total_digests(bool(width)))
        text = json.dumps(manifest.to_json()).encode()
        if len(text) > MAX_MANIFEST_BYTES:
            raise DataError(
                f"which pictures are alike takes {size(len(text))}, more than the {size(MAX_MANIFEST_BYTES)} that a "
                "data store holds; give --duplicates drop"
            )
        labels = io.BytesIO()
        np.save(labels, rows, allow_pickle=False)

        def write() -> None:
            with self._env.begin(write=True, db=self._meta) as txn:
                txn.put(LABELS, labels.getbuffer())
                txn.put(MANIFEST, text)
                txn.drop(self._label_pieces)

        self._retry_with_larger_map(write)
        self._retry_with_larger_map(lambda: self._env.sync(True))
        self._env.close()
        return manifest

    def close(self) -> None:
        """Closes the store without writing pending images. May be called after `finish`."""
        self._env.close()

    def _open_databases(self) -> dict[bytes, Any]:
        with self._env.begin(write=True) as txn:
            names = [*map(database_name, self.codecs), META, DIGESTS, PROGRESS]
            return {name: self._env.open_db(name, txn=txn) for name in names}

    def _total_digests(self, labelled: bool) -> dict[str, str]:
        totals = RunningChecksums(part_names(self.codecs, labelled))
        with self._env.begin(db=self._digests) as txn:
            rows = (row for _, row in txn.cursor())
            while batch := b"".join(islice(rows, _ROWS_AT_ONCE)):
                totals.feed(batch)
        return totals.values()

    def _flush(self) -> None:
        if self.progress.consumed == self.committed:
            return
        first = self.count - len(self._pending)
        self.progress.notes = self._notes()
        labels = self._labels[self._labels_committed :].tobytes()

        def write() -> None:
            with self._env.begin(write=True) as txn:
                for resolution, database in self._databases.items():
                    for index, records in enumerate(self._pending, first):
                        txn.put(record_key(index), records[resolution], db=database, append=True)
                for index, row in enumerate(self._rows, first):
                    txn.put(record_key(index), row, db=self._digests, append=True)
                if labels:
                    txn.put(record_key(first), labels, db=self._label_pieces, append=True)
                txn.put(PROGRESS, self.progress.dump(), db=self._meta)

        self._retry_with_larger_map(write)
        self.committed, self._labels_committed = self.progress.consumed, len(self._labels)
        self._pending.clear()
        self._rows.clear()
        self._pending_bytes, self._flushed = 0, time.monotonic()

    def _retry_with_larger_map(self, transaction: Callable[[], T]) -> T:
        """Runs a transaction; doubles the memory map and repeats it as long as it does not fit."""
        while True:
            try:
                return transaction()
            except lmdb.MapFullError:
                self._env.set_mapsize(self._env.info()["map_size"] * 2)
            except lmdb.DiskError as error:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
            except lmdb.Error as error:
                raise _as_os_error(error, self.path) from error


@contextmanager
def explain_full_disk(writer: StoreWriter, total: int, estimate: float | None = None) -> Iterator[None]:
    """Turns a full disk in the block into `DiskFull`, which says how much is done and how much space is missing.

    Args:
        writer: The store being written.
        total: Images of the source.
        estimate: Bytes that all of them will take, used until some are written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        done = writer.committed
        final_bytes = (writer.path / FILE).stat().st_size / done * total if done else estimate
        need = f"about {size(final_bytes * (1 - done / total))} more are needed" if final_bytes else "more is needed"
        if done == total:  # only the labels and the manifest are missing
            need = "a few bytes a picture more are needed"
        full = "its disk or ulimit -f allows no larger file" if error.errno == errno.EFBIG else "the disk is full"
        message = (
            f"{full}: {writer.path}; {need}, with {done} of {total} pictures done; free as much, then run "
            "the same command again, and it goes on from there"
        )
        raise DiskFull(error.errno, message, str(writer.path)) from error


def bytes_on_disk(record_bytes: int) -> float:
    """Returns the space LMDB needs for a record: a share of a page, or whole pages if it is larger than half a page."""
    node, available = record_bytes + 18, PAGESIZE - 16
    if node <= available // 2:
        return PAGESIZE / (available // node)
    return -(-(record_bytes + 16) // PAGESIZE) * PAGESIZE + 26


def _as_os_error(error: Any, path: Path) -> OSError | DataError:
    """Converts an LMDB error to an `OSError`, or to a `DataError` where the file system has no memory maps.

    LMDB gives the system's reason only in its message ("mdb_txn_commit: Input/output error"), and reports a write that
    a full disk cut short as an input/output error, too.
    """
    if os.strerror(errno.ENODEV) in str(error):
        return no_memory_maps(path)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EFBIG):
        if os.strerror(number) in str(error):
            return OSError(number, os.strerror(number), str(path))
    number = errno.ENOSPC if shutil.disk_usage(path).free < 2 * FLUSH_BYTES else errno.EIO
    return OSError(number, os.strerror(number) if number == errno.ENOSPC else str(error), str(path))
