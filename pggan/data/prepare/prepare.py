"""Prepares an LMDB store from image files: worker processes convert them, this process writes them in order."""

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
from pggan.data.label_columns import empty_classes
from pggan.data.photos.search_memory import forget_when_done, memory_path
from pggan.data.photos.typical import Features
from pggan.data.prepare.conversion_stats import ConversionStats
from pggan.data.prepare.convert import Converter
from pggan.data.prepare.faces import FaceProgress, align_source
from pggan.data.prepare.prepare_options import AUTO, PrepareOptions
from pggan.data.prepare.size_estimate import Plan, estimate
from pggan.data.sources import open_source
from pggan.data.sources.aligned import AlignedSource
from pggan.data.sources.base import BadImage, Ref, Source, bytes_carried
from pggan.data.sources.fingerprint import fingerprint, labels_beside
from pggan.data.sources.image_io import fitted_side
from pggan.data.sources.label_files import FOLDERS, NO_LABELS, with_labels
from pggan.data.sources.list_text import list_path, lists_above
from pggan.data.sources.synthetic import DEFAULT_RESOLUTION, DrawnSource
from pggan.data.store.manifest import LOSSLESS, Manifest, check_size
from pggan.data.store.pyramid import LOWEST
from pggan.data.store.resume import StoreProgress, load_resume_point, partial_path
from pggan.data.store.staging import UnusableStore, check_destination, staging_directory
from pggan.data.store.store import Store
from pggan.data.store.summary import StoreSummary
from pggan.data.store.writer import StoreWriter, explain_full_disk
from pggan.utils.errors import DataError, UsageError
from pggan.utils.formatting import printable
from pggan.utils.process_pool import ordered_map
from pggan.utils.version import __version__

__all__ = ["FaceProgress", "Plan", "PrepareOptions", "PrepareReport", "plan", "prepare"]

# The default resolution is the largest power of two that this percentage of the images reaches.
REACHED_BY = 95
# Images whose size is read to choose it.
SIZE_SAMPLE = 20_000
# Options that do not affect the content of the store.
_IRRELEVANT = ("workers", "overwrite", "force", "report")


@dataclass
class PrepareReport(StoreSummary):
    """Summary of a prepared store."""

    bad: list[dict[str, str]]  # unreadable images: name and reason of the first ones
    converted: dict[str, int]  # images, by conversion
    remark: str | None  # what of the source was passed over
    empty_classes: dict[str, list[str]]  # classes without images, by label column


@dataclass(frozen=True)
class _PrepareJob:
    """A source and how to prepare it, with "auto" options resolved."""

    spec: str  # the SOURCE argument
    source: Source
    options: PrepareOptions
    max_res: int
    total: int  # images of the source, at most --limit
    first: int  # of this shard
    last: int  # of this shard, exclusive

    @classmethod
    def of(
        cls,
        spec: str,
        options: PrepareOptions,
        faces: FaceProgress | None = None,
        features: Features | None = None,
        dest: Path | None = None,
    ) -> _PrepareJob:
        """Opens a source, and finds its faces for --align auto; these are remembered beside `dest`."""
        choices = {name: getattr(options, name) for name in ("dataset", "images_root", "member", "every")}
        source = open_source(spec, **choices)
        source = with_labels(source, options.labels, options.numbers)
        if options.align is not None:
            if isinstance(source, DrawnSource):
                raise UsageError("--align cuts faces out of photographs; drawn faces are aligned, leave it out")
            source = align_source(spec, source, options, faces, dest, features)
        options = replace(options, channels=options.channels or source.channels or 3)
        total = min(len(source), options.limit or len(source))
        number, of = options.shard or (1, 1)
        if not total:
            raise DataError(f"{spec} holds no pictures")
        if of > total:
            raise UsageError(f"--shard {number}/{of}: there are only {total} pictures; give at most {total} shards")
        max_res = _choose_resolution(source, options, total)  # from all images, so that shards agree
        return cls(spec, source, options, max_res, total, (number - 1) * total // of, number * total // of)

    @property
    def count(self) -> int:
        return self.last - self.first

    def converter(self) -> Converter:
        return self.options.converter(self.source.reader(self.max_res, self.options.seed), self.max_res)

    def refs(self, done: int) -> Iterator[Ref]:
        """Returns the references after the first `done`; a source that can only be streamed is read up to them."""
        return islice(self.source.refs(), self.first + done, self.last)

    def recorded(self) -> dict[str, Any]:
        """Returns the options that affect the content of the store."""
        options = {k: v for k, v in asdict(self.options).items() if k not in _IRRELEVANT and v != ()}
        if options["every"] is None:  # not of stores of before
            del options["every"]
        if isinstance(self.source, AlignedSource) and self.source.selection:
            options["typical_by"] = self.source.selection
        return {**options, "max_res": self.max_res}

    def identity(self, dest: Path) -> dict[str, Any]:
        """Returns what identifies the same command when it is run again."""
        own = {str(dest), str(partial_path(dest))}
        table = self.options.labels if self.options.labels not in (FOLDERS, NO_LABELS) else None
        files = [
            None if self.options.align == AUTO else self.options.align,
            self.options.images_root,
            table,
            *(list_path(self.spec, name) for name in lists_above(self.spec)),
            *(labels_beside(self.spec) if os.path.exists(self.spec) else ()),
            *(labels_beside(table) if table is not None else ()),
        ]
        return {
            "command": "prepare-data",
            "pggan": __version__,
            "digest": fingerprint(self.source.address or self.spec, files, own),
            "pictures": len(self.source),
            "options": self.recorded(),
        }

    def estimate(self, dest: Path, done: int, sample: bool | None) -> Plan:
        shard, workers = self.options.shard, self.options.workers
        return estimate(self.source, self.converter(), dest, self.count, done, shard, workers, sample, self.total)

    def manifest(self, count: int, sizes: dict[int, int], stats: ConversionStats) -> Manifest:
        """Returns the manifest of `count` stored images, without its digests. `sizes`: bytes by resolution."""
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
            source=self.source.address or (spec if self.source.scalable else _name_of(spec)),
            options=options,
            labels=self.source.label_columns,
            attribution=self.source.attribution,
            left_out=dict(stats.left_out),
            duplicates=dict(stats.groups),
            exact=codecs[self.max_res] in LOSSLESS and not reader.box_filtered,
            shard={"number": shard[0], "of": shard[1], "pictures": self.total} if shard else None,
            pggan=__version__,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )


