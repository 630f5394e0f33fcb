"""Where pictures come from: one file per format and one line in this table, asked in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pggan.errors import DataError
from pggan.registry import Registry

if TYPE_CHECKING:
    from pggan.data.sources.base import Source


@dataclass(frozen=True)
class SourceSpec:
    name: str
    target: str
    summary: str


SOURCES: Registry[SourceSpec] = Registry(
    "source",
    [
        SourceSpec("drawn", "pggan.data.sources.drawn:DrawnSource", "drawn:COUNT, faces drawn on the spot"),
        SourceSpec("zip", "pggan.data.sources.archives:ZipSource", "a zip of pictures"),
        SourceSpec("tar", "pggan.data.sources.archives:TarSource", "a tar of pictures, compressed or not"),
        SourceSpec("folder", "pggan.data.sources.folder:FolderSource", "a folder of pictures, nested or not"),
    ],
)


def open_source(spec: str) -> Source:
    """The source behind a SOURCE argument. Raises `DataError` where it is missing or of no known kind."""
    import os

    for entry in SOURCES:
        source = SOURCES.load(entry.name)
        if source.sniff(spec):
            return source(spec)
    kinds = "; ".join(entry.summary for entry in SOURCES)
    if not os.path.exists(spec):
        raise DataError(f"{spec} does not exist; give one of: {kinds}")
    raise DataError(f"{spec} is not a source of pictures; give one of: {kinds}")
