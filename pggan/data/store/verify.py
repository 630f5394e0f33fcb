"""Verifies a store: every record is present, matches its checksum, decodes, and agrees with the full size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import are_entries
from pggan.data.store.checksums import LABELS_PART, SIZE, RunningChecksums, digest, level_part
from pggan.data.store.codecs import decode
from pggan.data.store.lmdb_environment import DIGESTS, database_name
from pggan.data.store.manifest import Manifest
from pggan.data.store.pyramid import pyramid
from pggan.data.store.raw_records import RawRecords
from pggan.utils.errors import DataError
from pggan.utils.process_pool import WorkerDied, ordered_map

# Most damages that a report lists; all of them are counted.
MAX_LISTED = 1000
# A task of a worker: at most this many bytes of records, and this many images.
TASK_BYTES, TASK_COUNT = 8 << 20, 512
MISSING, OTHER_DIGEST = "missing", "digest differs"


class Damage(NamedTuple):
    """One damaged part of one image (`image` is its number), or of the store as a whole (`image` None).

    `part`: "256x256", "labels" or "digests".
    """

    image: int | None
    part: str
    reason: str

    def __str__(self) -> str:
        """`picture 17 at 256x256: digest differs`."""
        if self.image is None:
            return f"{self.part}: {self.reason}"
        preposition = "'s " if self.part == LABELS_PART else " at "
        return f"picture {self.image}{preposition}{self.part}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        return {"picture": self.image, "part": self.part, "reason": self.reason, "message": str(self)}


@dataclass
class VerifyReport:
    """The damage of a store."""

    path: str
    count: int  # images
    resolutions: list[int]
    quick: bool  # nothing was decoded
    with_digests: bool  # False: made by a version without checksums, so that only decoding shows damage
    general: list[Damage] = field(default_factory=list)  # of the store as a whole
    damaged_images: dict[int, dict[str, str]] = field(default_factory=dict)  # number -> part -> reason
    seconds: float = 0.0

    @property
    def intact(self) -> bool:
        return not self.general and not self.damaged_images

    @property
    def damage_count(self) -> int:
        """Number of damaged parts."""
        return len(self.general) + sum(map(len, self.damaged_images.values()))

    def damages(self, limit: int = MAX_LISTED) -> list[Damage]:
        """Returns the first `limit` damages."""
        of_images = (
            Damage(image, part, reason)
            for image, parts in self.damaged_images.items()
            for part, reason in parts.items()
        )
        return list(islice(chain(self.general, of_images), limit))

    def add(self, damage: Damage) -> None:
        if damage.image is None:
            self.general.append(damage)
        else:
            self.damaged_images.setdefault(damage.image, {})[damage.part] = damage.reason

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "count": self.count,
            "resolutions": self.resolutions,
            "whole": self.intact,
            "quick": self.quick,
            "with_digests": self.with_digests,
            "damaged_pictures": len(self.damaged_images),
            "found": self.damage_count,
            "damages": [damage.to_json() for damage in self.damages()],
            "seconds": self.seconds,
        }


def verify(
    path: str | Path,
    quick: bool = False,
    workers: int = 1,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> VerifyReport:
    """Checks every record of a store.

    Levels below a lossless full size must be its 2x2 means: exactly, or within one grey level if the full size itself
    is a level of a larger store. Below a JPEG full size they must agree within `jpeg_tolerance` on average.

    Args:
        path: The store.
        quick: Check structure and checksums only; decode nothing.
        workers: Number of worker processes.
        on_start: Gets the number of images.
        on_progress: Gets the number of images checked since its last call.

    Raises:
        DataError: There is no complete store at `path`, or its index cannot be read.
    """
    start = time.monotonic()
    with closing(RawRecords(path)) as records:
        manifest, parts = records.manifest, records.parts
        report = _general_report(path, records, quick)
    if on_start is not None:
        on_start(manifest.count)
    stored, computed = RunningChecksums(parts), RunningChecksums(parts)
    try:
        tasks = split_into_tasks(manifest)
        for result in ordered_map(RecordChecker(records, quick), tasks, workers, inline=False):
            for damage in result.damages:
                report.add(damage)
            stored.feed(result.stored_digests)
            computed.feed(result.computed_digests)
            if on_progress is not None:
                on_progress(result.images)
    except WorkerDied:
        raise unreadable_error(path) from None
    _check_totals(report, manifest, stored.values(), computed.values())
    report.seconds = round(time.monotonic() - start, 3)
    return report


def unreadable_error(path: str | Path) -> DataError:
    """Explains that a process died while it read the store."""
    return DataError(
        f"{path}: a process that read it died, so its index is damaged, or the memory too small; copy it again, try "
        "fewer --workers, or prepare the data again"
    )


def split_into_tasks(manifest: Manifest) -> Iterator[range]:
    """Yields ranges of image numbers, each of at most TASK_BYTES and TASK_COUNT images."""
    mean_bytes = sum(manifest.bytes.values()) / max(1, manifest.count)
    step = max(1, min(TASK_COUNT, int(TASK_BYTES / max(1, mean_bytes))))
    return (range(at, min(at + step, manifest.count)) for at in range(0, manifest.count, step))


def _general_report(path: str | Path, records: RawRecords, quick: bool) -> VerifyReport:
    """Starts a report with the damage of the store as a whole: surplus records, an invalid label array."""
    manifest, resolutions = records.manifest, list(records.manifest.resolutions)
    report = VerifyReport(str(path), manifest.count, resolutions, quick, with_digests=bool(manifest.digests))
    databases = {level_part(side): database_name(side) for side in manifest.resolutions}
    if manifest.digests:
        databases["digests"] = DIGESTS
    for part, name in databases.items():
        count = records.entries(name)
        if count > manifest.count:
            report.add(Damage(None, part, f"{count} records for {manifest.count} pictures"))
    fault = records.check_label_array()
    if fault is not None:
        report.add(Damage(None, LABELS_PART, fault))
    return report


def _check_totals(report: VerifyReport, manifest: Manifest, stored: dict[str, str], computed: dict[str, str]) -> None:
    """Compares the manifest's digests with those of the stored digest table and those of the records.

    Where the records agree with the manifest and the table does not, only the table is damaged: the images' damages
    that the table suggested are withdrawn.
    """
    if not manifest.digests:
        return
    for part in stored:
        expected = manifest.digests.get(part)
        if stored[part] == expected:
            continue
        if computed[part] == expected:
            _withdraw(report, part)
        report.add(Damage(None, "digests", f"those of {part} are not the manifest's"))


def _withdraw(report: VerifyReport, part: str) -> None:
    for image, parts in list(report.damaged_images.items()):
        if parts.get(part) == OTHER_DIGEST:
            del parts[part]
        if not parts:
            del report.damaged_images[image]


class CheckResult(NamedTuple):
    """Result of one task: the number of images, their damages, and their concatenated checksum rows."""

    images: int
    damages: list[Damage]
    stored_digests: bytes
    computed_digests: bytes


class RecordChecker:
    """Checks the records of a range of images; one instance lives in each worker process."""

    def __init__(self, records: RawRecords, quick: bool) -> None:
        self.records, self.quick = records, quick

    def __call__(self, images: range) -> CheckResult:
        damages: list[Damage] = []
        stored, computed = bytearray(), bytearray()
        for index in images:
            digests = self.records.digests(index)
            parts = {name: self.records.part(index, name) for name in self.records.parts}
            damages += [Damage(index, name, reason) for name, reason in self._damaged(parts, digests).items()]
            for name, data in parts.items():
                stored += digests.get(name, bytes(SIZE))
                computed += bytes(SIZE) if data is None else digest(data)
        return CheckResult(len(images), damages, bytes(stored), bytes(computed))

    def _damaged(self, parts: dict[str, bytes | None], digests: dict[str, bytes]) -> dict[str, str]:
        """Returns the damaged parts of an image and why."""
        manifest = self.records.manifest
        damaged: dict[str, str] = {}
        for name, data in parts.items():
            if data is None:
                damaged[name] = MISSING
            elif digests and digests[name] != digest(data):
                damaged[name] = OTHER_DIGEST
        labels = parts.get(LABELS_PART)
        if labels is not None and LABELS_PART not in damaged and not _fit(labels, manifest):
            damaged[LABELS_PART] = "no such class"
        if not self.quick:
            intact = {name: data for name, data in parts.items() if data is not None and name not in damaged}
            damaged.update(check_levels(intact, manifest))
        return damaged


def _fit(labels: bytes, manifest: Manifest) -> bool:
    """Whether the labels of an image are an entry of each column, or unknown."""
    return len(labels) == 4 * len(manifest.labels) and are_entries(np.frombuffer(labels, "<i4"), manifest.labels)


def check_levels(records: dict[str, bytes], manifest: Manifest) -> dict[str, str]:
    """Returns which of an image's records (by part) do not decode or are not means of the full size, and why."""
    damaged: dict[str, str] = {}
    images: dict[int, NDArray[np.uint8]] = {}
    for side in manifest.resolutions:
        data = records.get(level_part(side))
        if data is None:
            continue
        try:
            images[side] = decode(data, manifest.codecs[side], manifest.channels, side)
        except ValueError as error:
            damaged[level_part(side)] = f"does not decode: {error}"
    full = max(manifest.resolutions)
    if full in images:
        means = pyramid(images.pop(full).transpose(1, 2, 0))
        for side, image in images.items():
            difference = np.abs(image.astype(np.int16) - means[side])
            if not _within_tolerance(difference, manifest, side):
                damaged[level_part(side)] = f"up to {difference.max()} grey levels from the mean of {level_part(full)}"
    return damaged


def _within_tolerance(difference: NDArray[np.int16], manifest: Manifest, side: int) -> bool:
    if manifest.is_lossless(side) and manifest.is_lossless(max(manifest.resolutions)):
        return int(difference.max()) <= (0 if manifest.exact else 1)
    return float(difference.mean()) <= jpeg_tolerance(manifest)


def jpeg_tolerance(manifest: Manifest) -> float:
    """Returns the largest mean difference, in grey levels, of a JPEG level and its full size: 7 at quality 95, <= 60.

    Noise, gradients and photographs reach two thirds of it at every quality; two different portraits differ by 60.
    """
    return min(60.0, 3 + 0.8 * (100 - int(manifest.options.get("quality", 95))))
