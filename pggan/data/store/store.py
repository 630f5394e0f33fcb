"""The multi-resolution image store: one LMDB environment, one named database per resolution, a manifest written last.

`DEST/data.mdb` holds these databases:
- "4x4" ... "RxR": 8-byte big-endian image number -> the image, encoded by the codec of its resolution;
- "digests": the same keys -> the image's checksum row (see `checksums`);
- "meta": "manifest" (JSON), "labels" (.npy, int32 (N, columns), -1 unknown), "progress" (see `resume`).
"""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from pggan.data.store.codecs import decode
from pggan.data.store.manifest import FORMAT, Manifest
from pggan.utils.errors import DataError

FILE = "data.mdb"
META, MANIFEST, LABELS = b"meta", b"manifest", b"labels"
DIGESTS = b"digests"


def database_name(resolution: int) -> bytes:
    """Returns the name of a resolution's database."""
    return f"{resolution}x{resolution}".encode()


def record_key(index: int) -> bytes:
    """Returns the key of an image in each database."""
    return struct.pack(">Q", index)


def is_store(path: str | Path) -> bool:
    """Whether a path is a directory with an LMDB file, of this program or another one."""
    return (Path(path) / FILE).is_file()


def check_file_length(env: Any, path: Path) -> None:
    """Raises `DataError` for a truncated file: LMDB maps it, and reading past its end would kill the process."""
    length = os.path.getsize(path / FILE)
    needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if length < needed:
        raise DataError(f"{path / FILE} is cut short ({length} of {needed} bytes); copy or make it again")


class Store:
    """A complete store, opened read-only. Safe to read from several threads; picklable, reopened on first use.

    Raises `DataError` if there is no store at `path`, or it is unfinished, damaged or of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.__setstate__({"path": Path(path), "manifest": None})
        self.manifest: Manifest = self._environment().manifest
        try:
            self._check_counts()
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.manifest = state["path"], state["manifest"]
        self._opened: _Environment | None = None
        self._release: Callable[[], object] = lambda: None
        self._labels: NDArray[np.int32] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.manifest.count

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def resolutions(self) -> tuple[int, ...]:
        return self.manifest.resolutions

    @property
    def max_resolution(self) -> int:
        return max(self.manifest.resolutions)

    @property
    def channels(self) -> int:
        return self.manifest.channels

    @property
    def labels(self) -> NDArray[np.int32]:
        """Class numbers, int32 (N, columns), -1 where unknown; the columns are `manifest.labels`."""
        if self._labels is None:
            (data,) = self._records(META, [LABELS])
            try:
                array = np.load(io.BytesIO(data or b""), allow_pickle=False).astype(np.int32)
                self._labels = array.reshape(len(self), len(self.manifest.labels))
            except (ValueError, EOFError, OSError):
                raise DataError(f"{self.path}: the labels are damaged; prepare the data again") from None
        return self._labels

    def read(self, resolution: int, indices: Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]:
        """Returns images, uint8 (N, C, R, R). Raises `DataError` for a missing resolution or a damaged record."""
        if resolution not in self.manifest.codecs:
            raise DataError(
                f"{self.path} has no {resolution}x{resolution} pictures, its largest are "
                f"{self.max_resolution}x{self.max_resolution}; prepare it with --max-res {resolution}"
            )
        codec, channels = self.manifest.codecs[resolution], self.channels
        out = np.empty((len(indices), channels, resolution, resolution), np.uint8)
        records = self._records(database_name(resolution), [record_key(int(index)) for index in indices])
        for at, record in enumerate(records):
            try:
                if record is None:
                    raise ValueError("no such record")
                out[at] = decode(record, codec, channels, resolution)
            except ValueError as error:
                raise DataError(
                    f"{self.path}: picture {int(indices[at])} at {resolution}x{resolution}: {error}; "
                    "run pggan verify-data --fix, or prepare the data again"
                ) from None
        return out

    def encoded(self, first: int = 0) -> Iterator[tuple[dict[int, bytes | None], bytes | None]]:
        """Yields each image's encoded records by resolution and its checksum row, from image number `first` on.

        Missing records and rows are None. Raises `DataError` if the file cannot be read.
        """
        opened = self._environment()
        databases = {r: opened.database(database_name(r)) for r in self.resolutions}
        digests = opened.database(DIGESTS) if self.manifest.digests else None
        try:
            with opened.env.begin() as txn:
                for index in range(first, len(self)):
                    key = record_key(index)
                    records = {r: txn.get(key, db=database) for r, database in databases.items()}
                    yield records, txn.get(key, db=digests) if digests is not None else None
        except lmdb.Error as error:
            raise DataError(f"{self.path} cannot be read ({error}); run pggan verify-data --fix") from None

    def close(self) -> None:
        """Closes the file; may be called twice. Reading reopens it."""
        with self._lock:
            self._release()
            self._opened = None

    def _records(self, database: bytes, keys: list[bytes]) -> list[bytes | None]:
        opened = self._environment()
        try:
            with opened.env.begin(db=opened.database(database)) as txn:
                return [txn.get(key) for key in keys]
        except lmdb.Error as error:
            raise DataError(f"{self.path} cannot be read ({error}); prepare the data again") from None

    def _environment(self) -> _Environment:
        """Returns this process's environment, opened on first use."""
        with self._lock:
            if self._opened is None or self._opened.pid != os.getpid():
                opened = open_shared(self.path)
                if self.manifest is not None and opened.manifest != self.manifest:
                    opened.release()
                    raise DataError(f"{self.path} has been replaced by another store; start again")
                self._opened, self._release = opened, weakref.finalize(self, opened.release)
            return self._opened

    def _check_counts(self) -> None:
        """Raises `DataError` unless every resolution holds one record per image."""
        try:
            for resolution in self.resolutions:
                count = self._environment().entries(database_name(resolution))
                if count != len(self):
                    raise ValueError(f"{count} of {len(self)} pictures at {resolution}x{resolution}")
        except (lmdb.Error, ValueError) as error:
            raise DataError(
                f"{self.path}: the store is damaged ({error}); run pggan verify-data --fix, or prepare the data again"
            ) from None


