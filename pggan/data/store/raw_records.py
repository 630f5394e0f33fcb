"""A store's records one by one, whatever is wrong with them: what verifying and mending read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from pggan.data.store.checksums import LABELS_PART, SIZE, part_names
from pggan.data.store.manifest import Manifest
from pggan.data.store.store import DIGESTS, LABELS, META, database_name, key, share


class Records:
    """Reads what is there; picklable. Nothing raises for a damaged record, it is None."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._opened: Any = None
        self._pid = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None, "_pid": 0}

    def close(self) -> None:
        if self._opened is not None:
            self._opened.release()
            self._opened = None

    @property
    def manifest(self) -> Manifest:
        return self._environment().manifest

    @property
    def parts(self) -> list[str]:
        """Names of what a picture has: its levels from 4x4 up, and its labels if there are any."""
        return part_names(self.manifest.resolutions, bool(self.manifest.labels))

    def entries(self, name: bytes) -> int:
        """How many a database holds; none where it is missing."""
        try:
            return int(self._environment().entries(name))
        except lmdb.Error:
            return 0

    def level(self, index: int, resolution: int) -> bytes | None:
        return self._get(database_name(resolution), key(index))

    def digests(self, index: int) -> dict[str, bytes]:
        """By part, as the store has them; empty where they are missing or cut, or of a version without them."""
        if not self.manifest.digests:
            return {}
        names = self.parts
        found = self._get(DIGESTS, key(index)) or b""
        if len(found) != SIZE * len(names):
            return {}
        return {name: found[at * SIZE : (at + 1) * SIZE] for at, name in enumerate(names)}

    def label_row(self, index: int) -> bytes | None:
        """A picture's class numbers as little-endian int32, found from the end: whatever the header says."""
        width = 4 * len(self.manifest.labels)
        opened = self._environment()
        try:
            # a look at the map: the array may be large
            with opened.env.begin(db=opened.database(META), buffers=True) as txn:
                data = txn.get(LABELS, b"")
                start = len(data) - width * (self.manifest.count - index)
                return bytes(data[start : start + width]) if start >= 0 else None
        except lmdb.Error:
            return None

    def part(self, index: int, name: str) -> bytes | None:
        """A level or the labels."""
        return self.label_row(index) if name == LABELS_PART else self.level(index, int(name.partition("x")[0]))

    def wrong_labels(self) -> str | None:
        """What is wrong with the array of labels as a whole."""
        manifest = self.manifest
        wanted = (manifest.count, len(manifest.labels))
        try:
            found = np.load(io.BytesIO(self._get(META, LABELS) or b""), allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return "cannot be read"
        return None if found.shape == wanted and found.dtype == np.int32 else f"{found.dtype} of shape {found.shape}"

    def _get(self, database: bytes, name: bytes) -> bytes | None:
        opened = self._environment()
        try:
            handle = opened.database(database)
            with opened.env.begin(db=handle) as txn:
                found: bytes | None = txn.get(name)
                return found
        except lmdb.Error:
            return None

    def _environment(self) -> Any:
        if self._opened is None or self._pid != os.getpid():
            self._opened, self._pid = share(self.path), os.getpid()
        return self._opened
