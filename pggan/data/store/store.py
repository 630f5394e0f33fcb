"""The multi-resolution image store: one LMDB environment, one named database per resolution, a manifest written last.

`DEST/data.mdb` holds these databases:
- "4x4" ... "RxR": 8-byte big-endian image number -> the image, encoded by the codec of its resolution;
- "digests": the same keys -> the image's checksum row (see `checksums`);
- "meta": "manifest" (JSON), "labels" (.npy, int32 (N, columns), -1 unknown), "progress" (see `resume`).
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import are_entries, read_entries
from pggan.data.store.checksums import LABELS_PART, SIZE, TOTAL_SIZE, digest, level_part, part_names
from pggan.data.store.codecs import decode, max_record_bytes
from pggan.data.store.lmdb_environment import (
    DIGESTS,
    FILE,
    LABELS,
    META,
    Environment,
    database_name,
    open_shared,
    record_key,
)  # fmt: skip
from pggan.data.store.manifest import Manifest
from pggan.utils.errors import DataError
from pggan.utils.untrusted import reading

# Largest header of a .npy file that numpy reads, in bytes.
_NPY_HEADER = 12 + 10_000
_REPAIR = "run pggan verify-data --fix, or prepare the data again"


def is_store(path: str | Path) -> bool:
    """Whether a path is a directory with an LMDB file, of this program or another one."""
    return (Path(path) / FILE).is_file()


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
        self._opened: Environment | None = None
        self._release: Callable[[], object] = lambda: None
        self._labels: NDArray[np.int32] | None = None
        self._compared: dict[int, bytearray] = {}  # by resolution: whether a record was compared with its digest
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
        """Label entries, int32 (N, columns), -1 where unknown; the columns are `manifest.labels`."""
        if self._labels is None:
            with reading(f"{self.path}: the label record", DataError, _REPAIR):
                self._labels = self._read_labels()
        return self._labels

    def _read_label_array(self) -> NDArray[np.int32]:
        shape = len(self), len(self.manifest.labels)
        (data,) = self._environment().records(META, [LABELS], _NPY_HEADER + 4 * shape[0] * shape[1])
        return read_entries(data or b"", *shape)

    def _read_labels(self) -> NDArray[np.int32]:
        columns, labels = self.manifest.labels, self._read_label_array()
        if not are_entries(labels, columns):
            raise ValueError("entries beyond their columns")
        if columns and self.manifest.digests.get(LABELS_PART) not in (None, labels_digest(labels)):
            raise ValueError("digest differs")
        return labels.copy()  # of our own, which may be changed

    def read(self, resolution: int, indices: Sequence[int] | NDArray[Any]) -> NDArray[np.uint8]:
        """Returns images, uint8 (N, C, R, R). Raises `DataError` for a missing resolution or a damaged record."""
        if resolution not in self.manifest.codecs:
            raise DataError(
                f"{self.path} has no {resolution}x{resolution} pictures, its largest are "
                f"{self.max_resolution}x{self.max_resolution}; prepare it with --max-res {resolution}"
            )
        codec, channels = self.manifest.codecs[resolution], self.channels
        out = np.empty((len(indices), channels, resolution, resolution), np.uint8)
        numbers = [int(index) for index in indices]
        keys = [record_key(number) for number in numbers]
        records = self._records(database_name(resolution), keys, max_record_bytes(channels, resolution))
        digests = self._digests_to_compare(resolution, numbers)
        for at, record in enumerate(records):
            number = numbers[at]
            try:
                if record is None or number >= len(self):
                    raise ValueError("no such record")
                if number in digests:
                    if digest(record) != digests[number]:
                        raise ValueError("digest differs")
                    self._compared[resolution][number] = 1
                out[at] = decode(record, codec, channels, resolution)
            except ValueError as error:
                raise DataError(
                    f"{self.path}: picture {number} at {resolution}x{resolution}: {error}; {_REPAIR}"
                ) from None
        return out

    def _digests_to_compare(self, resolution: int, numbers: list[int]) -> dict[int, bytes]:
        """Returns the stored digests of the records that were not compared yet; stores of old versions have none."""
        if not self.manifest.digests:
            return {}
        compared = self._compared.setdefault(resolution, bytearray(len(self)))
        new = [number for number in numbers if number < len(self) and not compared[number]]
        if not new:
            return {}
        names = part_names(self.resolutions, bool(self.manifest.labels))
        at = SIZE * names.index(level_part(resolution))
        rows = self._records(DIGESTS, [record_key(number) for number in new], SIZE * len(names))
        return {number: (row or b"")[at : at + SIZE] for number, row in zip(new, rows)}

    def encoded(self, first: int = 0) -> Iterator[tuple[dict[int, bytes | None], bytes | None]]:
        """Yields each image's encoded records by resolution and its checksum row, from image number `first` on.

        Missing records are None; missing rows are empty, and None if the store, of an old version, has none.
        Raises `DataError` if the file cannot be read.
        """
        most = {r: max_record_bytes(self.channels, r) for r in self.resolutions}
        for index in range(first, len(self)):
            key = [record_key(index)]
            records = {r: self._records(database_name(r), key, most[r])[0] for r in self.resolutions}
            row = self._records(DIGESTS, key, SIZE * (len(most) + 1))[0] or b"" if self.manifest.digests else None
            yield records, row

    def close(self) -> None:
        """Closes the file; may be called twice. Reading reopens it."""
        with self._lock:
            self._release()
            self._opened = None

    def _records(self, database: bytes, keys: list[bytes], most: int) -> list[bytes | None]:
        opened = self._environment()
        try:
            return opened.records(database, keys, most)
        except lmdb.Error as error:
            raise DataError(f"{self.path} cannot be read ({error}); {_REPAIR}") from None

    def _environment(self) -> Environment:
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
            raise DataError(f"{self.path}: the store is damaged ({error}); {_REPAIR}") from None


def labels_digest(labels: NDArray[np.int32]) -> str:
    """Returns the digest of all class numbers (N, columns), as `checksums` defines it."""
    rows = labels.astype("<i4", copy=False)
    known: dict[bytes, bytes] = {}  # rows repeat: a million of them take a third of a second
    total = blake2b(digest_size=TOTAL_SIZE)
    for row in rows:
        data = row.tobytes()
        if data not in known:
            known[data] = digest(data)
        total.update(known[data])
    return total.hexdigest()
