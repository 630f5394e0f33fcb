"""Pictures to a store: read, fitted, halved down to 4x4 and encoded in worker processes, written in order by one."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pggan.config.resolution import MAX_RESOLUTION
from pggan.data.prepare.conversion_stats import ConversionStats, printable
from pggan.data.prepare.convert import Converted, Converter, converted
from pggan.data.prepare.prepare_options import PrepareOptions
from pggan.data.prepare.size_estimate import Plan, estimate
from pggan.data.sources import open_source
from pggan.data.sources.aligned import AlignedSource
from pggan.data.sources.base import BadPicture, Ref, Source
from pggan.data.sources.fingerprint import fingerprint
from pggan.data.sources.image_io import fitted_side
from pggan.data.sources.label_files import FOLDERS, labelled
from pggan.data.sources.synthetic import DEFAULT_RESOLUTION
from pggan.data.store.manifest import LOSSLESS
from pggan.data.store.pyramid import LOWEST
from pggan.data.store.resume import Progress, load_resume_point, unfinished
from pggan.data.store.staging import Unusable, check_destination, staging_directory
from pggan.data.store.store import FILE, Manifest, Store
from pggan.data.store.writer import StoreWriter, full_disk_told
from pggan.utils.errors import DataError, UsageError
from pggan.utils.version import __version__

__all__ = ["Plan", "PrepareOptions", "PrepareReport", "plan", "prepare", "printable"]

# The default resolution is one that so many of a hundred pictures reach.
REACHED_BY = 95
# Pictures whose size is looked at to choose it.
SIZE_SAMPLE = 20_000
# Options that do not change what is made.
_NO_MATTER = ("workers", "overwrite", "force")


@dataclass
class PrepareReport:
    """What was made. `left_out` by reason, `bad` the first of them by name, `converted` by kind.

    `resumed`: pictures that an earlier run had done; `seconds` are this one's.
    """

    path: str
    count: int
    channels: int
    resolutions: list[int]
    codecs: dict[int, str]
    bytes: dict[int, int]
    bytes_on_disk: int
    left_out: dict[str, int]
    bad: list[dict[str, str]]
    converted: dict[str, int]
    labels: list[str]
    attribution: str | None
    resumed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Job:
    """A source and what is to become of it: its pictures `first` to `last` of `total`, options resolved."""

    spec: str
    source: Source
    options: PrepareOptions
    max_res: int
    total: int
    first: int
    last: int

    @classmethod
    def of(cls, spec: str, options: PrepareOptions) -> _Job:
        source = labelled(open_source(spec), options.labels)
        if options.align is not None:
            source = AlignedSource(source, options.align)
        options = replace(options, channels=options.channels or source.channels or 3)
        total = min(len(source), options.limit or len(source))
        number, of = options.shard or (1, 1)
        if of > total:
            raise UsageError(f"--shard {number}/{of}: there are only {total} pictures; give at most {total} shards")
        max_res = _choose_resolution(source, options, total)  # of all pictures: shards agree on it
        return cls(spec, source, options, max_res, total, (number - 1) * total // of, number * total // of)

    @property
    def count(self) -> int:
        return self.last - self.first

    def converter(self) -> Converter:
        return self.options.converter(self.source.reader(self.max_res, self.options.seed), self.max_res)

    def refs(self, done: int) -> Iterator[Ref]:
        """Those that are not done; a source that can only be read through is read up to them."""
        return islice(self.source.refs(), self.first + done, self.last)

    def recorded(self) -> dict[str, Any]:
        """Options that change what is made."""
        return {**{k: v for k, v in asdict(self.options).items() if k not in _NO_MATTER}, "max_res": self.max_res}

    def identity(self, dest: Path) -> dict[str, Any]:
        """By which the same command is known again."""
        own = {str(dest), str(unfinished(dest))}
        files = [self.options.align, self.options.labels if self.options.labels != FOLDERS else None]
        return {
            "command": "prepare-data",
            "pggan": __version__,
            "digest": fingerprint(self.spec, files, own),
            "pictures": len(self.source),
            "options": self.recorded(),
        }

    def estimate(self, dest: Path, done: int, sample: bool | None) -> Plan:
        shard, workers = self.options.shard, self.options.workers
        return estimate(self.source, self.converter(), dest, self.count, done, shard, workers, sample, self.total)

    def manifest(self, count: int, sizes: dict[int, int], tally: ConversionStats) -> Manifest:
        codecs = self.options.codecs(self.max_res)
        options, spec = self.recorded(), self.spec
        shard = options.pop("shard")
        reader = self.source.reader(self.max_res, self.options.seed)
        return Manifest(
            count=count,
            channels=self.options.channels or 3,
            resolutions=tuple(sorted(codecs)),
            codecs=codecs,
            bytes=sizes,
            source=spec if self.source.scalable else printable(os.path.basename(os.path.abspath(spec))),
            options=options,
            labels=self.source.label_columns,
            attribution=self.source.attribution,
            left_out=dict(tally.left_out),
            exact=codecs[self.max_res] in LOSSLESS and not reader.boxed,
            shard={"number": shard[0], "of": shard[1], "pictures": self.total} if shard else None,
            pggan=__version__,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )


def prepare(
    source: str,
    dest: str | Path,
    options: PrepareOptions | None = None,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
) -> PrepareReport:
    """Makes a store at `dest` from a source of pictures; `dest` appears when it is whole, and only then.

    Stopped by whatever, it leaves `dest`.partial, and the same call goes on from there. `on_plan` gets the estimate,
    `on_start` the number of pictures to be done, `on_progress` those done since its last call. Raises `DataError` for
    a source without usable pictures, a bad picture under `strict`, or too little disk; `UsageError` where `dest`
    exists, or the unfinished store is another command's; `OSError` (also `DiskFull`) where the disk fills up meanwhile.
    """
    options = options or PrepareOptions()
    place = Path(os.path.realpath(dest))
    check_destination(place, options.overwrite)
    start = time.monotonic()
    job = _Job.of(source, options)
    with staging_directory(place) as partial:
        progress = load_resume_point(partial, job.identity(place), options.overwrite)
        tally = ConversionStats(options.strict, options.whole, progress.notes)
        resumed = progress.consumed
        if progress.whole:  # stopped between its last transaction and its name
            with Store(partial) as store:
                manifest = store.manifest
        else:
            sample = True if on_plan is not None else False if options.force else None
            planned = job.estimate(place, resumed, sample)
            if on_plan is not None:
                on_plan(planned)
            if not options.force:
                planned.check_disk()
            if on_start is not None:
                on_start(job.count - resumed)
            manifest = _make(job, partial, progress, tally, on_progress, planned.bytes)
    return _report(str(dest), place, manifest, tally, resumed, time.monotonic() - start)


def plan(source: str, dest: str | Path, options: PrepareOptions | None = None) -> Plan:
    """What `prepare` would do; nothing is made. Raises as it does."""
    options = options or PrepareOptions()
    place = Path(os.path.realpath(dest))
    check_destination(place, options.overwrite)
    job = _Job.of(source, options)
    progress = load_resume_point(unfinished(place), job.identity(place), options.overwrite, clear=False)
    return job.estimate(place, progress.consumed, True)


def _make(
    job: _Job,
    partial: Path,
    progress: Progress,
    tally: ConversionStats,
    on_progress: Callable[[int], None] | None,
    estimate: int | None,
) -> Manifest:
    """Writes what is not there yet, and the manifest."""
    converter = job.converter()
    writer = StoreWriter(partial, converter.codecs, progress, tally.notes)
    try:
        with full_disk_told(writer, job.count, estimate):
            results = converted(converter, job.refs(progress.consumed), job.options.workers)
            with closing(results):  # workers end before the writer closes
                _write(results, writer, tally, on_progress)
            if not writer.count and job.options.shard is None:
                why = tally.why_none(job.max_res)
                raise Unusable(f"none of the {job.count} pictures of {job.spec} can be used: {why}")
            return writer.finish(job.manifest(writer.count, writer.sizes, tally))
    finally:
        writer.close()


def _write(
    results: Iterator[Converted], writer: StoreWriter, tally: ConversionStats, on_progress: Callable[[int], None] | None
) -> None:
    for result in results:
        if tally.take(result):
            assert result.records is not None
            writer.add(result.records, result.labels)
        else:
            writer.skip()
        if on_progress is not None:
            on_progress(1)


def _choose_resolution(source: Source, options: PrepareOptions, total: int) -> int:
    """As asked; else, for drawn faces 256, for files the largest power of two that 95 % of them reach."""
    if options.max_res is not None:
        return options.max_res
    if source.scalable:
        return DEFAULT_RESOLUTION
    reader = source.reader(LOWEST, options.seed)
    sides = []
    for ref in source.sample(SIZE_SAMPLE, total):
        try:
            sides.append(fitted_side(*reader.size(ref), options.fit))
        except BadPicture:
            continue  # named when its turn comes
    if not sides:
        raise DataError(f"none of the {total} pictures can be read; check that they are whole")
    reached = sorted(sides, reverse=True)[-(-len(sides) * REACHED_BY // 100) - 1]
    if reached < LOWEST:
        raise DataError(
            f"most pictures are smaller than {LOWEST}x{LOWEST}; give larger ones, or --max-res and --upscale"
        )
    return 1 << (min(reached, MAX_RESOLUTION).bit_length() - 1)


def _report(
    dest: str, place: Path, manifest: Manifest, tally: ConversionStats, resumed: int, seconds: float
) -> PrepareReport:
    return PrepareReport(
        path=dest,
        count=manifest.count,
        channels=manifest.channels,
        resolutions=list(manifest.resolutions),
        codecs=dict(manifest.codecs),
        bytes=dict(manifest.bytes),
        bytes_on_disk=(place / FILE).stat().st_size,
        left_out=dict(tally.left_out),
        bad=tally.bad,
        converted=dict(tally.converted),
        labels=[column.name for column in manifest.labels],
        attribution=manifest.attribution,
        resumed=resumed,
        seconds=round(seconds, 3),
    )
