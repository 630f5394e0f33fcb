"""Repairs a damaged store in a new one: levels are rebuilt from the full size, images without one are dropped."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from pggan.data.duplicate_groups import drop_images
from pggan.data.store.checksums import LABELS_PART, digest, level_part
from pggan.data.store.codecs import decode, encode
from pggan.data.store.lmdb_environment import FILE
from pggan.data.store.manifest import Manifest
from pggan.data.store.pyramid import pyramid
from pggan.data.store.raw_records import RawRecords
from pggan.data.store.resume import load_resume_point, partial_path, read_progress
from pggan.data.store.staging import staging_directory
from pggan.data.store.verify import MAX_LISTED, VerifyReport, split_into_tasks, unreadable_error
from pggan.data.store.writer import StoreWriter
from pggan.utils.errors import DataError
from pggan.utils.formatting import size
from pggan.utils.process_pool import WorkerDied, ordered_map

COMMAND = "verify-data --fix"
DROPPED = "damaged"


@dataclass
class RepairReport:
    """What a repair changed. The field names are keys of `--json`."""

    path: str
    count: int  # images of the repaired store
    dropped_count: int = 0  # images without an intact full size
    dropped: list[int] = field(default_factory=list)  # their old numbers, the first MAX_LISTED
    rebuilt: int = 0  # records rebuilt from the full size
    exactly: int = 0  # of these, records equal to the lost ones byte for byte
    unlabelled: int = 0  # images whose labels are unknown now
    from_jpeg: bool = False  # the full size is lossy

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class RepairedRecords(NamedTuple):
    """One image after the repair."""

    number: int  # in the damaged store
    records: dict[int, bytes] | None  # by resolution; None: the image is dropped
    labels: tuple[int, ...] = ()
    rebuilt: int = 0  # records rebuilt from the full size
    exactly: int = 0  # of these, equal to the lost ones
    unlabelled: bool = False  # the labels became unknown


def repair(
    path: str | Path,
    damage: VerifyReport,
    workers: int = 1,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> RepairReport:
    """Writes a repaired store beside the damaged one and then replaces it.

    Args:
        path: The store.
        damage: What `verify` reported of it.
        workers: Number of worker processes.
        on_start: Gets the number of images.
        on_progress: Gets the number of images processed since its last call.

    Raises:
        DataError: No image has an intact full size, or the disk is too small; the store stays as it is.
    """
    place = Path(os.path.realpath(path))
    with closing(RawRecords(place)) as records:
        manifest = records.manifest
    _check_disk(place)
    if on_start is not None:
        on_start(manifest.count)
    report = RepairReport(str(path), 0, from_jpeg=not manifest.is_lossless(max(manifest.resolutions)))
    _check_no_unfinished_store(place)
    with staging_directory(place, keep=False) as partial:
        writer = StoreWriter(partial, manifest.codecs, load_resume_point(partial, {"command": COMMAND}, overwrite=True))
        with closing(writer):
            dropped = []
            for image in _repaired_images(records, damage, workers):
                _write(image, writer, report)
                if image.records is None:
                    dropped.append(image.number)
                if on_progress is not None:
                    on_progress(1)
            if not writer.count:
                raise DataError(f"no picture of {path} is whole, so it stays as it is; prepare the data again")
            manifest = replace(manifest, duplicates=drop_images(manifest.duplicates, dropped))
            writer.finish(_repaired_manifest(manifest, writer, report))
    return report


def _write(image: RepairedRecords, writer: StoreWriter, report: RepairReport) -> None:
    if image.records is None:
        report.dropped_count += 1
        if len(report.dropped) < MAX_LISTED:
            report.dropped.append(image.number)
        writer.skip()
        return
    report.count += 1
    report.rebuilt += image.rebuilt
    report.exactly += image.exactly
    report.unlabelled += image.unlabelled
    writer.add(image.records, image.labels)


def _check_disk(place: Path) -> None:
    need, free = (place / FILE).stat().st_size, shutil.disk_usage(place).free
    if need > free:
        raise DataError(f"{size(need)} are needed to make {place} anew, {size(free)} are free; free some space")


def _check_no_unfinished_store(place: Path) -> None:
    """Raises `DataError` if another command's unfinished store would be overwritten."""
    other = read_progress(partial_path(place))
    if other is not None and other.identity.get("command") != COMMAND:
        raise DataError(
            f"{partial_path(place)} is an unfinished store; finish it with its command, or remove it, first"
        )


