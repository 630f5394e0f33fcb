"""Evaluation: all metrics in one pass over generated images; states of real images are computed once and cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pggan.config.metrics import METRICS, chosen
from pggan.data.store.store import Store
from pggan.metrics.base import Batch, Metric, Setting, State
from pggan.metrics.cache import Cache
from pggan.metrics.gather import broadcast_flags, gather_states, share
from pggan.metrics.image_sets import GeneratedImages, Images, ImageSet, StoreImages, opaque
from pggan.utils.devices import full_float32, metrics_device
from pggan.utils.distributed import SINGLE_PROCESS, World
from pggan.utils.errors import UsageError
from pggan.utils.output import activity

# Images of a batch, and pixels at most by kind of device: what metrics compute of a batch takes some 200 bytes a pixel.
BATCH, CPU_PIXELS, GPU_PIXELS = 64, 1 << 20, 1 << 24
MAX_REALS = 50_000

# Opens a progress bar: description and number of images; yields a function that advances it by a number of images.
Stage = Callable[[str, int], Any]
# Is called before every batch, equally often in each process; an exception that it raises ends the evaluation.
Check = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """A metric and the images that it compares."""

    metric: Metric
    count: int  # generated images, numbers 0 to count - 1
    reals: tuple[int, ...] = ()  # numbers of the real images, in turn again and again where there are too few

    @property
    def name(self) -> str:
        return self.metric.name


@dataclass
class Comparison:
    """The result of `compare`."""

    figures: dict[str, float]  # by name
    jobs: list[Job]
    fakes: dict[str, State]  # states of the generated images, by metric
    reals: RealStatistics


@dataclass
class RealStatistics:
    """States of real images by metric, in the main process only; `cached` names those that came from the cache."""

    states: dict[str, State] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)


def plan_jobs(
    names: str | Sequence[str], setting: Setting, count: int | None, reals: int, most: int | None = None
) -> list[Job]:
    """Decides how many images each metric looks at.

    Args:
        names: Metrics, as a list or as `swd,msssim`.
        setting: What the metrics are made for.
        count: Generated images; None: each metric's default.
        reals: Real images available.
        most: Generated images available; None: no limit.

    Raises:
        UsageError: A metric is unknown, its embedding is missing, or there are too few images.
    """
    jobs = []
    for name in chosen(names):
        spec = METRICS[name]
        if spec.needs and spec.needs not in (setting.embeddings or {}):
            option = "inception-weights FILE" if spec.needs == "inception" else "embedding FILE or efficientnet-lite0"
            raise UsageError(f"{name} needs a network to look through; give --{option}")
        usual = spec.count if most is None else min(spec.count, most)
        fakes = usual if count is None else count
        real_counts = {"": 0, "paired": fakes, "once": min(fakes, reals), "all": min(reals, MAX_REALS)}
        real_count = real_counts[spec.reals]
        if fakes < spec.least or (spec.reals and min(real_count, reals) < spec.least):
            available = f"{fakes} generated" if fakes < spec.least else f"{reals} real"
            raise UsageError(f"{name} wants {spec.least} pictures at least; there are {available} ones")
        metric = METRICS.load(name)(setting, spec.needs)
        jobs.append(Job(metric, fakes, tuple(_pick_evenly(real_count, reals))))
    return jobs


def _pick_evenly(count: int, available: int) -> Iterator[int]:
    """Picks `count` numbers below `available`: evenly spread, or all of them again and again."""
    return (i % available if count > available else i * available // count for i in range(count))


def batch_size(setting: Setting) -> int:
    """Returns how many images the metrics look at together: 64, or fewer large ones, 2 at least."""
    pixels = CPU_PIXELS if setting.device.type == "cpu" else GPU_PIXELS
    return max(2, min(BATCH, pixels // setting.resolution**2))


@dataclass(frozen=True)
class _Context:
    """What all passes over images of a comparison share."""

    setting: Setting
    world: World
    stage: Stage
    check: Check


def _compute_states(
    jobs: Sequence[Job], counts: Sequence[int], images: ImageSet, picks: Sequence[int], title: str, context: _Context
) -> dict[str, State]:
    """Computes every metric's state in one pass over images, which the processes share.

    Args:
        jobs: The metrics.
        counts: For each metric, how many of the picks it looks at, from the first one on.
        images: The images.
        picks: Numbers of those that are read.
        title: The progress bar's.
        context: Setting, processes, progress bar and check.

    Returns:
        States by metric in the main process, empty ones in the others.

    Raises:
        UsageError: Images have another shape or number than the setting and the picks say.
    """
    setting, world = context.setting, context.world
    numbers = share(len(picks), world)
    for job, count in zip(jobs, counts):
        job.metric.begin(sum(number < count for number in numbers))
    most = len(share(len(picks), replace(world, rank=0)))  # of any process
    batch = batch_size(setting)
    with context.stage(title, len(numbers)) as advance, torch.inference_mode(), full_float32(setting.device):
        for start in range(0, most, batch):
            context.check()
            if part := numbers[start : start + batch]:
                values = images.read([picks[number] for number in part])
                shape = (len(part), setting.channels, setting.resolution, setting.resolution)
                if values.dtype != np.uint8 or values.shape != shape:
                    raise UsageError(f"uint8 pictures {shape} are wanted, not {values.dtype} {values.shape}")
                looked_at = Batch(values, part, setting)
                for job, count in zip(jobs, counts):
                    if own_part := looked_at.below(count):
                        job.metric.feed(own_part)
                advance(len(part))
    return {job.name: job.metric.merge(gather_states(job.metric.end(), world)) for job in jobs}


def _real_statistics(jobs: Sequence[Job], reals: ImageSet, cache: Cache, context: _Context) -> RealStatistics:
    """Returns the states of real images, from the cache or computed and cached.

    Metrics that look at the same real images share a pass over them.
    """
    statistics = RealStatistics()
    jobs = [job for job in jobs if job.reals]
    abouts = {job.name: _cache_about(job, reals) for job in jobs}
    is_main = context.world.is_main_process
    for job in jobs if is_main else ():
        if (state := cache.load(_cache_name(job), abouts[job.name])) is not None:
            statistics.states[job.name] = state
            statistics.cached.append(job.name)
    is_cached = broadcast_flags([job.name in statistics.states for job in jobs], context.world)
    groups: dict[tuple[int, ...], list[Job]] = {}
    for job, cached in zip(jobs, is_cached):
        if not cached:
            groups.setdefault(job.reals, []).append(job)
    for picks, members in groups.items():
        title = f"real pictures for {', '.join(job.name for job in members)}"
        states = _compute_states(members, [len(picks)] * len(members), reals, picks, title, context)
        for job in members if is_main else ():
            statistics.states[job.name] = states[job.name]
            cache.save(_cache_name(job), abouts[job.name], states[job.name])
    return statistics


def _cache_name(job: Job) -> str:
    """Returns the file name of a state: one for each metric, resolution, number of images and network."""
    setting, network = job.metric.setting, ""
    if job.metric.role:
        identity = setting.embedding(job.metric.role).identity
        network = "-" + hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
    return f"{job.name}-{setting.resolution}x{setting.resolution}-{len(job.reals)}{network}"


def _cache_about(job: Job, reals: ImageSet) -> dict[str, Any]:
    options = job.metric.options
    return {"metric": job.name, "pictures": reals.identity, "resolution": reals.resolution,
            "channels": reals.channels, "count": len(job.reals), "options": options}  # fmt: skip


def compare(
    fakes: ImageSet, reals: ImageSet, names: str | Sequence[str], *, count: int | None = None, seed: int = 0,
    device: torch.device | str = "cpu", embeddings: Mapping[str, Any] | None = None, cache: Cache | None = None,
    world: World = SINGLE_PROCESS, stage: Stage = lambda description, count: nullcontext(lambda images: None),
    check: Check = lambda: None,
) -> Comparison:  # fmt: skip
    """Compares two image sets, RGBA over white (see `opaque`). Every process of `world` has to call it.

    Args:
        fakes: The images to judge.
        reals: The images to compare with, of the same size.
        names: Metrics, as a list or as `swd,msssim`.
        count: Images to judge; None: each metric's default, or all where there are fewer.
        seed: Of the metrics' own random draws.
        device: Where metrics compute.
        embeddings: Feature networks by role, from `embeddings_for`.
        cache: Where states of the real images are kept; None: nowhere.
        world: The processes that share the images.
        stage: Opens a progress bar.
        check: Is called before every batch, equally often in each process; what it raises ends the evaluation.

    Raises:
        UsageError: The sets differ in size or channels, or have too few images.
    """
    fakes, reals = opaque(fakes), opaque(reals)
    _check_comparable(fakes, reals)
    if count is not None and count > len(fakes):
        raise UsageError(f"--n {count}: {fakes.name} has {len(fakes)} pictures")
    setting = Setting(reals.resolution, reals.channels, seed, metrics_device(torch.device(device)), embeddings)
    jobs = plan_jobs(names, setting, count, len(reals), len(fakes))
    context = _Context(setting, world, stage, check)
    statistics = _real_statistics(jobs, reals, cache or Cache(None), context)
    picks, counts = range(max(job.count for job in jobs)), [job.count for job in jobs]
    states = _compute_states(jobs, counts, fakes, picks, "generated pictures", context)
    figures: dict[str, float] = {}
    with full_float32(setting.device):
        for job in jobs if world.is_main_process else ():
            with activity(partial("comparing {}".format, job.name)):
                figures.update(job.metric.result(states[job.name], statistics.states.get(job.name, {})))
    return Comparison(figures, jobs, states, statistics)


def _check_comparable(fakes: ImageSet, reals: ImageSet) -> None:
    if fakes.resolution != reals.resolution:
        raise UsageError(
            f"{fakes.name} has pictures of {fakes.resolution}x{fakes.resolution}, {reals.name} of "
            f"{reals.resolution}x{reals.resolution}; give --res, or prepare the data at that size"
        )
    if fakes.channels != reals.channels:
        kinds = {1: "grey", 3: "colour"}
        raise UsageError(
            f"{fakes.name} has {kinds[fakes.channels]} pictures, {reals.name} {kinds[reals.channels]} ones; compare "
            "like with like"
        )


def evaluate_model(
    generate: Callable[[Sequence[int]], Images], store: Store, resolution: int, names: str | Sequence[str],
    count: int | None = None, seed: int = 0, device: torch.device | str = "cpu", cache: Cache | Path | None = None,
    embeddings: Mapping[str, Any] | None = None, world: World = SINGLE_PROCESS, check: Check = lambda: None,
    stage: Stage = lambda description, count: nullcontext(lambda images: None),
) -> dict[str, float]:  # fmt: skip
    """Evaluates a generator against a store, as a training run does. Every process of `world` has to call it.

    Args:
        generate: Makes uint8 images (N, H, W, C) of seeds, which are 0, 1, ...; RGBA premultiplied.
        store: The real images.
        resolution: Side of the images.
        cache: A cache, or its folder; None: beside the store.
        names: Names of the metrics.
        count: Generated images; None: each metric's own number.
        seed: Seed of patches, directions and subsets.
        device: Device of the metrics' networks.
        embeddings: Networks that metrics look through, by role.
        world: The processes that share the work.
        check: Called between batches; may raise to stop.
        stage: Opens a progress bar.

    Returns:
        Figures by name in the main process, an empty dictionary in the others.
    """
    reals = StoreImages(store, resolution)
    states = Cache(cache) if isinstance(cache, Path) else cache or Cache.beside(reals.place)
    fakes = GeneratedImages(generate, resolution, store.channels)
    return compare(
        fakes, reals, names, count=count, seed=seed, device=device, embeddings=embeddings, cache=states, world=world,
        stage=stage, check=check,
    ).figures  # fmt: skip
