"""Figures of pictures: one pass over generated ones for all metrics, real ones looked at once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pggan.config.metrics import METRICS, chosen
from pggan.data.store.store import Store
from pggan.metrics.base import Batch, Metric, Setting, State
from pggan.metrics.cache import Cache
from pggan.metrics.gather import agreed, gathered, share
from pggan.metrics.image_sets import Generated, Images, Pictures, StorePictures
from pggan.utils.devices import full_float32
from pggan.utils.distributed import SINGLE_PROCESS, World
from pggan.utils.errors import UsageError

BATCH = 64
MOST_REALS = 50_000

Advance = Callable[[int], None]
# (what is done, how many pictures of it) -> advance
Stage = Callable[[str, int], Any]
# Called before every batch, as often in each process; what it raises ends the work.
Check = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """A metric with how many generated pictures it looks at, and which real ones (numbers, repeated if need be)."""

    metric: Metric
    count: int
    reals: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.metric.name


@dataclass
class Comparison:
    """Figures by name, and by metric what they rest on: the job, and the generated pictures' state."""

    figures: dict[str, float]
    jobs: list[Job]
    fakes: dict[str, State]
    reals: RealStatistics


@dataclass
class RealStatistics:
    """States of real pictures by metric; in the first process only, where several work."""

    states: dict[str, State] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)


def jobs(
    names: str | Sequence[str], setting: Setting, count: int | None, reals: int, most: int | None = None
) -> list[Job]:
    """What is to be done. `count` None: each metric's own; `reals`: how many there are; `most`: generated ones.

    Raises `UsageError` for unknown metrics, missing embeddings, and too few pictures.
    """
    found = []
    for name in chosen(names):
        spec = METRICS[name]
        if spec.needs and spec.needs not in (setting.embeddings or {}):
            raise UsageError(f"{name} needs a network to look through; give --{_option(spec.needs)}")
        made = count or (spec.count if most is None else min(spec.count, most))
        kinds = {"": 0, "paired": made, "once": min(made, reals), "all": min(reals, MOST_REALS)}
        wanted = kinds[spec.reals]
        if made < spec.least or (spec.reals and min(wanted, reals) < spec.least):
            there = f"{made} generated" if made < spec.least else f"{reals} real"
            raise UsageError(f"{name} wants {spec.least} pictures at least; there are {there} ones")
        found.append(Job(METRICS.load(name)(setting), made, tuple(_spread(wanted, reals))))
    return found


def _option(role: str) -> str:
    return "inception-weights FILE" if role == "inception" else "embedding FILE or efficientnet-lite0"


