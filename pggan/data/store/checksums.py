"""Digests that name a damaged record: eight bytes of BLAKE2b each, and one of all of a level's for the manifest.

A store's database "digests" holds, by picture, those of its records from 4x4 up and, where there are labels, that of
its class numbers as little-endian int32. What is in the manifest is taken over these, picture after picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import numpy as np

SIZE, TOTAL_SIZE = 8, 16
LABELS_PART = "labels"


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=SIZE).digest()


def label_bytes(labels: Sequence[int]) -> bytes:
    """A picture's class numbers as they lie in the store."""
    return struct.pack(f"<{len(labels)}i", *labels)


def level_part(resolution: int) -> str:
    return f"{resolution}x{resolution}"


def part_names(resolutions: Iterable[int], labelled: bool) -> list[str]:
    """What the digests of a picture are of, in their order."""
    return [*map(level_part, sorted(resolutions)), *([LABELS_PART] if labelled else [])]


def row(records: Mapping[int, bytes], labels: Sequence[int]) -> bytes:
    """A picture's digests side by side."""
    parts = [digest(records[resolution]) for resolution in sorted(records)]
    return b"".join([*parts, digest(label_bytes(labels))] if labels else parts)


class RunningChecksums:
    """The manifest's digests, of rows fed in order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._running = [blake2b(digest_size=TOTAL_SIZE) for _ in self.names]

    def feed(self, rows: bytes) -> None:
        """Rows side by side. Raises `ValueError` where they are not whole."""
        table = np.frombuffer(rows, np.uint8).reshape(-1, len(self.names), SIZE)
        for at, running in enumerate(self._running):
            running.update(table[:, at].tobytes())

    def values(self) -> dict[str, str]:
        return {name: running.hexdigest() for name, running in zip(self.names, self._running)}
