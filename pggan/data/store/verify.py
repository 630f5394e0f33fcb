"""Whether a store is whole: every record is there, is what its digest says, decodes, and agrees with the full size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.store.checksums import LABELS_PART, SIZE, RunningChecksums, digest, level_part
from pggan.data.store.codecs import decode
from pggan.data.store.manifest import Manifest
from pggan.data.store.pyramid import pyramid
from pggan.data.store.raw_records import Records
from pggan.data.store.store import DIGESTS, database_name
from pggan.utils.errors import DataError
from pggan.utils.process_pool import WorkerDied, ordered_map

# Damage that is listed; all of it is counted.
LISTED = 1000
# A task: pictures of so many bytes, and so many of them.
TASK_BYTES, TASK_COUNT = 8 << 20, 512
MISSING, OTHER_DIGEST = "missing", "digest differs"


class Damage(NamedTuple):
    """`part`: "256x256", "labels" or "digests"; `picture` None: of the store as a whole."""

    picture: int | None
    part: str
    reason: str

    def __str__(self) -> str:
        """`picture 17 at 256x256: digest differs`."""
        if self.picture is None:
            return f"{self.part}: {self.reason}"
        between = "'s " if self.part == LABELS_PART else " at "
        return f"picture {self.picture}{between}{self.part}: {self.reason}"


@dataclass
class VerifyReport:
    """What was found. `pictures`: the damaged ones, by number, with what is wrong with their parts; `general`: damage
    of the store as a whole.

    `with_digests` False: made by a version without them, so that only decoding and levels tell.
    """

    path: str
    count: int
    resolutions: list[int]
    quick: bool
    with_digests: bool
    general: list[Damage] = field(default_factory=list)
    pictures: dict[int, dict[str, str]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        return not self.general and not self.pictures

    @property
    def found(self) -> int:
        """How many damages."""
        return len(self.general) + sum(map(len, self.pictures.values()))

    def damages(self, most: int = LISTED) -> list[Damage]:
        """The first of them."""
        each = (Damage(at, part, reason) for at, parts in self.pictures.items() for part, reason in parts.items())
        return list(islice(chain(self.general, each), most))

    def add(self, damage: Damage) -> None:
        if damage.picture is None:
            self.general.append(damage)
        else:
            self.pictures.setdefault(damage.picture, {})[damage.part] = damage.reason

    def to_json(self) -> dict[str, Any]:
        """The first damages, and how many `found` there are."""
        return {
            "path": self.path,
            "count": self.count,
            "resolutions": self.resolutions,
            "whole": self.whole,
            "quick": self.quick,
            "with_digests": self.with_digests,
            "damaged_pictures": len(self.pictures),
            "found": self.found,
            "damages": [{**each._asdict(), "message": str(each)} for each in self.damages()],
            "seconds": self.seconds,
        }


def verify(
    path: str | Path,
    quick: bool = False,
    workers: int = 1,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> VerifyReport:
    """Looks at every record of a store, in `workers` processes. `quick`: at structure and digests, decoding nothing.

    Levels of a lossless full size are its 2x2 means to the bit (to one grey level where the full size itself was cut
    out of a larger store's levels); of a JPEG one, to `jpeg_tolerance` on average. Raises `DataError` for what is no
    whole store, or one whose index cannot be read.
    """
    start = time.monotonic()
    records = Records(Path(path))
    try:
        manifest = records.manifest
        report = VerifyReport(
            str(path), manifest.count, list(manifest.resolutions), quick, with_digests=bool(manifest.digests)
        )
        for damage in _as_a_whole(records):
            report.add(damage)
        parts = records.parts
    finally:
        records.close()
    if on_start is not None:
        on_start(manifest.count)
    told, found = RunningChecksums(parts), RunningChecksums(parts)
    tasks = pictures_in_tasks(manifest)
    try:
        for checked in ordered_map(Checker(Path(path), quick), tasks, workers, inline=False):
            for damage in checked.damages:
                report.add(damage)
            told.feed(checked.told)
            found.feed(checked.found)
            if on_progress is not None:
                on_progress(checked.pictures)
    except WorkerDied:
        raise unreadable(path) from None
    _settle(report, manifest, told.values(), found.values())
    report.seconds = round(time.monotonic() - start, 3)
    return report


def unreadable(path: str | Path) -> DataError:
    return DataError(
        f"{path}: a process that read it died, so its index is damaged, or the memory too small; copy it again, try "
        "fewer --workers, or prepare the data again"
    )


def pictures_in_tasks(manifest: Manifest) -> Iterator[range]:
    each = sum(manifest.bytes.values()) / max(1, manifest.count)
    step = max(1, min(TASK_COUNT, int(TASK_BYTES / max(1, each))))
    return (range(at, min(at + step, manifest.count)) for at in range(0, manifest.count, step))


def _as_a_whole(records: Records) -> Iterator[Damage]:
    manifest = records.manifest
    databases = {level_part(side): database_name(side) for side in manifest.resolutions}
    if manifest.digests:
        databases["digests"] = DIGESTS
    for part, name in databases.items():
        count = records.entries(name)
        if count > manifest.count:
            yield Damage(None, part, f"{count} records for {manifest.count} pictures")
    wrong = records.wrong_labels()
    if wrong is not None:
        yield Damage(None, LABELS_PART, wrong)


def _settle(report: VerifyReport, manifest: Manifest, told: dict[str, str], found: dict[str, str]) -> None:
    """Whether records or the digests kept beside them are damaged: the manifest's digests are of both."""
    if not manifest.digests:
        return
    for part in told:
        known = manifest.digests.get(part)
        if told[part] == known:
            continue
        if found[part] == known:  # the records are what they were, the table of their digests is not
            for picture, parts in list(report.pictures.items()):
                if parts.get(part) == OTHER_DIGEST:
                    del parts[part]
                if not parts:
                    del report.pictures[picture]
        report.add(Damage(None, "digests", f"those of {part} are not the manifest's"))


class Checked(NamedTuple):
    """Of a task's pictures: damage, digests as they are kept, and as they are."""

    pictures: int
    damages: list[Damage]
    told: bytes
    found: bytes


class Checker:
    """Looks at pictures; what a worker process holds."""

    def __init__(self, path: Path, quick: bool) -> None:
        self.records, self.quick = Records(path), quick

    def __call__(self, pictures: range) -> Checked:
        damages: list[Damage] = []
        told, found = bytearray(), bytearray()
        for index in pictures:
            kept = self.records.digests(index)
            here = {name: self.records.part(index, name) for name in self.records.parts}
            wrong = self._wrong(here, kept)
            damages += [Damage(index, part, reason) for part, reason in wrong.items()]
            for name, data in here.items():
                told += kept.get(name, bytes(SIZE))
                found += bytes(SIZE) if data is None else digest(data)
        return Checked(len(pictures), damages, bytes(told), bytes(found))

    def _wrong(self, here: dict[str, bytes | None], kept: dict[str, bytes]) -> dict[str, str]:
        """What is wrong with a picture's parts."""
        manifest = self.records.manifest
        wrong: dict[str, str] = {}
        for name, data in here.items():
            if data is None:
                wrong[name] = MISSING
            elif kept and kept[name] != digest(data):
                wrong[name] = OTHER_DIGEST
        row = here.get(LABELS_PART)
        if row is not None and LABELS_PART not in wrong and not _are_classes(row, manifest):
            wrong[LABELS_PART] = "no such class"
        if not self.quick:
            wrong.update(wrong_levels({n: d for n, d in here.items() if d is not None and n not in wrong}, manifest))
        return wrong


def _are_classes(row: bytes, manifest: Manifest) -> bool:
    numbers = np.frombuffer(row, "<i4")
    return all(-1 <= number < len(column.classes) for number, column in zip(numbers, manifest.labels))


def wrong_levels(records: dict[str, bytes], manifest: Manifest) -> dict[str, str]:
    """What does not decode, or is not the mean of the full size, among a picture's intact records by part."""
    wrong: dict[str, str] = {}
    images: dict[int, NDArray[np.uint8]] = {}
    for side in manifest.resolutions:
        data = records.get(level_part(side))
        if data is None:
            continue
        try:
            images[side] = decode(data, manifest.codecs[side], manifest.channels, side)
        except ValueError as error:
            wrong[level_part(side)] = f"does not decode: {error}"
    full = max(manifest.resolutions)
    if full in images:
        means = pyramid(images.pop(full).transpose(1, 2, 0))
        for side, image in images.items():
            difference = np.abs(image.astype(np.int16) - means[side])
            if not _agree(difference, manifest, side):
                wrong[level_part(side)] = f"up to {difference.max()} grey levels from the mean of {level_part(full)}"
    return wrong


def _agree(difference: NDArray[np.int16], manifest: Manifest, side: int) -> bool:
    if manifest.is_lossless(side) and manifest.is_lossless(max(manifest.resolutions)):
        return int(difference.max()) <= (0 if manifest.exact else 1)
    return float(difference.mean()) <= jpeg_tolerance(manifest)


def jpeg_tolerance(manifest: Manifest) -> float:
    """Grey levels that a JPEG level and its full size may differ by on average: 7 at quality 95, at most 60.

    Noise, gradients and photographs reach two thirds of it at every quality; two different portraits differ by 60.
    """
    return min(60.0, 3 + 0.8 * (100 - int(manifest.options.get("quality", 95))))
