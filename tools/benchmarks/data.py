"""Throughput of prepare-data, compared with the bare time of decoding, pyramid and encoding."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from multiprocessing import active_children
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.measuring import as_json, machine, processor_seconds, show
from pggan.data.photos.face_detection import FaceDetector
from pggan.data.photos.face_search import FaceChoice, find_faces
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import fit_to_square, to_pil
from pggan.data.store.codecs import encode
from pggan.data.store.pyramid import pyramid
from pggan.utils.errors import DataError
from pggan.utils.process_pool import available_cores

FORMATS = {"jpeg": {"quality": 95}, "png": {}}
# Images on which the bare parts are timed, in each round.
SAMPLE = 12

FACE_COLUMNS = {
    "rate": "pictures/s", "limit": "bare limit", "ratio": "ratio", "faces": "faces a picture",
    "parent_mb": "parent MiB", "worker_mb": "worker MiB",
}  # fmt: skip
COLUMNS = {
    "format": "from", "rate": "pictures/s", "limit": "bare limit", "ratio": "ratio", "of_cpu": "by CPU time",
    "decode": "decode ms", "pyramid": "pyramid ms", "encode": "encode ms", "pyramid_share": "pyramid share",
    "parent_mb": "parent MiB", "growth_mb": "grown by MiB", "worker_mb": "worker MiB",
}  # fmt: skip


@click.command("data")
@click.argument("source", required=False)
@click.option("--max-res", type=int, default=1024, show_default=True)
@click.option(
    "--count", type=click.IntRange(2), default=200, show_default=True, help="Pictures prepared in each round."
)
@click.option("--format", "formats", multiple=True, type=click.Choice(list(FORMATS)), help="Default: jpeg and png.")
@click.option("--codec", help="As for prepare-data.")
@click.option("--workers", type=click.IntRange(1), help="Default: as many as there are cores.")
@click.option("--align", type=click.Choice(["auto"]), help="Measure the search for faces in SOURCE instead.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@as_json
def command(source: str | None, as_json: bool, **given: Any) -> None:
    """Pictures a second of prepare-data on pictures of SOURCE (default: drawn faces with noise), as JPEGs and as PNGs.

    The bare limit is what the cores would do if they did nothing but decode, halve and encode: cores / (sum of the
    times of a picture on one core). Goals: ratio 0.8; pyramid under 15 %. "by CPU time": the share of the processor
    time spent, starting included, that those three need; other programs do not lower it. Memory: resident, without
    the files that are mapped; the parent's growth is that from the first half of the pictures to the second.
    """
    workers = given["workers"] or available_cores()
    if given["align"]:
        rows = [_face_round(source, given["count"], workers) for _ in range(given["rounds"])]
        show({"machine": machine(), "workers": workers, "rows": rows}, "rows", FACE_COLUMNS, as_json)
        return
    options = PrepareOptions(max_res=given["max_res"], codec=given["codec"], workers=workers, upscale=True)
    rows = []
    for name in given["formats"] or FORMATS:
        with tempfile.TemporaryDirectory(prefix="pggan-benchmark-") as place:
            folder = Path(place) / "pictures"
            _write(source, folder, name, given["max_res"], given["count"])
            rounds = [_round(folder, Path(place) / f"store{at}", options) for at in range(given["rounds"])]
        rows.append({"format": name, **{key: median([one[key] for one in rounds]) for key in rounds[0]}})
    result = {"machine": machine(), "workers": workers, "max_res": given["max_res"], "count": given["count"]}
    show({**result, "rows": rows}, "rows", COLUMNS, as_json)


def _face_round(source: str | None, count: int, workers: int) -> dict[str, float]:
    """Pictures a second of the search for faces, beside what the cores would do if they did nothing but detect."""
    opened = open_source(source or "drawn:16")
    images = list(islice(_pictures(source, 1024), SAMPLE))
    detector, memory = FaceDetector(), _Memory()
    detector.faces(images[0])  # it opens its file
    start = time.process_time()
    found = [len(detector.faces(image)) for image in images]
    limit = min(workers, available_cores()) * len(images) / (time.process_time() - start)
    start = time.perf_counter()
    table = find_faces(opened, FaceChoice(which="all"), workers, memory.look, count)
    rate = len({row.file for row in table.rows}) / (time.perf_counter() - start)
    return {"rate": rate, "limit": limit, "ratio": rate / limit, "faces": sum(found) / len(found), **memory.result()}


def _write(source: str | None, folder: Path, name: str, side: int, count: int) -> None:
    """Writes `count` files of a format, repeating the images of a source."""
    folder.mkdir()
    for at, image in enumerate(islice(_pictures(source, side), count)):
        to_pil(image).save(folder / f"{at:06d}.{name}", name.upper(), **FORMATS[name])


def _pictures(source: str | None, side: int) -> Iterator[np.ndarray]:
    opened = open_source(source or "drawn:16")
    reader, random, images = opened.reader(side, 0), np.random.default_rng(0), []
    for ref in opened.sample(64, len(opened)):
        try:
            image = fit_to_square(reader.read(ref, 3).image, side, "crop")
        except BadImage:
            continue
        if source is None:  # as photographs have; drawn areas are flat
            image = np.clip(image + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        images.append(image)
        yield image
    if not images:
        raise DataError(f"{source} holds no pictures that can be read")
    yield from cycle(images)


def _round(folder: Path, dest: Path, options: PrepareOptions) -> dict[str, float]:
    bare = _bare(folder, options)
    needed = bare.pop("cpu")
    total, memory = sum(bare.values()), _Memory()
    start, used = time.perf_counter(), processor_seconds()
    report = prepare(str(folder), dest, options, on_progress=memory.look)
    throughput, used = report.count / (time.perf_counter() - start), processor_seconds() - used
    limit = min(options.workers, available_cores()) / total
    return {
        **{part: 1000 * seconds for part, seconds in bare.items()},
        "rate": throughput,
        "limit": limit,
        "ratio": throughput / limit,
        "of_cpu": needed * report.count / max(used, 1e-9),
        "pyramid_share": bare["pyramid"] / total,
        **memory.result(),
    }


def _bare(folder: Path, options: PrepareOptions) -> dict[str, float]:
    """Returns seconds per image in this process: "decode", "pyramid", "encode" (medians), and their CPU time, "cpu"."""
    source = open_source(str(folder))
    assert options.max_res is not None
    reader = source.reader(options.max_res, 0)
    codecs = PrepareOptions(max_res=options.max_res, codec=options.codec, channels=3).codecs(options.max_res)
    times: dict[str, list[float]] = {"decode": [], "pyramid": [], "encode": []}
    used, refs = time.process_time(), list(source.sample(SAMPLE, len(source)))
    for ref in refs:
        marks = [time.perf_counter()]
        image = reader.read(ref, 3).image
        marks.append(time.perf_counter())
        levels = pyramid(image)
        marks.append(time.perf_counter())
        for side, codec in codecs.items():
            encode(levels[side], codec, options.quality)
        marks.append(time.perf_counter())
        for part, begin, end in zip(times, marks, marks[1:]):
            times[part].append(end - begin)
    cpu = (time.process_time() - used) / len(refs)
    return {**{part: median(seconds) for part, seconds in times.items()}, "cpu": cpu}


class _Memory:
    """Samples the resident memory of this process and its workers; zeros on systems without /proc."""

    def __init__(self) -> None:
        self.own: list[int] = []
        self.workers = 0

    def look(self, _: int) -> None:
        self.own.append(_resident("self"))
        for child in active_children():
            self.workers = max(self.workers, _resident(str(child.pid)))

    def result(self) -> dict[str, float]:
        half = len(self.own) // 2
        first, second = max(self.own[:half], default=0), max(self.own[half:], default=0)
        return {
            "parent_mb": max(first, second) / 1024,
            "growth_mb": max(0, second - first) / 1024,
            "worker_mb": self.workers / 1024,
        }


def _resident(process: str) -> int:
    """Returns a process's private resident memory in KiB."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)
