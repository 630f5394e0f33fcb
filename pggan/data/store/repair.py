"""Mending a damaged store: levels made anew from the full size, pictures without one dropped, in a new store."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from pggan.data.store.checksums import LABELS_PART, digest, level_part
from pggan.data.store.codecs import decode, encode
from pggan.data.store.manifest import Manifest
from pggan.data.store.pyramid import pyramid
from pggan.data.store.raw_records import Records
from pggan.data.store.resume import load_resume_point, read_progress, unfinished
from pggan.data.store.staging import staging_directory
from pggan.data.store.store import FILE
from pggan.data.store.verify import LISTED, VerifyReport, pictures_in_tasks, unreadable
from pggan.data.store.writer import StoreWriter
from pggan.utils.errors import DataError
from pggan.utils.formatting import size
from pggan.utils.process_pool import WorkerDied, ordered_map

COMMAND = "verify-data --fix"
DROPPED = "damaged"


@dataclass
class MendReport:
    """What was done. `dropped`: pictures without a whole full size, by their old numbers, the first of them.

    `rebuilt`: records made from the full size, `exactly` so many of them to the byte; `unlabelled`: pictures whose
    labels are now unknown.
    """

    path: str
    count: int
    dropped_count: int = 0
    dropped: list[int] = field(default_factory=list)
    rebuilt: int = 0
    exactly: int = 0
    unlabelled: int = 0
    from_jpeg: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class RepairReport(NamedTuple):
    """A picture: its records (None: it is dropped), labels, and how many were rebuilt, exactly, and unlabelled."""

    number: int
    records: dict[int, bytes] | None
    labels: tuple[int, ...] = ()
    rebuilt: int = 0
    exactly: int = 0
    unlabelled: bool = False


def mend(
    path: str | Path,
    found: VerifyReport,
    workers: int = 1,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> MendReport:
    """Makes the store anew without the damage that `verify` found, beside the old one, which it then replaces.

    Raises `DataError` where no picture is whole, or the disk too small; the store stays as it is then.
    """
    place = Path(os.path.realpath(path))
    records = Records(place)
    manifest = records.manifest
    records.close()
    _check_disk(place)
    if on_start is not None:
        on_start(manifest.count)
    jpeg = not manifest.is_lossless(max(manifest.resolutions))
    report = MendReport(str(path), 0, from_jpeg=jpeg)
    _check_free(place)
    with staging_directory(place, keep=False) as partial:
        writer = StoreWriter(partial, manifest.codecs, load_resume_point(partial, {"command": COMMAND}, overwrite=True))
        try:
            for mended in _mended(place, manifest, found, workers):
                _take(mended, writer, report)
                if on_progress is not None:
                    on_progress(1)
            if not writer.count:
                raise DataError(f"no picture of {path} is whole, so it stays as it is; prepare the data again")
            writer.finish(_manifest(manifest, writer, report))
        finally:
            writer.close()
    return report


def _take(mended: RepairReport, writer: StoreWriter, report: MendReport) -> None:
    if mended.records is None:
        report.dropped_count += 1
        if len(report.dropped) < LISTED:
            report.dropped.append(mended.number)
        writer.skip()
        return
    report.count += 1
    report.rebuilt += mended.rebuilt
    report.exactly += mended.exactly
    report.unlabelled += mended.unlabelled
    writer.add(mended.records, mended.labels)


def _check_disk(place: Path) -> None:
    need, free = (place / FILE).stat().st_size, shutil.disk_usage(place).free
    if need > free:
        raise DataError(f"{size(need)} are needed to make {place} anew, {size(free)} are free; free some space")


def _check_free(place: Path) -> None:
    """Another command's unfinished store is not to be lost."""
    other = read_progress(unfinished(place))
    if other is not None and other.identity.get("command") != COMMAND:
        raise DataError(f"{unfinished(place)} is an unfinished store; finish it with its command, or remove it, first")


def _manifest(old: Manifest, writer: StoreWriter, report: MendReport) -> Manifest:
    left_out = dict(old.left_out)
    if report.dropped_count:
        left_out[DROPPED] = left_out.get(DROPPED, 0) + report.dropped_count
    changed = report.dropped_count or report.unlabelled
    return replace(
        old,
        count=writer.count,
        bytes=writer.sizes,
        left_out=left_out,
        # a run that trains on it has to know that it is another one
        created=datetime.now(timezone.utc).isoformat() if changed else old.created,
    )


def _mended(place: Path, manifest: Manifest, found: VerifyReport, workers: int) -> Iterator[RepairReport]:
    tasks = (
        (pictures, {index: list(found.pictures[index]) for index in pictures if index in found.pictures})
        for pictures in pictures_in_tasks(manifest)
    )
    try:
        # tasks carry their records: few of them are on their way
        for batch in ordered_map(Repairer(place), tasks, workers, in_flight=2, inline=False):
            yield from batch
    except WorkerDied:
        raise unreadable(place) from None


class Repairer:
    """Mends pictures; what a worker process holds."""

    def __init__(self, path: Path) -> None:
        self.records = Records(path)

    def __call__(self, task: tuple[range, dict[int, list[str]]]) -> list[RepairReport]:
        pictures, damaged = task
        return [self._mended(index, damaged.get(index, [])) for index in pictures]

    def _mended(self, index: int, damaged: list[str]) -> RepairReport:
        manifest = self.records.manifest
        full = max(manifest.resolutions)
        if level_part(full) in damaged:
            return RepairReport(index, None)
        records: dict[int, bytes] = {}
        sides = [side for side in manifest.resolutions if level_part(side) in damaged]
        for side in manifest.resolutions:
            record = self.records.level(index, side)
            if side not in sides and record is not None:
                records[side] = record
            elif side not in sides:
                sides.append(side)
        if full in sides:
            return RepairReport(index, None)
        exactly = 0
        if sides:
            try:
                made = self._rebuilt(records[full], sides)
            except ValueError:
                return RepairReport(index, None)
            known = self.records.digests(index)
            exactly = sum(known.get(level_part(side)) == digest(record) for side, record in made.items())
            records |= made
        labels, unlabelled = self._labels(index, LABELS_PART in damaged)
        return RepairReport(index, dict(sorted(records.items())), labels, len(sides), exactly, unlabelled)

    def _rebuilt(self, full: bytes, sides: list[int]) -> dict[int, bytes]:
        manifest = self.records.manifest
        side = max(manifest.resolutions)
        levels = pyramid(decode(full, manifest.codecs[side], manifest.channels, side).transpose(1, 2, 0))
        quality = int(manifest.options.get("quality", 95))
        return {each: encode(levels[each], manifest.codecs[each], quality) for each in sides}

    def _labels(self, index: int, damaged: bool) -> tuple[tuple[int, ...], bool]:
        """Class numbers as they are, or unknown."""
        width = len(self.records.manifest.labels)
        row = self.records.label_row(index)
        if damaged or row is None:
            return (-1,) * width, bool(width)
        return struct.unpack(f"<{width}i", row), False
