"""A configuration fitted to its data, and runs begun or taken up again: what the command line and scripts call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pggan.config.resume_policy import changed
from pggan.config.train import TrainConfig
from pggan.data.loading.sampler import split_held_out
from pggan.training.run.directory import RunDirectory
from pggan.utils.errors import DataError, TrainingError

if TYPE_CHECKING:
    from pggan.data.store.store import LabelColumn, Manifest
    from pggan.training.loop import RunResult
    from pggan.training.monitor.display import Display
    from pggan.utils.distributed import World

# Below so many pictures a discriminator may learn them by heart (Karras et al. 2020: their 30,000 and fewer suffer).
FEW_PICTURES = 20_000
# What `resolve` decides by.
RESOLVED = ("precision", "mode", "auto_batch", "budget")
# Faces drawn where no data is given, and their largest side unless one is asked for.
DRAWN_COUNT, DRAWN_RESOLUTION = 4000, 256


def fit_to_data(config: TrainConfig, manifest: Manifest) -> TrainConfig:
    """The configuration with the data's channels and classes. Raises `DataError` where it lacks what is asked for."""
    largest = max(manifest.resolutions)
    if config.max_res > largest:
        raise DataError(
            f"--max-res {config.max_res} asked for, but the data ends at {largest}x{largest}; prepare it with "
            f"--max-res {config.max_res}, or train with --max-res {largest}"
        )
    if config.held_out:
        split_held_out(manifest.count, config.held_out, config.seed)
    return _fit(config, manifest.channels, manifest.labels)


def advice(config: TrainConfig, count: int) -> list[str]:
    """What a person who trains on `count` pictures may want to know, a line each."""
    options = dict(config.loss_options)
    told = []
    if count < FEW_PICTURES and "augment" not in options:
        told.append(
            f"{count:,} pictures are few, and the discriminator may learn them by heart: --augment ada --held-out 0.1 "
            "is for that (--augment none: leave it, and say no more)"
        )
    if options.get("augment") == "ada" and not options.get("augment_p") and not config.held_out:
        told.append(
            "--augment ada without --held-out: p follows how surely reals score above generated pictures, which tells "
            "overfitting less well than pictures held out do"
        )
    return told


def fit_to_drawn(config: TrainConfig) -> TrainConfig:
    """The configuration for faces drawn on the spot."""
    from pggan.data.sources.synthetic import DrawnSource

    return _fit(config, 3, DrawnSource(f"drawn:{DRAWN_COUNT}").label_columns)


def _fit(config: TrainConfig, channels: int, columns: Sequence[LabelColumn]) -> TrainConfig:
    classes = 0
    if config.labels is not None:
        named = {column.name: column for column in columns}
        if config.labels not in named:
            raise DataError(f"the data has no labels {config.labels!r}; it has: {', '.join(named) or 'none'}")
        classes = len(named[config.labels].classes)
    return dataclasses.replace(config, channels=channels, label_size=classes)


