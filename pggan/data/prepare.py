"""Pictures to a store: read, fitted, halved down to 4x4 and encoded in worker processes, written in order by one."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import pggan
from pggan.data.align import AlignedSource
from pggan.data.codecs import choose_codecs
from pggan.data.convert import BAD, NOT_SQUARE, TOO_SMALL, Converted, Converter, converted
from pggan.data.destination import check_destination, existing_parent, under_construction
from pggan.data.imaging import fitted_side
from pggan.data.label_files import labelled
from pggan.data.pyramid import LOWEST
from pggan.data.sources import open_source
from pggan.data.sources.base import BadPicture, Reader, Source
from pggan.data.sources.drawn import DEFAULT_RESOLUTION
from pggan.data.store import FILE, Manifest
from pggan.data.writer import StoreWriter, bytes_on_disk
from pggan.errors import DataError, UsageError
from pggan.resolutions import MAX_RESOLUTION, level_of
from pggan.words import size

FITS = ("crop", "pad", "reject")
# The default resolution is one that so many of a hundred pictures reach.
REACHED_BY = 95
# Pictures whose size is looked at to choose it, and pictures converted to estimate the store's size.
SIZE_SAMPLE, ESTIMATE_SAMPLE = 20_000, 12
NAMED_BAD = 100


@dataclass(frozen=True)
class PrepareOptions:
    """How pictures become a store. `max_res` None: the largest power of two that 95 % of the pictures reach.

    `codec`: as `choose_codecs`. `channels` None: 1 where the source is grey throughout, else 3. `labels`: "folders" or
    a file of labels; None: the source's own. `align`: a file of face landmarks, by which faces are cut out upright.
    `fit`: what non-square pictures become. `strict`: a bad picture is an error; `whole`: any that is left out is.
    Raises `UsageError`, naming the option.
    """

    max_res: int | None = None
    codec: str | None = None
    quality: int = 95
    channels: int | None = None
    labels: str | None = None
    align: str | None = None
    fit: str = "crop"
    upscale: bool = False
    limit: int | None = None
    strict: bool = False
    whole: bool = False
    seed: int = 0
    workers: int = 1
    overwrite: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.max_res is not None:
            try:
                level_of(self.max_res)
            except UsageError as error:
                raise UsageError(f"--max-res: {error}") from None
        choose_codecs(self.codec, ())
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality} is not from 1 to 100")
        if self.channels not in (1, 3, None):
            raise UsageError(f"--channels {self.channels} is neither 1 (grey) nor 3 (RGB)")
        if self.fit not in FITS:
            raise UsageError(f"--fit {self.fit} is none of {', '.join(FITS)}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} is below 1")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is below 0")
        if not 1 <= self.workers <= 256:
            raise UsageError(f"--workers {self.workers} is not from 1 to 256")

    def codecs(self, max_res: int) -> dict[int, str]:
        assert self.channels is not None
        sides = [2**level for level in range(level_of(LOWEST), level_of(max_res) + 1)]
        return choose_codecs(self.codec, sides, self.channels)

    def converter(self, reader: Reader, max_res: int) -> Converter:
        assert self.channels is not None
        return Converter(
            reader, max_res, self.channels, self.fit, self.upscale, self.quality, codecs=self.codecs(max_res)
        )


@dataclass
class PrepareReport:
    """What was made. `left_out` by reason, `bad` the first of them by name, `converted` by kind."""

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
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def prepare(
    source: str,
    dest: str | Path,
    options: PrepareOptions | None = None,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> PrepareReport:
    """Makes a store at `dest` from a source of pictures; `dest` appears when it is whole, and only then.

    `on_start` gets the number of pictures, `on_progress` the pictures done since its last call. Raises `DataError` for
    a source without usable pictures, a bad picture under `strict`, or too little disk; `UsageError` where `dest`
    exists; `OSError` where the disk fills up meanwhile.
    """
    options = options or PrepareOptions()
    place = Path(os.path.realpath(dest))
    check_destination(place, options.overwrite)
    start = time.monotonic()
    opened = labelled(open_source(source), options.labels)
    if options.align is not None:
        opened = AlignedSource(opened, options.align)
    options = replace(options, channels=options.channels or opened.channels or 3)
    total = min(len(opened), options.limit or len(opened))
    max_res = _choose_resolution(opened, options, total)
    converter = options.converter(opened.reader(max_res, options.seed), max_res)
    if not options.force:
        _check_disk(opened, converter, place, total)
    if on_start is not None:
        on_start(total)
    tally = _Tally(options.strict, options.whole)
    with under_construction(place) as partial:
        writer = StoreWriter(partial, converter.codecs)
        try:
            results = converted(converter, islice(opened.refs(), total), options.workers)
            with closing(results):  # workers end before the unfinished store goes
                _write(results, writer, tally, on_progress)
            if not writer.count:
                raise DataError(f"none of the {total} pictures of {source} can be used: {tally.why_none(max_res)}")
            manifest = _manifest(opened, source, options, writer, tally, max_res)
            writer.finish(manifest)
        finally:
            writer.close()
    return _report(str(dest), place, manifest, tally, time.monotonic() - start)


def _write(
    results: Iterator[Converted], writer: StoreWriter, tally: _Tally, on_progress: Callable[[int], None] | None
) -> None:
    for result in results:
        if tally.take(result):
            assert result.records is not None
            writer.add(result.records, result.labels)
        if on_progress is not None:
            on_progress(1)


class _Tally:
    """Counts what came of the pictures."""

    def __init__(self, strict: bool, whole: bool) -> None:
        self.strict, self.whole = strict, whole
        self.left_out: Counter[str] = Counter()
        self.converted: Counter[str] = Counter()
        self.bad: list[dict[str, str]] = []
        self.first = ""

    def take(self, result: Converted) -> bool:
        """Whether the picture is used. Raises `DataError` for a bad one under --strict."""
        if result.records is not None:
            self.converted.update(result.notes)
            return True
        name = printable(result.name)
        self.left_out[result.kind] += 1
        self.first = self.first or f"{name}: {result.kind} ({result.reason})"
        if self.whole:
            raise DataError(f"{self.first}; the set is to be taken whole, mend or replace this picture")
        if result.kind == BAD:
            if self.strict:
                raise DataError(f"{name}: {result.reason} (--strict); mend or remove it, or leave --strict out")
            if len(self.bad) < NAMED_BAD:
                self.bad.append({"name": name, "reason": result.reason})
        return False

    def why_none(self, max_res: int) -> str:
        if set(self.left_out) == {TOO_SMALL}:
            return f"they are smaller than {max_res}x{max_res}; give a lower --max-res, or --upscale"
        if set(self.left_out) == {NOT_SQUARE}:
            return "none is square; give --fit crop or pad"
        return f"the first is {self.first}; check that SOURCE is whole"


def printable(name: str) -> str:
    """A file's name as it can be shown and stored anywhere: bytes that are no text, and control characters, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


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


