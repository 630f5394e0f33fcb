"""The multi-resolution store: one LMDB environment, one named database a resolution, a manifest written last.

`DEST/data.mdb` holds databases "4x4" ... "RxR" (keys: 8-byte big-endian index; values: one picture by the codec of its
resolution) and "meta" ("manifest": JSON; "labels": a .npy of int32 (N, columns), -1 unknown).
"""

from __future__ import annotations

import io
import json
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from pggan.data.codecs import decode
from pggan.errors import DataError

FORMAT = 1
_FIRST_MAP = 16 << 20
_MANIFEST, _LABELS = b"manifest", b"labels"
_FLUSH_BYTES, _FLUSH_COUNT = 32 << 20, 512


@dataclass(frozen=True)
class LabelColumn:
    """A named label and the names of its classes, in order."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """What a store holds and how it was made. `codecs` and `bytes` are by resolution."""

    count: int
    channels: int
    resolutions: tuple[int, ...]
    codecs: Mapping[int, str]
    bytes: Mapping[int, int]
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[LabelColumn, ...] = ()
    attribution: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    pggan: str = ""
    created: str = ""
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "codecs": {str(k): v for k, v in self.codecs.items()},
            "bytes": {str(k): v for k, v in self.bytes.items()},
            "labels": [{"name": c.name, "classes": list(c.classes)} for c in self.labels],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Manifest:
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        columns = tuple(LabelColumn(str(c["name"]), tuple(map(str, c["classes"]))) for c in known["labels"])
        return cls(
            **{
                **known,
                "resolutions": tuple(int(r) for r in known["resolutions"]),
                "codecs": {int(k): str(v) for k, v in known["codecs"].items()},
                "bytes": {int(k): int(v) for k, v in known["bytes"].items()},
                "labels": columns,
            }
        )


def _name(resolution: int) -> bytes:
    return f"{resolution}x{resolution}".encode()


def _key(index: int) -> bytes:
    return struct.pack(">Q", index)


def is_store(path: str | Path) -> bool:
    """Whether a path looks like a store (made by this program or another one): a directory with an LMDB file."""
    return (Path(path) / "data.mdb").is_file()


class StoreWriter:
    """Writes a new store into an empty directory: pictures in order, then `finish`. The map grows as needed."""

    def __init__(self, path: Path, codecs: Mapping[int, str]) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.codecs = dict(codecs)
        self._env = lmdb.open(str(path), map_size=_FIRST_MAP, max_dbs=len(codecs) + 2, meminit=False)
        self._databases = {r: self._grown(lambda r=r: self._env.open_db(_name(r))) for r in self.codecs}
        self._meta = self._grown(lambda: self._env.open_db(b"meta"))
        self._pending: list[dict[int, bytes]] = []
        self._pending_bytes = 0
        self._labels: list[tuple[int, ...]] = []
        self.count = 0
        self.bytes = dict.fromkeys(self.codecs, 0)

    def add(self, records: Mapping[int, bytes], labels: tuple[int, ...] = ()) -> None:
        """One picture: its record at every resolution."""
        self._pending.append(dict(records))
        self._labels.append(labels)
        for resolution, record in records.items():
            self.bytes[resolution] += len(record)
            self._pending_bytes += len(record)
        self.count += 1
        if self._pending_bytes >= _FLUSH_BYTES or len(self._pending) >= _FLUSH_COUNT:
            self._flush()

    def finish(self, manifest: Manifest) -> None:
        """Writes labels and manifest, which make the store whole, and closes it."""
        self._flush()
        labels = io.BytesIO()
        width = len(manifest.labels)
        np.save(labels, np.asarray(self._labels, np.int32).reshape(self.count, width), allow_pickle=False)

        def write() -> None:
            with self._env.begin(write=True, db=self._meta) as txn:
                txn.put(_LABELS, labels.getvalue())
                txn.put(_MANIFEST, json.dumps(manifest.to_json()).encode())

        self._grown(write)
        self._env.sync(True)
        self._env.close()

    def close(self) -> None:
        self._env.close()

    def _flush(self) -> None:
        first = self.count - len(self._pending)

        def write() -> None:
            with self._env.begin(write=True) as txn:
                for resolution, database in self._databases.items():
                    for at, records in enumerate(self._pending):
                        txn.put(_key(first + at), records[resolution], db=database, append=True)

        self._grown(write)
        self._pending.clear()
        self._pending_bytes = 0

    def _grown(self, work: Any) -> Any:
        """Does a transaction, again with twice the map as long as it does not fit."""
        while True:
            try:
                return work()
            except lmdb.MapFullError:
                self._env.set_mapsize(self._env.info()["map_size"] * 2)


class Store:
    """A whole store, read-only. Opened lazily, so that it can be sent to other processes; safe to read from threads.

    Raises `DataError` where there is no store, or one that is half-made, damaged or of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._opened = _share(self.path)
        self.manifest = self._read_manifest()
        self._labels: NDArray[np.int32] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.manifest = state["path"], state["manifest"]
        self._opened, self._labels = _share(self.path), None

    def __len__(self) -> int:
        return self.manifest.count

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Class numbers (N, columns), -1 where unknown; the columns are `manifest.labels`."""
        if self._labels is None:
            with self._opened.env.begin(db=self._opened.database(b"meta")) as txn:
                data = txn.get(_LABELS)
            try:
                found = np.load(io.BytesIO(data or b""), allow_pickle=False).astype(np.int32)
            except (ValueError, EOFError, OSError):
                raise DataError(f"{self.path}: the labels are damaged; prepare the data again") from None
            self._labels = found.reshape(len(self), len(self.manifest.labels))
        return self._labels

    def read(self, resolution: int, indices: Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]:
        """Pictures (N, C, R, R). Raises `DataError` for a resolution that is not there, or a damaged record."""
        if resolution not in self.manifest.codecs:
            raise DataError(
                f"{self.path} has no {resolution}x{resolution} pictures, its largest are "
                f"{self.max_resolution}x{self.max_resolution}; prepare it with --max-res {resolution}"
            )
        codec, channels = self.manifest.codecs[resolution], self.channels
        out = np.empty((len(indices), channels, resolution, resolution), np.uint8)
        try:
            with self._opened.env.begin(db=self._opened.database(_name(resolution))) as txn:
                records = [txn.get(_key(int(index))) for index in indices]
        except lmdb.Error as error:
            raise DataError(f"{self.path} cannot be read ({error}); prepare the data again") from None
        for at, record in enumerate(records):
            try:
                if record is None:
                    raise ValueError("no such record")
                out[at] = decode(record, codec, channels, resolution)
            except ValueError as error:
                raise DataError(
                    f"{self.path}: picture {int(indices[at])} at {resolution}x{resolution}: {error}; "
                    "prepare the data again"
                ) from None
        return out

    def close(self) -> None:
        self._opened.release()

    def _read_manifest(self) -> Manifest:
        try:
            with self._opened.env.begin(db=self._opened.database(b"meta")) as txn:
                text = txn.get(_MANIFEST)
            if text is None:
                raise DataError(f"{self.path} is a half-made store; run pggan prepare-data again")
            values = json.loads(text)
            if values["format"] > FORMAT:
                raise DataError(
                    f"{self.path} has format {values['format']}, this pggan reads up to {FORMAT}; update pggan"
                )
            return Manifest.from_json(values)
        except lmdb.NotFoundError:
            raise DataError(f"{self.path} is another program's LMDB or a half-made store, not one of pggan's") from None
        except (lmdb.Error, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: the manifest is damaged ({error}); prepare the data again") from None


class _Environment:
    """An LMDB environment shared by all stores of this process on one path: LMDB forbids opening it twice."""

    def __init__(self, path: Path) -> None:
        self.path, self.pid, self.users = path, os.getpid(), 1
        self._lock = threading.Lock()
        self._databases: dict[bytes, Any] = {}
        file = path / "data.mdb"
        if not file.is_file():
            raise DataError(f"{path} is no data store; make one with: pggan prepare-data PICTURES {path}")
        try:
            self.env = lmdb.open(
                str(path), readonly=True, lock=False, readahead=False, meminit=False, max_dbs=64, max_readers=1024
            )
        except lmdb.Error as error:
            raise DataError(f"{path} is not a readable data store ({error}); prepare the data again") from None
        needed = (self.env.info()["last_pgno"] + 1) * self.env.stat()["psize"]
        if file.stat().st_size < needed:
            self.env.close()
            raise DataError(f"{file} is cut short ({file.stat().st_size} of {needed} bytes); copy or make it again")

    def database(self, name: bytes) -> Any:
        with self._lock:
            if name not in self._databases:
                self._databases[name] = self.env.open_db(name, create=False)
            return self._databases[name]

    def release(self) -> None:
        with _OPEN_LOCK:
            self.users -= 1
            if self.users == 0:
                _OPEN.pop((self.pid, os.path.realpath(self.path)), None)
                self.env.close()


_OPEN: dict[tuple[int, str], _Environment] = {}
_OPEN_LOCK = threading.Lock()


def _share(path: Path) -> _Environment:
    key = (os.getpid(), os.path.realpath(path))
    with _OPEN_LOCK:
        found = _OPEN.get(key)
        if found is None:
            found = _OPEN[key] = _Environment(path)
        else:
            found.users += 1
        return found
