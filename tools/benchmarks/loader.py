"""Throughput of the data loader, compared with bare decoding and with what training consumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.measuring import Numbers, Rate, as_json, machine, rate, show, synchronize
from pggan.config.presets import configure
from pggan.config.train import CACHES
from pggan.data.loading.cache_policy import CachePolicy
from pggan.data.loading.loader import PREFETCH, BatchRequest, Loader
from pggan.data.store.codecs import decode
from pggan.data.store.decoders import use_torchvision
from pggan.data.store.store import Store
from pggan.utils.errors import UsageError
from pggan.utils.process_pool import available_cores

# Images that bare decoding cycles through, and the most bytes of them.
SAMPLE, SAMPLE_BYTES = 256, 256 << 20

COLUMNS = {
    "resolution": "resolution", "codec": "codec", "cache": "cache", "workers": "workers", "rate": "img/s",
    "bare": "bare decode a core", "of_bare": "of bare, a core", "of_cpu": "by CPU time", "training": "training img/s",
    "times_training": "times training",
}  # fmt: skip


@click.command("loader")
@click.argument("data", type=click.Path())
@click.option("--resolutions", type=Numbers(), help="Default: all of the data.")
@click.option("--workers", type=Numbers(), help="Default: 0, 1 and as many as there are cores.")
@click.option("--cache", "caches", multiple=True, type=click.Choice(CACHES[1:]), help="Default: none, ram and device.")
@click.option("--cache-mb", type=int, default=1024, show_default=True)
@click.option("--device", default="auto", show_default=True, help="What trains.")
@click.option("--preset", help="Recipe whose batches and networks train.")
@click.option("--training/--no-training", default=True, help="Measure what training consumes.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Measurements of each figure.")
@click.option("--seconds", type=float, default=1.0, show_default=True, help="Length of a measurement.")
@as_json
def command(data: str, as_json: bool, **given: Any) -> None:
    """Images a second that the loader brings from DATA, by resolution, cache and workers.

    "of bare": of the rate of decoding pictures in memory on one core, times the cores that are used; "by CPU time":
    the same without what other programs take. "ram" and "device" are measured once all pictures are in. Goals: 1.5
    times training; 0.9 of bare decoding without a cache.
    """
    from pggan.utils.devices import pick_device

    device = pick_device(given["device"])
    workers = given["workers"] or sorted({0, 1, available_cores()})
    modes = given["caches"] or CACHES[1:]
    rows: list[dict[str, Any]] = []
    with Store(data) as store:
        use_torchvision()
        for resolution in given["resolutions"] or store.resolutions:
            if resolution not in store.resolutions:
                raise UsageError(f"{data} has no {resolution}x{resolution} pictures")
            consumed = _training(given, resolution, store.channels, str(device)) if given["training"] else None
            policies = {mode: CachePolicy(mode, given["cache_mb"] << 20, str(device)) for mode in modes}
            rows += _measured(store, resolution, policies, workers, consumed, given)
            if not as_json:
                click.echo(f"measured {resolution}x{resolution}", err=True)
    result = {"machine": machine(), "data": data, "pictures": len(store), "device": str(device), "rows": rows}
    show(result, "rows", COLUMNS, as_json)


def _measured(
    store: Store,
    resolution: int,
    policies: dict[str, CachePolicy],
    workers: list[int],
    consumed: tuple[int, float] | None,
    given: dict[str, Any],
) -> list[dict[str, Any]]:
    """Returns a row per cache and number of workers. Each round measures all, so that all are disturbed alike."""
    batch = consumed[0] if consumed else max(4, min(128, 4096 // resolution))
    bare = _Bare(store, resolution)
    bare_rates: list[Rate] = []
    with ExitStack() as stack:
        feeds = [
            _Feed(stack.enter_context(Loader(store, 0, workers=count, cache_policy=policy)), mode, resolution, batch)
            for mode, policy in policies.items()
            for count in workers
        ]
        for _ in range(given["rounds"]):
            bare_rates.append(rate(bare.step, given["seconds"]))
            for feed in feeds:
                feed.measure(given["seconds"])
    rows = []
    for feed in feeds:
        cores = min(max(1, feed.loader.workers), available_cores())
        throughput = median([one.wall for one in feed.rates])
        row: dict[str, Any] = {"resolution": resolution, "codec": bare.codec, "cache": feed.kind, "batch": batch}
        row |= {"workers": feed.loader.workers, "rate": throughput, "bare": median([one.wall for one in bare_rates])}
        if feed.kind == "none" and bare.codec != "raw":  # raw pictures are not decoded
            row["of_bare"] = median([a.wall / b.wall / cores for a, b in zip(feed.rates, bare_rates)])
            row["of_cpu"] = median([a.cpu / b.cpu for a, b in zip(feed.rates, bare_rates)])
        if consumed:
            row |= {"training": consumed[1], "times_training": throughput / consumed[1]}
        rows.append(row)
    return rows


class _Bare:
    """Decodes records that are in memory already, image by image, into an array."""

    def __init__(self, store: Store, resolution: int) -> None:
        self.codec, self.channels, self.resolution = store.manifest.codecs[resolution], store.channels, resolution
        mean = max(1, store.manifest.bytes[resolution] // len(store))
        count = max(1, min(SAMPLE, SAMPLE_BYTES // mean))
        self.records = [records[resolution] for records, *_ in islice(store.encoded(), count)]
        self.out = np.empty((store.channels, resolution, resolution), np.uint8)

    def step(self) -> int:
        for record in self.records[:16]:
            self.out[:] = decode(record or b"", self.codec, self.channels, self.resolution)
        self.records = self.records[16:] + self.records[:16]
        return min(16, len(self.records))


class _Feed:
    """Measures a loader's endless stream. `kind`: the cache that it really has."""

    def __init__(self, loader: Loader, mode: str, resolution: int, batch: int) -> None:
        self.loader, self.resolution, self.batch = loader, resolution, batch
        self.stream = loader.stream(self._requests())
        next(self.stream)
        self.kind = loader.kind
        self.prefetched = PREFETCH * loader.workers + 1
        self.rates: list[Rate] = []
        for _ in range(-(-len(loader.store) // batch) if self.kind != "none" else 0):
            next(self.stream)

    def _requests(self) -> Iterator[BatchRequest]:
        nimg = 0
        while True:
            yield BatchRequest(nimg, self.batch, self.resolution)
            nimg += self.batch

    def measure(self, seconds: float) -> None:
        for _ in range(self.prefetched):  # discards batches that were read while others were measured
            next(self.stream)
        self.rates.append(rate(self._step, seconds))

    def _step(self) -> int:
        images = next(self.stream).images
        if not isinstance(images, np.ndarray):
            synchronize(images.device)
        return self.batch


def _training(given: dict[str, Any], resolution: int, channels: int, device: str) -> tuple[int, float]:
    """Returns the batch at a resolution, and images per second of eager training on one batch in memory."""
    from benchmarks.training import training_rate

    config = configure(given["preset"], {"start_res": resolution, "max_res": resolution, "device": device})
    config = replace(config, channels=channels)
    return int(config.batch.at(resolution)), training_rate(config, device, given["seconds"], given["rounds"])