class _Environment:
    """An LMDB environment that all `Store`s of this process on one file share: LMDB forbids opening a file twice."""

    def __init__(self, path: Path, identity: tuple[int, ...]) -> None:
        self.path, self.identity, self.pid, self.users = path, identity, os.getpid(), 0
        self._lock = threading.Lock()
        self._databases: dict[bytes, Any] = {}
        try:
            self.env = lmdb.open(
                str(path), readonly=True, lock=False, readahead=False, meminit=False, max_dbs=64, create=False
            )
        except lmdb.Error as error:
            if not os.access(path / FILE, os.R_OK):
                raise PermissionError(13, "Permission denied", str(path / FILE)) from None
            raise DataError(f"{path} is not a readable data store ({error}); prepare the data again") from None
        try:
            check_file_length(self.env, path)
            self.manifest = self._read_manifest()
        except BaseException:
            self.env.close()
            raise

    def database(self, name: bytes) -> Any:
        with self._lock:
            if name not in self._databases:
                self._databases[name] = self.env.open_db(name, create=False)
            return self._databases[name]

    def release(self) -> None:
        with _OPEN_LOCK:
            self.users -= 1
            if self.users <= 0:
                _OPEN.pop(self.identity, None)
                self.env.close()

    def entries(self, name: bytes) -> int:
        """Returns the number of records of a database. Raises `lmdb.Error` if it is missing."""
        database = self.database(name)  # LMDB opens databases outside of other transactions
        with self.env.begin() as txn:
            return int(txn.stat(database)["entries"])

    def _read_manifest(self) -> Manifest:
        path = self.path
        try:
            with self.env.begin(db=self.database(META)) as txn:
                text = txn.get(MANIFEST)
            if text is None:
                raise DataError(f"{path} is a half-made store; run pggan prepare-data again")
            values = json.loads(text)
            if values["format"] > FORMAT:
                raise DataError(f"{path} has format {values['format']}, this pggan reads up to {FORMAT}; update pggan")
            return Manifest.from_json(values)
        except lmdb.NotFoundError:
            raise DataError(f"{path} is another program's LMDB or a half-made store, not one of pggan's") from None
        except (lmdb.Error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: the store is damaged ({error}); prepare the data again") from None


_OPEN: dict[tuple[int, ...], _Environment] = {}
_OPEN_LOCK = threading.Lock()


def open_shared(path: Path) -> _Environment:
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
            environment = _OPEN[identity] = _Environment(path, identity)
        environment.users += 1
        return environment