def _name_of(spec: str) -> str:
    """Returns the name of a source's file or folder, without where it lies."""
    return printable(os.path.basename(os.path.abspath(spec)))


def _checked_place(source: str, dest: str | Path, options: PrepareOptions) -> Path:
    """Returns the real path of the new store. Raises `UsageError` where it or the report must not be made."""
    place = Path(os.path.realpath(dest))
    check_destination(place, options.overwrite)
    if Path(os.path.realpath(source)).is_relative_to(partial_path(place)):
        raise UsageError(f"{source} is where the unfinished store of {dest} would be; rename it, or give another DEST")
    if options.report is not None:
        goes_on = partial_path(place).exists() or memory_path(place).exists()
        _check_report(options.report, place, options.overwrite or goes_on)
    return place


def _check_report(report: str, place: Path, overwrite: bool) -> None:
    """Raises `UsageError` where the table of faces must not be written: before the search, not after it."""
    file = Path(os.path.realpath(report))
    if file.is_dir():
        raise UsageError(f"--report {report} is a directory; give a file name, as {Path(report) / 'faces.csv'}")
    if file.exists() and not file.is_file():
        raise UsageError(f"--report {report} is no file but a device or a pipe; give a file name")
    if any(file.is_relative_to(folder) for folder in (place, partial_path(place))):
        raise UsageError(f"--report {report} is where the store will be; give a file elsewhere")
    if not file.parent.is_dir():
        raise UsageError(f"--report {report}: there is no directory {file.parent}; make it, or give another file")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UsageError(f"--report {report}: {file.parent} is not writable; give a file elsewhere")
    if file.exists() and not overwrite:
        raise UsageError(
            f"--report {report} exists already, and somebody may have changed it; give another name, or --overwrite "
            "to replace it"
        )