def _spread(wanted: int, there: int) -> Iterator[int]:
    """`wanted` numbers below `there`, evenly spread, or each in turn again and again."""
    return (at % there if wanted > there else at * there // wanted for at in range(wanted))


def evaluate_batches(
    tasks: Sequence[Job], fakes: Iterable[Images], reals: RealStatistics, setting: Setting, world: World = SINGLE_PROCESS,
    advance: Advance = lambda n: None, kept: dict[str, State] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Figures by name; empty but in the first of several processes.

    `fakes`: uint8 batches (N, C, R, R) of the numbers `share(most, world)`, in that order. `kept` gets their states.
    Raises `UsageError` for pictures of another shape.
    """
    numbers = share(max(job.count for job in tasks), world)
    states = _states(tasks, [job.count for job in tasks], numbers, fakes, setting, advance)
    figures: dict[str, float] = {}
    for job in tasks:
        whole = job.metric.merge(gathered(states[job.name], world))
        if world.is_main_process:
            with full_float32(setting.device):
                figures.update(job.metric.result(whole, reals.states.get(job.name, {})))
            if kept is not None:
                kept[job.name] = whole
    return figures


def _states(
    tasks: Sequence[Job], counts: Sequence[int], numbers: Sequence[int], batches: Iterable[Images], setting: Setting,
    advance: Advance,
) -> dict[str, State]:  # fmt: skip
    """Every metric's state over one pass."""
    for job, count in zip(tasks, counts):
        job.metric.begin(sum(number < count for number in numbers))
    at = 0
    shape = (setting.channels, setting.resolution, setting.resolution)
    with torch.inference_mode(), full_float32(setting.device):
        for pictures in batches:
            if pictures.dtype != np.uint8 or pictures.shape[1:] != shape:
                raise UsageError(f"uint8 pictures {shape} are wanted, not {pictures.dtype} {pictures.shape[1:]}")
            batch = Batch(pictures, numbers[at : at + len(pictures)], setting)
            at += len(pictures)
            for job, count in zip(tasks, counts):
                if part := batch.below(count):
                    job.metric.feed(part)
            advance(len(pictures))
    if at != len(numbers):
        raise UsageError(f"{at} of {len(numbers)} pictures came")
    return {job.name: job.metric.end() for job in tasks}


def real_statistics(
    tasks: Sequence[Job], reals: Pictures, setting: Setting, cache: Cache, world: World = SINGLE_PROCESS,
    stage: Stage | None = None, check: Check = lambda: None,
) -> RealStatistics:  # fmt: skip
    """States of real pictures, out of the cache or made and kept; metrics that want the same ones share a pass."""
    found = RealStatistics()
    wanted = [job for job in tasks if job.reals]
    about = {job.name: _about(job, reals) for job in wanted}
    if world.is_main_process:
        for job in wanted:
            state = cache.load(_key(job, setting), about[job.name])
            if state is not None:
                found.states[job.name] = state
                found.cached.append(job.name)
    there = agreed([job.name in found.states for job in wanted], world)
    groups: dict[tuple[int, ...], list[Job]] = {}
    for job, cached in zip(wanted, there):
        if not cached:
            groups.setdefault(job.reals, []).append(job)
    for picks, members in groups.items():
        numbers = share(len(picks), world)
        batches = _read(reals, [picks[number] for number in numbers], _rounds(len(picks), world), check)
        with _stage(stage, f"real pictures for {', '.join(job.name for job in members)}", len(numbers)) as advance:
            states = _states(members, [len(picks)] * len(members), numbers, batches, setting, advance)
        for job in members:
            whole = job.metric.merge(gathered(states[job.name], world))
            if world.is_main_process:
                found.states[job.name] = whole
                cache.save(_key(job, setting), about[job.name], whole)
    return found


def _key(job: Job, setting: Setting) -> str:
    """The file's name: one for each metric, resolution, number of pictures and network."""
    network = ""
    if job.metric.role:
        identity = setting.embedding(job.metric.role).identity
        network = "-" + hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
    return f"{job.name}-{setting.resolution}x{setting.resolution}-{len(job.reals)}{network}"


def _about(job: Job, reals: Pictures) -> dict[str, Any]:
    options = job.metric.options
    return {"metric": job.name, "pictures": reals.identity, "resolution": reals.resolution,
            "channels": reals.channels, "count": len(job.reals), "options": options}  # fmt: skip


def _rounds(count: int, world: World) -> int:
    """Batches of the process that has most."""
    return -(-len(share(count, replace(world, rank=0))) // BATCH)


def _read(pictures: Pictures, numbers: Sequence[int], rounds: int, check: Check) -> Iterator[Images]:
    for at in range(rounds):
        check()
        if part := numbers[at * BATCH : (at + 1) * BATCH]:
            yield pictures.read(part)


def _stage(stage: Stage | None, what: str, count: int) -> Any:
    if stage is not None:
        return stage(what, count)
    return nullcontext(lambda n: None)


def compare(
    fakes: Pictures, reals: Pictures, names: str | Sequence[str], *, count: int | None = None, seed: int = 0,
    device: torch.device | str = "cpu", embeddings: Mapping[str, Any] | None = None, cache: Cache | None = None,
    world: World = SINGLE_PROCESS, stage: Stage | None = None, check: Check = lambda: None,
) -> Comparison:  # fmt: skip
    """Figures of two sets of pictures. `count` None: each metric's own number, or as many as there are. `check` is
    called before every batch, as often in each process; what it raises goes through.

    Raises `UsageError` where they do not go together.
    """
    _matching(fakes, reals)
    if count is not None and count > len(fakes):
        raise UsageError(f"--n {count}: {fakes.name} has {len(fakes)} pictures")
    setting = Setting(reals.resolution, reals.channels, seed, torch.device(device), embeddings)
    tasks = jobs(names, setting, count, len(reals), len(fakes))
    known = real_statistics(tasks, reals, setting, cache or Cache(None), world, stage, check)
    most = max(job.count for job in tasks)
    numbers = share(most, world)
    with _stage(stage, "generated pictures", len(numbers)) as advance:
        made: dict[str, State] = {}
        figures = evaluate_batches(
            tasks, _read(fakes, numbers, _rounds(most, world), check), known, setting, world, advance, made
        )
    return Comparison(figures, tasks, made, known)


def _matching(fakes: Pictures, reals: Pictures) -> None:
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
) -> dict[str, float]:  # fmt: skip
    """Figures of a generator against a store, as a training run asks for them.

    `generate`: uint8 (N, H, W, C) of seeds, which are 0, 1, ... whatever `seed` (of the metrics' own draws) is.
    `cache` None: beside the store. Every process of `world` has to call it; the first gets the figures.
    """
    reals = StorePictures(store, resolution)
    kept = Cache(cache) if isinstance(cache, Path) else cache or Cache.beside(reals.place)
    fakes = Generated(generate, resolution, store.channels)
    options = {"count": count, "seed": seed, "device": device, "embeddings": embeddings}
    return compare(fakes, reals, names, **options, cache=kept, world=world, check=check).figures  # type: ignore[arg-type]
