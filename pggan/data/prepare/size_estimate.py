"""What a preparation will take, from a sample of the pictures; and whether the disk has it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

from pggan.data.prepare.convert import Converter
from pggan.data.sources.base import Source
from pggan.data.store.staging import existing_parent
from pggan.data.store.writer import bytes_on_disk
from pggan.utils.errors import DataError
from pggan.utils.formatting import duration, size
from pggan.utils.process_pool import available_cores

# Pictures converted to estimate size and time, at most; one in so many of few; and no more after so many seconds.
SAMPLE, SAMPLE_SHARE, SAMPLE_SECONDS = 12, 8, 10.0
# What a worker process gets done of what it would alone: they share memory, cores and the process that writes.
PARALLEL = 0.7


@dataclass(frozen=True)
class Plan:
    """What is to be made. `pictures` are looked at, `done` of them already; `codecs` by resolution.

    `bytes` of the store on the disk and `seconds` of the rest are estimates from `sampled` pictures, None without;
    `free`: bytes of the disk.
    """

    dest: str
    pictures: int
    done: int
    resolution: int
    channels: int
    codecs: Mapping[int, str]
    shard: tuple[int, int] | None
    bytes: int | None
    seconds: float | None
    sampled: int
    free: int

    @property
    def more(self) -> int | None:
        """Bytes still to be written."""
        return None if self.bytes is None else int(self.bytes * (1 - self.done / self.pictures))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "more": self.more}

    def __str__(self) -> str:
        """`about 38.0 GiB and 1:05:00 for 30000 pictures (from 12 of them)`."""
        what = f"{self.pictures} pictures"
        if self.bytes is None or self.seconds is None or self.more is None:
            return f"{self.done} of {what} are done" if self.done else what
        sample = f"(from {self.sampled} of them)"
        if self.done:
            more = f"about {size(self.more)} and {duration(self.seconds)} more"
            return f"going on after {self.done} of {what}: {more} {sample}"
        return f"about {size(self.bytes)} and {duration(self.seconds)} for {what} {sample}"

    def check_disk(self) -> None:
        """Raises `DataError` where it does not fit."""
        if self.more is not None and self.more > self.free:
            raise DataError(
                f"about {size(self.more)} are needed at {self.dest}, {size(self.free)} are free; free some space, "
                "choose a lower --max-res or --codec jpeg, or --force"
            )


def estimate(
    source: Source,
    converter: Converter,
    dest: Path,
    pictures: int,
    done: int = 0,
    shard: tuple[int, int] | None = None,
    workers: int = 1,
    sample: bool | None = True,
    among: int | None = None,
) -> Plan:
    """The plan of a store of `pictures` pictures, `among` (None: all) the first of the source.

    `sample` None: only where they might not fit on the disk.
    """
    free = shutil.disk_usage(existing_parent(dest)).free
    if sample is None:
        raw = sum(side * side for side in converter.codecs) * converter.channels
        sample = pictures * (raw + PAGESIZE * len(converter.codecs)) >= free
    sizes, times = (
        _sampled(source, converter, pictures, among or len(source)) if sample and done < pictures else ([], [])
    )
    seconds = None
    if times:
        each = sum(times[1:]) / (len(times) - 1) if len(times) > 1 else times[0]  # the first one warms up
        at_once = min(workers, available_cores())
        seconds = (pictures - done) * each / (at_once * (PARALLEL if at_once > 1 else 1))
    return Plan(
        str(dest),
        pictures,
        done,
        converter.max_res,
        converter.channels,
        dict(sorted(converter.codecs.items())),
        shard,
        int(pictures * sum(sizes) / len(sizes)) if sum(sizes) else None,
        None if seconds is None else round(seconds, 1),
        len(sizes),
        free,
    )


def _sampled(source: Source, converter: Converter, pictures: int, among: int) -> tuple[list[float], list[float]]:
    """Bytes on the disk (nothing for what is left out) and seconds of a few pictures, spread over the source."""
    sizes: list[float] = []
    times: list[float] = []
    begun = time.monotonic()
    count = min(SAMPLE, max(1, pictures // SAMPLE_SHARE))
    refs = iter(source.sample(count, among))
    while True:
        start = time.monotonic()
        ref = next(refs, None)
        if ref is None or start - begun > SAMPLE_SECONDS:
            return sizes, times
        records = converter(ref).records
        sizes.append(sum(bytes_on_disk(len(record)) for record in records.values()) if records is not None else 0)
        times.append(time.monotonic() - start)