def _repaired_manifest(old: Manifest, writer: StoreWriter, report: RepairReport) -> Manifest:
    left_out = dict(old.left_out)
    if report.dropped_count:
        left_out[DROPPED] = left_out.get(DROPPED, 0) + report.dropped_count
    changed = report.dropped_count or report.unlabelled
    return replace(
        old,
        count=writer.count,
        bytes=writer.sizes,
        left_out=left_out,
        # a new date makes a run that trains on the store notice that it is another one
        created=datetime.now(timezone.utc).isoformat() if changed else old.created,
    )


def _repaired_images(records: RawRecords, damage: VerifyReport, workers: int) -> Iterator[RepairedRecords]:
    tasks = (
        (images, {index: list(damage.damaged_images[index]) for index in images if index in damage.damaged_images})
        for images in split_into_tasks(records.manifest)
    )
    try:
        # in_flight: the results carry all records, so few of them may wait
        for batch in ordered_map(Repairer(records), tasks, workers, in_flight=2, inline=False):
            yield from batch
    except WorkerDied:
        raise unreadable_error(records.path) from None


class Repairer:
    """Repairs images; one instance lives in each worker process."""

    def __init__(self, records: RawRecords) -> None:
        self.records = records

    def __call__(self, task: tuple[range, dict[int, list[str]]]) -> list[RepairedRecords]:
        """Repairs a range of images. `task`: their numbers, and the damaged parts by number."""
        images, damaged_parts = task
        return [self._repair(index, damaged_parts.get(index, [])) for index in images]

    def _repair(self, index: int, damaged_parts: list[str]) -> RepairedRecords:
        resolutions = self.records.manifest.resolutions
        records: dict[int, bytes] = {}
        for side in resolutions:
            record = None if level_part(side) in damaged_parts else self.records.level(index, side)
            if record is not None:
                records[side] = record
        lost = [side for side in resolutions if side not in records]
        if max(resolutions) in lost:
            return RepairedRecords(index, None)
        exactly = 0
        if lost:
            try:
                rebuilt = self._rebuild(records[max(resolutions)], lost)
            except ValueError:  # the full size does not decode
                return RepairedRecords(index, None)
            digests = self.records.digests(index)
            exactly = sum(digests.get(level_part(side)) == digest(record) for side, record in rebuilt.items())
            records |= rebuilt
        labels, unlabelled = self._labels(index, LABELS_PART in damaged_parts)
        return RepairedRecords(index, dict(sorted(records.items())), labels, len(lost), exactly, unlabelled)

    def _rebuild(self, full_record: bytes, sides: list[int]) -> dict[int, bytes]:
        """Returns records of these resolutions from the encoded full size. Raises `ValueError` if that is damaged."""
        manifest = self.records.manifest
        full = max(manifest.resolutions)
        levels = pyramid(decode(full_record, manifest.codecs[full], manifest.channels, full).transpose(1, 2, 0))
        quality = int(manifest.options.get("quality", 95))
        return {side: encode(levels[side], manifest.codecs[side], quality) for side in sides}

    def _labels(self, index: int, damaged: bool) -> tuple[tuple[int, ...], bool]:
        """Returns an image's class numbers, or -1s (unknown) if they are damaged, and whether labels were lost."""
        width = len(self.records.manifest.labels)
        row = self.records.label_row(index)
        if damaged or row is None:
            return (-1,) * width, bool(width)
        return struct.unpack(f"<{width}i", row), False