def prepare(
    source: str,
    dest: str | Path,
    options: PrepareOptions | None = None,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_faces: FaceProgress | None = None,
    features: Features | None = None,
) -> PrepareReport:
    """Makes a store at `dest` from a source of images. `dest` appears only when the store is complete.

    An interrupted call leaves `dest`.partial; the same call resumes it.

    Args:
        source: The SOURCE argument, see `open_source`.
        dest: Directory of the new store.
        options: None for the defaults.
        on_start: Gets the number of images to process.
        on_progress: Gets the number of images processed since its last call.
        on_plan: Gets the estimate of size and time.
        on_faces: Shows the search for faces with --align auto.
        features: Network for --keep-typical; None: the shape of landmarks stands in.

    Raises:
        DataError: The source has no usable images, an image is bad under `strict`, or the disk is too small.
        UsageError: `dest` exists, or the unfinished store is another command's.
        OSError: The disk filled up meanwhile (`DiskFull`) or failed.
    """
    options = options or PrepareOptions()
    place = _checked_place(source, dest, options)
    start = time.monotonic()
    with forget_when_done(place):
        job = _PrepareJob.of(source, options, on_faces, features, place)
        with staging_directory(place) as partial:
            progress = load_resume_point(partial, job.identity(place), options.overwrite)
            stats = ConversionStats(options.strict, options.whole, progress.notes)
            resumed = progress.consumed
            if progress.complete:  # interrupted between the last transaction and the renaming
                with Store(partial) as store:
                    manifest = store.manifest
            else:
                planned = _checked_plan(job, place, resumed, on_plan)
                if on_start is not None:
                    on_start(job.count - resumed)
                check_size(job.manifest(0, {}, stats))  # before the work, not after it
                manifest = _write_store(job, partial, progress, stats, on_progress, planned.bytes)
    details: dict[str, Any] = {"remark": job.source.remark, "empty_classes": _empty_classes(place)}
    details |= {"bad": stats.bad, "converted": dict(stats.converted)}
    return PrepareReport.of(str(dest), place, manifest, resumed, time.monotonic() - start, **details)


def _checked_plan(job: _PrepareJob, place: Path, done: int, on_plan: Callable[[Plan], None] | None) -> Plan:
    """Estimates size and time, tells them, and checks the disk unless that is forced."""
    force = job.options.force
    planned = job.estimate(place, done, True if on_plan is not None else False if force else None)
    if on_plan is not None:
        on_plan(planned)
    if not force:
        planned.check_disk()
    return planned


def _empty_classes(place: Path) -> dict[str, list[str]]:
    """Returns the classes of a store that none of its images has, by column."""
    with Store(place) as store:
        return empty_classes(store.labels, store.manifest.labels)


def plan(
    source: str,
    dest: str | Path,
    options: PrepareOptions | None = None,
    on_faces: FaceProgress | None = None,
    features: Features | None = None,
) -> Plan:
    """Returns the plan of `prepare` without making anything. Raises as `prepare` does."""
    options = options or PrepareOptions()
    place = _checked_place(source, dest, options)
    job = _PrepareJob.of(source, options, on_faces, features)
    progress = load_resume_point(partial_path(place), job.identity(place), options.overwrite, clear=False)
    return job.estimate(place, progress.consumed, True)


def _write_store(
    job: _PrepareJob,
    partial: Path,
    progress: StoreProgress,
    stats: ConversionStats,
    on_progress: Callable[[int], None] | None,
    estimated_bytes: int | None,
) -> Manifest:
    """Converts and writes the images that `progress` lacks, then the manifest, which it returns."""
    converter = job.converter()
    writer = StoreWriter(partial, converter.codecs, progress, stats.notes)
    with closing(writer), explain_full_disk(writer, job.count, estimated_bytes):
        refs, workers = job.refs(progress.consumed), job.options.workers
        results = ordered_map(converter, refs, workers, weigh=lambda ref: bytes_carried(ref.payload))
        with closing(results):  # workers end before the writer closes
            for result in results:
                if stats.count(result):
                    assert result.records is not None
                    writer.add(result.records, result.labels)
                else:
                    writer.skip()
                if on_progress is not None:
                    on_progress(1)
        if not writer.count and job.options.shard is None:
            why = stats.why_none(job.max_res)
            raise UnusableStore(f"none of the {job.count} pictures of {job.spec} can be used: {why}")
        return writer.finish(job.manifest(writer.count, writer.sizes, stats))


def _choose_resolution(source: Source, options: PrepareOptions, total: int) -> int:
    """Returns --max-res; else 256 for drawn faces, and for files the largest power of two that 95 % of them reach."""
    if options.max_res is not None:
        return options.max_res
    if source.scalable:
        return DEFAULT_RESOLUTION
    reader = source.reader(LOWEST, options.seed)
    sides, first = [], ""
    for ref in source.sample(SIZE_SAMPLE, total):
        try:
            sides.append(fitted_side(*reader.size(ref), options.fit))
        except BadImage as bad:
            first = first or f"{printable(ref.name)}: {bad}"  # the conversion will report it
    if not sides:
        raise UnusableStore(
            f"none of the {total} pictures can be read; the first is {first}; check that SOURCE is whole"
        )
    reached = sorted(sides, reverse=True)[-(-len(sides) * REACHED_BY // 100) - 1]
    if reached < LOWEST:
        raise DataError(
            f"most pictures are smaller than {LOWEST}x{LOWEST}; give larger ones, or --max-res and --upscale"
        )
    return 1 << (min(reached, MAX_RESOLUTION).bit_length() - 1)
