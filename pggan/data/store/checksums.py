"""Checksums that name a damaged record: 8-byte BLAKE2b digests per record, and one 16-byte digest per level.

The database "digests" of a store holds one row per image: the digests of its records from 4x4 up and, if there are
labels, of its class numbers (little-endian int32). The manifest holds, per level, the digest of all these digests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import numpy as np

SIZE, TOTAL_SIZE = 8, 16  # bytes
LABELS_PART = "labels"


def digest(data: bytes) -> bytes:
    """Returns the 8-byte digest of a record."""
    return blake2b(data, digest_size=SIZE).digest()


def label_bytes(labels: Sequence[int]) -> bytes:
    """Returns an image's class numbers as the store holds them, little-endian int32."""
    return struct.pack(f"<{len(labels)}i", *labels)


def level_part(resolution: int) -> str:
    """Names the part of an image that one resolution is."""
    return f"{resolution}x{resolution}"


def part_names(resolutions: Iterable[int], labelled: bool) -> list[str]:
    """Names the parts of an image in the order of its checksum row: levels ascending, then the labels."""
    return [*map(level_part, sorted(resolutions)), *([LABELS_PART] if labelled else [])]


def checksum_row(records: Mapping[int, bytes], labels: Sequence[int]) -> bytes:
    """Returns the concatenated digests of an image's records (by resolution) and labels."""
    digests = [digest(records[resolution]) for resolution in sorted(records)]
    return b"".join([*digests, digest(label_bytes(labels))] if labels else digests)


class RunningChecksums:
    """Accumulates the manifest's digests from checksum rows fed in the order of the images."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._running = [blake2b(digest_size=TOTAL_SIZE) for _ in self.names]

    def feed(self, rows: bytes) -> None:
        """Adds concatenated rows. Raises `ValueError` for an incomplete row."""
        table = np.frombuffer(rows, np.uint8).reshape(-1, len(self.names), SIZE)
        for part, running in enumerate(self._running):
            running.update(table[:, part].tobytes())

    def values(self) -> dict[str, str]:
        """Returns the hexadecimal digest of each part."""
        return {name: running.hexdigest() for name, running in zip(self.names, self._running)}