def _check_disk(source: Source, converter: Converter, dest: Path, total: int) -> None:
    """Refuses to start on a disk that the store, estimated from a few pictures, would not fit on."""
    free = shutil.disk_usage(existing_parent(dest)).free
    raw = sum(side * side for side in converter.codecs) * converter.channels
    if total * (raw + PAGESIZE * len(converter.codecs)) < free:
        return  # it fits whatever the pictures are
    sizes = [
        sum(bytes_on_disk(len(record)) for record in result.records.values())
        for ref in source.sample(ESTIMATE_SAMPLE, total)
        if (result := converter(ref)).records is not None
    ]
    if not sizes:
        return
    need = int(total * sum(sizes) / len(sizes))
    if need > free:
        raise DataError(
            f"about {size(need)} are needed at {dest}, {size(free)} are free; free some space, "
            "choose a lower --max-res or --codec jpeg, or --force"
        )


def _manifest(
    source: Source, spec: str, options: PrepareOptions, writer: StoreWriter, tally: _Tally, max_res: int
) -> Manifest:
    recorded = {k: v for k, v in asdict(options).items() if k not in ("workers", "overwrite", "force")}
    return Manifest(
        count=writer.count,
        channels=options.channels or 3,
        resolutions=tuple(sorted(writer.codecs)),
        codecs=writer.codecs,
        bytes=writer.bytes,
        source=spec if source.scalable else printable(os.path.basename(os.path.abspath(spec))),
        options={**recorded, "max_res": max_res},
        labels=source.label_columns,
        attribution=source.attribution,
        left_out=dict(tally.left_out),
        pggan=pggan.__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _report(dest: str, place: Path, manifest: Manifest, tally: _Tally, seconds: float) -> PrepareReport:
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
        seconds=round(seconds, 3),
    )
