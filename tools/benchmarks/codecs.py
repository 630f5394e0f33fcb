"""Benchmark of lossless codecs: size, time to write, time to read, and the hours that a whole run spends on them."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from importlib import import_module
from itertools import islice
from statistics import mean, median
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measuring import Numbers, as_json, machine, show
from pggan.config.presets import configure
from pggan.config.schedule import Schedule
from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import fit_to_square
from pggan.data.store.codecs import MAX_RAW
from pggan.utils.errors import DataError

Pixels = NDArray[np.uint8]  # (R, R, 3)


class Codec(NamedTuple):
    """A lossless way to store an image."""

    encode: Callable[[Pixels], bytes]
    decode: Callable[[bytes], Pixels]


@click.command("codecs")
@click.argument("source")
@click.option("--resolution", type=click.IntRange(8, 1024), default=1024, show_default=True)
@click.option("--count", type=click.IntRange(1), default=8, show_default=True, help="Pictures measured.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--preset", default="celebahq-v2-1gpu", show_default=True, help="The run whose hours are computed.")
@click.option("--pictures", type=click.IntRange(1), default=30_000, show_default=True, help="Those of the data set.")
@click.option("--cores", type=Numbers(), default="2,8,32", show_default=True)
@as_json
def command(source: str, as_json: bool, **given: Any) -> None:
    """Lossless codecs on pictures of SOURCE: those of Pillow, PNG by OpenCV, and JPEG XL where its plug-in is.

    Times are processor time of one thread: each codec's on every picture, in turns, medians of the rounds. The hours
    are computed: one writing of the pictures, and one decoding of every image above 64x64 that the preset shows, at
    this resolution's time by the pixel, shared evenly by the cores. The network's own time is not part of them.
    """
    images = _images(source, given["resolution"], given["count"])
    codecs = available_codecs()
    rounds: dict[str, list[tuple[int, float, float]]] = {name: [] for name in codecs}
    for codec in codecs.values():
        _measure(codec, images[0])  # the first call of a library loads it
    for _ in range(given["rounds"]):
        for name, codec in codecs.items():
            rounds[name] += [_measure(codec, image) for image in images]
    megapixels = given["resolution"] ** 2 / 1e6
    work = megapixels_of(given["preset"], given["pictures"])
    rows = []
    for name, figures in rounds.items():
        # the median over the rounds of each picture, then the mean of the pictures
        sizes, writes, reads = (
            mean(median(figure[part] for figure in figures[number :: len(images)]) for number in range(len(images)))
            for part in range(3)
        )
        spent = (work[0] * writes + work[1] * reads) / megapixels / 3600
        hours = {f"hours{cores}": spent / cores for cores in given["cores"]}
        rows.append({"codec": name, "kib": sizes / 1024, "write_ms": writes * 1e3, "read_ms": reads * 1e3, **hours})
    columns = {"codec": "codec", "kib": "KiB", "write_ms": "write ms", "read_ms": "read ms"}
    columns |= {f"hours{cores}": f"hours, {cores} cores" for cores in given["cores"]}
    show({"machine": machine(), "images": len(images), "rows": rows}, "rows", columns, as_json)


def available_codecs() -> dict[str, Codec]:
    """Returns the codecs by name that this environment has."""
    codecs = {f"png {level}": _pillow("PNG", compress_level=level) for level in (1, 6)}
    webp = {"lossless": True, "exact": True}
    for effort, quality in ((0, 0), (1, 0), (2, 50), (4, 75)):
        codecs[f"webp {effort}/{quality}"] = _pillow("WEBP", **webp, method=effort, quality=quality)
    for module, add in (("cv2", _opencv), ("pillow_jxl", _jpeg_xl)):
        try:
            codecs |= add(import_module(module))
        except ImportError:
            click.echo(f"{module} is not installed: its codecs are left out", err=True)
    return codecs


def _pillow(name: str, **options: Any) -> Codec:
    def encode(pixels: Pixels) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, name, **options)
        return out.getvalue()

    def decode(data: bytes) -> Pixels:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    return Codec(encode, decode)


def _opencv(cv2: Any) -> dict[str, Codec]:
    def encode(pixels: Pixels) -> bytes:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        return bytes(cv2.imencode(".png", pixels[..., ::-1], options)[1])

    def decode(data: bytes) -> Pixels:
        return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])

    cv2.setNumThreads(1)
    return {"png 1, OpenCV": Codec(encode, decode)}


def _jpeg_xl(_: Any) -> dict[str, Codec]:
    return {f"jxl {effort}": _pillow("JXL", lossless=True, effort=effort, num_threads=1) for effort in (1, 3)}


def _measure(codec: Codec, pixels: Pixels) -> tuple[int, float, float]:
    """Returns the size in bytes, and the seconds of processor time to write and to read."""
    start = time.process_time()
    data = codec.encode(pixels)
    middle = time.process_time()
    decoded = codec.decode(data)
    end = time.process_time()
    if not np.array_equal(decoded, pixels):
        raise DataError("a codec of the benchmark is not lossless")
    return len(data), middle - start, end - middle


def megapixels_of(preset: str, pictures: int) -> tuple[float, float]:
    """Returns the megapixels above 64x64 that preparing encodes, and that a run of the preset decodes."""
    config = configure(preset, {})
    sides = [side for side in config.resolutions() if side > MAX_RAW]
    phases = [phase for phase in Schedule(config).phases if phase.resolution > MAX_RAW]
    return (
        pictures * sum(side**2 for side in sides) / 1e6,
        sum(phase.images * phase.resolution**2 for phase in phases) / 1e6,
    )


def _images(source: str, side: int, count: int) -> list[Pixels]:
    """Returns pictures spread over SOURCE as (R, R, 3)."""
    images = []
    opened = open_source(source)
    reader = opened.reader(side, 0)
    for ref in islice(opened.sample(count, len(opened)), count):
        try:
            images.append(np.ascontiguousarray(fit_to_square(reader.read(ref, 3).image, side, "crop")))
        except BadImage:
            continue
    if not images:
        raise DataError(f"{source} holds no pictures that can be read; give a folder or archive with some")
    return images
