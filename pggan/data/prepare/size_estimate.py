"""Estimates the size and time of a preparation from a sample of the images, and checks the free disk space."""

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

# Images converted for the estimate: at most this many, at most one in this many, for at most this many seconds.
MAX_SAMPLE, SAMPLE_SHARE, SAMPLE_SECONDS = 12, 8, 10.0
# Throughput of one of several worker processes relative to one alone: they share memory, cores and the writer.
PARALLEL_EFFICIENCY = 0.7


@dataclass(frozen=True)
class Plan:
    """A store about to be made, with estimates of its size and time. The field names are keys of `--json`."""

    dest: str
    pictures: int  # images to process, of this shard
    done: int  # of these, already processed by interrupted runs
    resolution: int  # the largest
    channels: int
    codecs: Mapping[int, str]  # by resolution
    shard: tuple[int, int] | None
    bytes: int | None  # estimated, of the whole store; None without a sample
    seconds: float | None  # estimated, of the rest; None without a sample
    sampled: int  # images converted for the estimate
    free: int  # bytes of the disk
    remark: str | None = None  # what is passed over of a source that holds more

    @property
    def more(self) -> int | None:
        """Estimated bytes still to be written."""
        return None if self.bytes is None else int(self.bytes * (1 - self.done / self.pictures))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "more": self.more}

    def __str__(self) -> str:
        """`about 38.0 GiB and 1:05:00 for 30000 pictures (from 12 of them)`."""
        pictures = f"{self.pictures} pictures"
        if self.bytes is None or self.seconds is None or self.more is None:
            return f"{self.done} of {pictures} are done" if self.done else pictures
        sample = f"(from {self.sampled} of them)"
        if self.done:
            more = f"about {size(self.more)} and {duration(self.seconds)} more"
            return f"going on after {self.done} of {pictures}: {more} {sample}"
        return f"about {size(self.bytes)} and {duration(self.seconds)} for {pictures} {sample}"

    def check_disk(self) -> None:
        """Raises `DataError` if the disk lacks room for the rest."""
        if self.more is not None and self.more > self.free:
            raise DataError(
                f"about {size(self.more)} are needed at {self.dest}, {size(self.free)} are free; free some space, "
                "choose a lower --max-res or --codec jpeg, or --force"
            )


def estimate(
    source: Source,
    converter: Converter,
    dest: Path,
    images: int,
    done: int,
    shard: tuple[int, int] | None,
    workers: int,
    sample: bool | None,
    among: int,
) -> Plan:
    """Plans a store of `images` images.

    Args:
        source: Where the images come from.
        converter: Converts them; a sample is converted here.
        dest: Path of the store.
        images: Images to process.
        done: Of these, already processed.
        shard: (i, n) of --shard, for the plan.
        workers: Worker processes that will convert.
        sample: Whether to convert a sample; None: only if raw images might not fit on the disk.
        among: Take the sample from this many first images of the source.
    """
    free = shutil.disk_usage(existing_parent(dest)).free
    if sample is None:
        raw_bytes = sum(side * side for side in converter.codecs) * converter.channels
        sample = images * (raw_bytes + PAGESIZE * len(converter.codecs)) >= free
    sizes, times = _convert_sample(source, converter, images, among) if sample and done < images else ([], [])
    seconds = None
    if times:
        per_image = sum(times[1:]) / (len(times) - 1) if len(times) > 1 else times[0]  # the first one warms up
        parallel = min(workers, available_cores())
        seconds = (images - done) * per_image / (parallel * (PARALLEL_EFFICIENCY if parallel > 1 else 1))
    return Plan(
        dest=str(dest),
        pictures=images,
        done=done,
        resolution=converter.max_res,
        channels=converter.channels,
        codecs=dict(sorted(converter.codecs.items())),
        shard=shard,
        bytes=int(images * sum(sizes) / len(sizes)) if sum(sizes) else None,
        seconds=None if seconds is None else round(seconds, 1),
        sampled=len(sizes),
        free=free,
        remark=source.remark,
    )


def _convert_sample(source: Source, converter: Converter, images: int, among: int) -> tuple[list[float], list[float]]:
    """Returns bytes on the disk (0 if left out) and seconds of a few images spread over the source."""
    sizes: list[float] = []
    times: list[float] = []
    begin = time.monotonic()
    count = min(MAX_SAMPLE, max(1, images // SAMPLE_SHARE))
    refs = iter(source.sample(count, among))
    while True:
        start = time.monotonic()
        ref = next(refs, None)
        if ref is None or start - begin > SAMPLE_SECONDS:
            return sizes, times
        records = converter(ref).records
        sizes.append(sum(bytes_on_disk(len(record)) for record in records.values()) if records is not None else 0)
        times.append(time.monotonic() - start)