def resolve(config: TrainConfig) -> dict[str, Any]:
    """What "auto" becomes here, and the hardware and versions: recorded with the run."""
    import platform

    import torch

    from pggan.training.engine.memory_estimate import resolve_memory
    from pggan.training.engine.step_modes import resolve_modes
    from pggan.utils.devices import pick_device, pick_precision
    from pggan.utils.distributed import local_device

    # each of several processes looks at its own GPU, not all at the first one
    device = pick_device(local_device(config.device))
    precision = pick_precision(config.precision, device)
    modes, why = resolve_modes(config, str(device))
    return {
        "device": str(device),
        "precision": precision,
        "modes": modes,
        "modes_why": why,
        "memory": resolve_memory(config, device, precision),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def computing(resolved: Mapping[str, Any]) -> list[str]:
    """How a run computes, in lines for a person; what it takes of memory is told when that is measured."""
    from pggan.training.engine.step_modes import describe

    return [f"steps: {describe(resolved['modes'], resolved['modes_why'])}"] if resolved.get("modes") else []


def _identity(path: str) -> dict[str, Any]:
    """What tells a store from another one: recorded with the run."""
    from pggan.data.store.store import Store

    with Store(path) as store:
        return {"count": len(store), "channels": store.channels, "created": store.manifest.created}


def _data_of(run: RunDirectory, config: TrainConfig, resolved: dict[str, Any], given: str | None) -> str:
    """Where the run's data is now: as given, as recorded, or in the run itself, which may have moved with it."""
    from pggan.data.store.store import is_store

    recorded = str(config.data)
    where = given or (recorded if is_store(recorded) or not is_store(run.data) else str(run.data))
    if not is_store(where):
        raise TrainingError(f"the run's data is not at {where}; say where: pggan train DATA --resume {run.path}")
    now, then = _identity(where), resolved.get("data")
    if then is not None and now != then:
        raise TrainingError(
            f"{where} is not the data that the run began on ({now['count']} pictures made {now['created']}, not "
            f"{then.get('count')} made {then.get('created')}); give the right one: pggan train DATA --resume {run.path}"
        )
    return where


def begin(config: TrainConfig, out: Path, display: Display, resolved: dict[str, Any] | None = None) -> RunResult:
    """A new run in the directory `out`, with what "auto" became. Raises `UsageError` where a run lies there already."""
    from pggan.training.loop import Trainer
    from pggan.training.run.warm_start import load_pretrained
    from pggan.utils.distributed import barrier

    run = RunDirectory(out)
    resolved = {**(resolved or resolve(config)), "data": _identity(str(config.data))}
    with _joined(resolved, run, fresh=True) as (mine, world):
        training = Trainer(config, {**mine, "memory": {}}, run, display, world)
        if resolved.get("memory"):  # an estimate so far
            resolved["memory"] = training.measure_memory()
        if config.start_from is not None:
            both = load_pretrained(training.state, config.start_from)
            fresh = "" if both else ", which keeps no discriminator: that begins with fresh weights"
            display.note(f"going on from the weights of {config.start_from}{fresh}")
        if world.is_main_process:
            run.create(config, {**resolved, "processes": world.size})
        barrier(world)
        return training.train()


@contextmanager
def _joined(resolved: dict[str, Any], run: RunDirectory, fresh: bool = False) -> Iterator[tuple[dict[str, Any], World]]:
    """What this process computes on, among those of the run; the run's directory is this run's alone meanwhile."""
    from pggan.training.run.launcher import end_with_launcher
    from pggan.utils import distributed
    from pggan.utils.devices import pick_device

    end_with_launcher()
    place = distributed.world_from_environment()
    mine = dict(resolved)
    if place.size > 1 and str(resolved["device"]).startswith("cuda"):
        mine["device"] = f"cuda:{place.local}"
    with ExitStack() as stack:
        if place.is_main_process:
            if fresh:
                run.check_free()
            stack.enter_context(run.locked())
        yield mine, stack.enter_context(distributed.process_group(pick_device(mine["device"])))


def _fits(resolved: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether the memory that the run's plan takes is free here: fewer processes, or others, may share it now."""
    from pggan.training.engine.memory_estimate import still_fits
    from pggan.utils.devices import pick_device

    return still_fits(resolved.get("memory", {}), config, pick_device(resolved["device"]))


def resume(
    run: RunDirectory,
    display: Display,
    device: str | None = None,
    data: str | None = None,
    changes: Mapping[str, Any] | None = None,
    override: bool = False,
) -> RunResult:
    """Goes on with a run from its newest training state, with its recorded options.

    `device` moves it to another device, `data` names the place that its data has moved to. `changes`: fields of the
    configuration; those that change the result need `override`, and are recorded. Raises `TrainingError` where the
    data is not there, or is not what the run began on, `UsageError` for changes that cannot be.
    """
    from pggan.training.engine.memory_estimate import asked_for
    from pggan.training.loop import Trainer
    from pggan.utils import distributed

    recorded, resolved = run.read_options()
    if run.pruned:
        raise TrainingError(
            f"{run.path} was pruned: what going on with it needs is gone; start another run, --from another model"
        )
    config, telling = changed(recorded, changes or {}, override)
    config = dataclasses.replace(config, data=_data_of(run, config, resolved, data))
    anew = False
    if device is not None or any(getattr(config, name) != getattr(recorded, name) for name in RESOLVED):
        place = device or str(resolved["device"])
        on_cpu = config.precision == "tf32" and place == "cpu"
        kept = dataclasses.replace(config, device=place, precision="fp32" if on_cpu else config.precision)
        resolved = {**resolved, **resolve(kept)}
        for line in computing(resolved):
            display.note(line)
        anew = True
    with _joined(resolved, run) as (mine, world):
        if distributed.all_reduce_max(int(not anew and not _fits(mine, config)), world):
            display.note("less memory is free than the run's plan takes: it is planned again")
            anew = True
        training = Trainer(config, {**mine, "memory": {}} if anew else mine, run, display, world)
        if anew and asked_for(config):
            resolved["memory"] = training.measure_memory()
        training.resume()
        if telling:
            said = ", ".join(f"{name} {value}" for name, value in telling.items())
            display.note(f"changed from {training.state.nimg / 1000:g} kimg on: {said}")
            if world.is_main_process:
                run.record_changes(config, resolved, {"at_nimg": training.state.nimg, **telling})
        return training.train()
