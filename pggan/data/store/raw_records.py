"""Fault-tolerant reading of a store's single records, as verify and repair need it."""

from __future__ import annotations

import lmdb

from pggan.data.store.checksums import LABELS_PART, SIZE, part_names
from pggan.data.store.codecs import max_record_bytes
from pggan.data.store.lmdb_environment import DIGESTS, LABELS, META, database_name, record_key
from pggan.data.store.store import Store
from pggan.utils.formatting import one_line


class RawRecords(Store):
    """Reads records without decoding them. A missing or unreadable record is None, not an exception."""

    def _check_counts(self) -> None:
        """Accepts any number of records."""

    @property
    def parts(self) -> list[str]:
        """Names of an image's parts: its levels from 4x4 up, and "labels" if there are any."""
        return part_names(self.manifest.resolutions, bool(self.manifest.labels))

    def entries(self, name: bytes) -> int:
        """Returns the number of records of a database, 0 if it is missing."""
        try:
            return self._environment().entries(name)
        except lmdb.Error:
            return 0

    def level(self, index: int, resolution: int) -> bytes | None:
        """Returns an image's encoded record at a resolution."""
        most = max_record_bytes(self.manifest.channels, resolution)
        return self._get(database_name(resolution), record_key(index), most)

    def digests(self, index: int) -> dict[str, bytes]:
        """Returns an image's stored digests by part; empty if they are missing, cut off, or the store has none."""
        if not self.manifest.digests:
            return {}
        names = self.parts
        row = self._get(DIGESTS, record_key(index), SIZE * len(names)) or b""
        if len(row) != SIZE * len(names):
            return {}
        return {name: row[at * SIZE : (at + 1) * SIZE] for at, name in enumerate(names)}

    def label_row(self, index: int) -> bytes | None:
        """Returns an image's class numbers as little-endian int32.

        Located from the end of the array, so that a damaged .npy header does not matter.
        """
        width = 4 * len(self.manifest.labels)
        try:
            # a view of the memory map instead of a copy of the whole array
            with self._environment().view(META, LABELS) as data:
                start = len(data) - width * (self.manifest.count - index)
                return bytes(data[start : start + width]) if start >= 0 else None
        except lmdb.Error:
            return None

    def part(self, index: int, name: str) -> bytes | None:
        """Returns an image's record of a part: a level such as "64x64", or "labels"."""
        return self.label_row(index) if name == LABELS_PART else self.level(index, int(name.partition("x")[0]))

    def check_label_array(self) -> str | None:
        """Returns what is wrong with the label array as a whole, None if nothing."""
        try:
            self._read_label_array()
        except Exception as error:  # noqa: BLE001 (a damaged header raises a dozen kinds)
            return one_line(error)
        return None

    def _get(self, database: bytes, key: bytes, most: int) -> bytes | None:
        try:
            return self._environment().records(database, [key], most)[0]
        except lmdb.Error:
            return None
