"""Pictures to a store: read, fitted, halved down to 4x4 and encoded in worker processes, written in order by one."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pggan
from pggan.config import level_of
from pggan.data.codecs import CODECS, default_codec, encode
from pggan.data.imaging import fit
from pggan.data.pyramid import LOWEST, pyramid
from pggan.data.sources import open_source
from pggan.data.sources.base import BadPicture, Reader, Ref, Source
from pggan.data.sources.drawn import DEFAULT_RESOLUTION
from pggan.data.store import Manifest, StoreWriter
from pggan.errors import DataError, UsageError

FITS = ("crop", "pad", "reject")
# The default resolution is one that this share of the pictures reach.
REACHED_BY = 0.95
# Pictures whose size is looked at to choose it, and pictures converted to estimate the store's size.
SIZE_SAMPLE, ESTIMATE_SAMPLE = 20_000, 12
# Tasks on their way per worker: enough to keep it busy, few enough to bound the memory.
IN_FLIGHT = 4
NAMED_BAD = 100


@dataclass(frozen=True)
class PrepareOptions:
    """How pictures become a store. `max_res` None: the largest power of two that 95 % of the pictures reach.

    `codec` None: raw to 64x64, lossless WebP above; else the codec above 64x64. `fit`: what non-square pictures become.
    """

    max_res: int | None = None
    codec: str | None = None
    quality: int = 95
    channels: int = 3
    fit: str = "crop"
    upscale: bool = False
    limit: int | None = None
    strict: bool = False
    seed: int = 0
    workers: int = 1
    overwrite: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.max_res is not None:
            level_of(self.max_res)
        if self.codec is not None and self.codec not in CODECS:
            raise UsageError(f"--codec {self.codec} is none of {', '.join(CODECS)}")
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality} is not from 1 to 100")
        if self.channels not in (1, 3):
            raise UsageError(f"--channels {self.channels} is neither 1 (grey) nor 3 (RGB)")
        if self.fit not in FITS:
            raise UsageError(f"--fit {self.fit} is none of {', '.join(FITS)}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} is below 1")
        if not 1 <= self.workers <= 256:
            raise UsageError(f"--workers {self.workers} is not from 1 to 256")

    def codecs(self, max_res: int) -> dict[int, str]:
        sides = [2**level for level in range(level_of(LOWEST), level_of(max_res) + 1)]
        chosen = {side: default_codec(side) for side in sides}
        if self.codec is not None:
            chosen = {side: "raw" if codec == "raw" else self.codec for side, codec in chosen.items()}
        return chosen


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


class Converted(NamedTuple):
    """A picture's records by resolution, or why there are none."""

    name: str
    records: dict[int, bytes] | None
    labels: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    too_small: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Converter:
    """Turns a reference into records; what a worker process holds."""

    reader: Reader
    options: PrepareOptions
    max_res: int
    codecs: dict[int, str] = field(default_factory=dict)

    def __call__(self, ref: Ref) -> Converted:
        try:
            picture = self.reader.read(ref, self.options.channels)
            height, width = picture.image.shape[:2]
            if min(height, width) < self.max_res and not self.options.upscale:
                return Converted(ref.name, None, too_small=True, reason=f"{width}x{height} is too small")
            notes = picture.notes
            if height != width:
                notes = (*notes, "padded to a square" if self.options.fit == "pad" else "cropped to a square")
            if min(height, width) != self.max_res:
                notes = (*notes, "resized")
            image = fit(picture.image, self.max_res, self.options.fit)
        except BadPicture as bad:
            return Converted(ref.name, None, reason=str(bad))
        except MemoryError:
            return Converted(ref.name, None, reason="too large for the memory")
        levels = pyramid(image)
        records = {side: encode(levels[side], codec, self.options.quality) for side, codec in self.codecs.items()}
        return Converted(ref.name, records, picture.labels, notes)


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
    exists.
    """
    options = options or PrepareOptions()
    dest = Path(dest)
    _check_destination(dest, options.overwrite)
    start = time.monotonic()
    opened = open_source(source)
    total = min(len(opened), options.limit or len(opened))
    max_res = _choose_resolution(opened, options, total)
    converter = Converter(opened.reader(max_res, options.seed), options, max_res, options.codecs(max_res))
    _check_disk(opened, converter, dest, total)
    if on_start is not None:
        on_start(total)
    partial = dest.with_name(dest.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    writer = StoreWriter(partial, converter.codecs)
    tally = _Tally(options.strict)
    try:
        for result in _converted(converter, islice(opened.refs(), total), options.workers):
            if tally.take(result):
                assert result.records is not None
                writer.add(result.records, result.labels)
            if on_progress is not None:
                on_progress(1)
        if not writer.count:
            raise DataError(f"none of the {total} pictures of {source} can be used: {tally.first_reason(max_res)}")
        manifest = _manifest(opened, source, options, writer, tally, max_res)
        writer.finish(manifest)
        _move_into_place(partial, dest)
    except BaseException as error:
        writer.close()
        shutil.rmtree(partial, ignore_errors=True)
        if type(error).__name__ == "DiskError":  # lmdb's, for a full disk or one that fails
            raise DataError(f"writing to {dest} failed ({error}); free some space, then run the same again") from None
        raise
    return _report(dest, manifest, tally, time.monotonic() - start)


class _Tally:
    """Counts what came of the pictures."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.left_out: Counter[str] = Counter()
        self.converted: Counter[str] = Counter()
        self.bad: list[dict[str, str]] = []
        self.small = ""

    def take(self, result: Converted) -> bool:
        """Whether the picture is used. Raises `DataError` for a bad one under --strict."""
        if result.records is not None:
            self.converted.update(result.notes)
            return True
        if result.too_small:
            self.left_out["too small"] += 1
            self.small = self.small or result.reason
            return False
        if self.strict:
            raise DataError(f"{result.name}: {result.reason} (--strict); mend or remove it, or leave --strict out")
        self.left_out["bad"] += 1
        if len(self.bad) < NAMED_BAD:
            self.bad.append({"name": result.name, "reason": result.reason})
        return False

    def first_reason(self, max_res: int) -> str:
        if self.bad:
            return f"{self.bad[0]['name']}: {self.bad[0]['reason']}"
        return f"they are smaller than {max_res}x{max_res}; give a lower --max-res, or --upscale"


