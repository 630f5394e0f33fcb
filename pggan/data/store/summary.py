"""Summary of a store that prepare-data or merge-data made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pggan.data.store.lmdb_environment import FILE
from pggan.data.store.manifest import Manifest

Summary = TypeVar("Summary", bound="StoreSummary")


@dataclass
class StoreSummary:
    """What a new store holds. The field names are the keys of `--json`."""

    path: str  # as given
    count: int  # images
    channels: int  # 1, 3 or 4
    resolutions: list[int]
    codecs: dict[int, str]  # by resolution
    bytes: dict[int, int]  # sum of the records, by resolution
    bytes_on_disk: int
    left_out: dict[str, int]  # images, by reason
    labels: list[str]  # names of the columns
    attribution: str | None
    resumed: int  # images that earlier, interrupted runs processed
    seconds: float  # of this run

    @classmethod
    def of(
        cls: type[Summary], path: str, store: Path, manifest: Manifest, resumed: int, seconds: float, **details: Any
    ) -> Summary:
        """Summarises a complete store.

        Args:
            path: DEST as given.
            store: Its directory.
            manifest: Of the store.
            resumed: Images that interrupted runs processed.
            seconds: Of this run.
            details: Further fields of a subclass.
        """
        return cls(
            path=path,
            count=manifest.count,
            channels=manifest.channels,
            resolutions=list(manifest.resolutions),
            codecs=dict(manifest.codecs),
            bytes=dict(manifest.bytes),
            bytes_on_disk=(store / FILE).stat().st_size,
            left_out=dict(manifest.left_out),
            labels=[column.name for column in manifest.labels],
            attribution=manifest.attribution,
            resumed=resumed,
            seconds=round(seconds, 3),
            **details,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