def _check_destination(dest: Path, overwrite: bool) -> None:
    if dest.is_dir() and any(dest.iterdir()):
        if not overwrite:
            raise UsageError(f"{dest} exists already; give another DEST, or --overwrite to replace it")
        if not (dest / "data.mdb").is_file():
            raise UsageError(f"{dest} is no data store, so --overwrite does not replace it; give another DEST")
    elif dest.exists() and not dest.is_dir():
        raise UsageError(f"{dest} is a file; give a directory to be made as DEST")
    dest.parent.mkdir(parents=True, exist_ok=True)


def _choose_resolution(source: Source, options: PrepareOptions, total: int) -> int:
    """As asked; else, for drawn faces 256, for files the largest power of two that 95 % of them reach."""
    if options.max_res is not None:
        return options.max_res
    if source.scalable:
        return DEFAULT_RESOLUTION
    reader = source.reader(LOWEST, options.seed)
    step = -(-total // SIZE_SAMPLE)
    sides = []
    for ref in islice(source.refs(), 0, total, step):
        try:
            sides.append(min(reader.size(ref)))
        except BadPicture:
            continue  # named when its turn comes
    if not sides:
        raise DataError(f"none of the {total} pictures can be read; check that they are whole")
    reached = sorted(sides, reverse=True)[max(0, -(-len(sides) * 95 // 100) - 1)]
    if reached < LOWEST:
        raise DataError(f"most pictures are smaller than {LOWEST}x{LOWEST}; give larger ones")
    return 1 << (min(reached, 1024).bit_length() - 1)


def _check_disk(source: Source, converter: Converter, dest: Path, total: int) -> None:
    """Refuses to start on a disk that the store, estimated from a few pictures, would not fit on."""
    step = max(1, total // ESTIMATE_SAMPLE)
    sizes = [
        sum(map(len, result.records.values()))
        for ref in islice(source.refs(), 0, min(total, step * ESTIMATE_SAMPLE), step)
        if (result := converter(ref)).records is not None
    ]
    if not sizes or converter.options.force:
        return
    # LMDB rounds records of more than half a page up to whole pages
    per_picture = sum(sizes) / len(sizes) + 2048 * len(converter.codecs)
    need, free = int(per_picture * total), shutil.disk_usage(dest.parent).free
    if need > free:
        raise DataError(
            f"about {need / 2**30:.1f} GiB are needed at {dest}, {free / 2**30:.1f} GiB are free; free some space, "
            "choose a lower --max-res or --codec jpeg, or --force"
        )


def _converted(converter: Converter, refs: Iterator[Ref], workers: int) -> Iterator[Converted]:
    """Results in order, made here or in worker processes, with a bounded number on their way."""
    if workers == 1:
        yield from map(converter, refs)
        return
    context = multiprocessing.get_context("spawn")  # no fork: threads and open files stay where they are
    waiting: deque[Future[Converted]] = deque()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(converter,))
    try:
        for ref in refs:
            waiting.append(pool.submit(_work, ref))
            if len(waiting) >= IN_FLIGHT * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError("a worker process died (out of memory?); try fewer --workers") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_converter: Converter | None = None


def _begin_worker(converter: Converter) -> None:
    global _converter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    _converter = converter


def _work(ref: Ref) -> Converted:
    assert _converter is not None
    return _converter(ref)


def _manifest(
    source: Source, spec: str, options: PrepareOptions, writer: StoreWriter, tally: _Tally, max_res: int
) -> Manifest:
    recorded = {k: v for k, v in asdict(options).items() if k not in ("workers", "overwrite", "force")}
    return Manifest(
        count=writer.count,
        channels=options.channels,
        resolutions=tuple(sorted(writer.codecs)),
        codecs=writer.codecs,
        bytes=writer.bytes,
        source=spec if source.scalable else os.path.basename(os.path.abspath(spec)),
        options={**recorded, "max_res": max_res},
        labels=source.label_columns,
        attribution=source.attribution,
        left_out=dict(tally.left_out),
        pggan=pggan.__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _move_into_place(partial: Path, dest: Path) -> None:
    """The new store takes its name; what was there before goes only then."""
    if not dest.exists() or not any(dest.iterdir()):
        if dest.exists():
            dest.rmdir()
        os.replace(partial, dest)
        return
    old = dest.with_name(dest.name + ".replaced")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(dest, old)
    os.replace(partial, dest)
    shutil.rmtree(old, ignore_errors=True)


def _report(dest: Path, manifest: Manifest, tally: _Tally, seconds: float) -> PrepareReport:
    return PrepareReport(
        path=str(dest),
        count=manifest.count,
        channels=manifest.channels,
        resolutions=list(manifest.resolutions),
        codecs=dict(manifest.codecs),
        bytes=dict(manifest.bytes),
        bytes_on_disk=(dest / "data.mdb").stat().st_size,
        left_out=dict(tally.left_out),
        bad=tally.bad,
        converted=dict(tally.converted),
        labels=[column.name for column in manifest.labels],
        attribution=manifest.attribution,
        seconds=round(seconds, 3),
    )
