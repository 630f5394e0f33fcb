"""Start of a run: a configuration is fitted to its data, and a run begins or resumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pggan.config.metrics import measurable
from pggan.config.model_metadata import ModelMetadata
from pggan.config.resume_policy import changed
from pggan.config.train import TrainConfig
from pggan.data.loading.sampler import split_held_out
from pggan.training.engine.environment import RunEnvironment, resolve
from pggan.training.engine.memory_estimate import describe as describe_memory
from pggan.training.engine.memory_estimate import resolve_memory
from pggan.training.engine.step_modes import CPU_FLOPS, resolve_modes
from pggan.training.monitor.plan_table import plan, total_flops
from pggan.training.run.call_options import NOTHING, CallOptions
from pggan.training.run.directory import RunDirectory
from pggan.utils.caching.hub_files import is_address
from pggan.utils.errors import DataError, TrainingError
from pggan.utils.formatting import join_credits, paste

if TYPE_CHECKING:
    from pggan.data.label_columns import LabelColumn
    from pggan.data.store.manifest import Manifest
    from pggan.training.loop import RunResult
    from pggan.training.monitor.display import Display
    from pggan.utils.distributed import World

# Below this number of images D may memorise them (Karras et al. 2020: sets of 30,000 and fewer suffer).
FEW_PICTURES = 20_000
# Share of a level's initial weights in the average at the end of the run from which on a line says so.
LAGGING = 0.02
# Half-life of an average that follows, as a share of the images for which a level trains.
FOLLOWING = 0.05
# Fields of the configuration that `resolve` decides by.
RESOLVED = ("precision", "mode", "auto_batch", "budget")
# A run that would take longer on a CPU is meant for a GPU.
MANY_DAYS = 3
# Synthetic faces that stand in where no data is given, and their largest side by default.
DRAWN_COUNT, DRAWN_RESOLUTION = 4000, 256


def fit_to_data(config: TrainConfig, manifest: Manifest) -> TrainConfig:
    """Returns the configuration with the data's channels and classes. Raises `DataError` where the data lacks some."""
    largest = max(manifest.resolutions)
    if config.max_res > largest:
        raise DataError(
            f"--max-res {config.max_res} asked for, but the data ends at {largest}x{largest}; prepare it with "
            f"--max-res {config.max_res}, or train with --max-res {largest}"
        )
    if config.held_out:
        split_held_out(manifest.count, config.held_out, config.seed, manifest.duplicates)
    return _fit(config, manifest.channels, manifest.labels)


def advice(config: TrainConfig, count: int) -> list[str]:
    """Returns advice for training on `count` images, a line each."""
    options = dict(config.loss_options)
    lines = []
    if count < FEW_PICTURES and "augment" not in options:
        lines.append(
            f"{count:,} pictures are few, and the discriminator may learn them by heart: --augment ada --held-out 0.1 "
            "is for that (--augment none silences this)"
        )
    if options.get("augment") == "ada" and not options.get("augment_p") and not config.held_out:
        lines.append(
            "--augment ada without --held-out: p follows how surely reals score above generated pictures, which tells "
            "overfitting less well than pictures held out do"
        )
    if config.eval_every and not measurable(config.eval_metrics, config.max_res):
        lines.append(
            f"none of --eval-metrics {','.join(config.eval_metrics)} is for pictures of {config.max_res}x"
            f"{config.max_res} and smaller: no model is measured, and none is the best (--eval-every 0 silences this)"
        )
    if config.mirror and 0 in config.label_columns:
        lines.append(
            "half of the pictures are mirrored: where a number of --labels tells left from right, give --no-mirror"
        )
    return [*lines, *_advice_on_average(config)]


def _advice_on_average(config: TrainConfig) -> list[str]:
    """Returns a line where the average (EMA) of the generator still holds much of its initial weights at the end."""
    schedule = config.schedule
    shares = {phase.level: schedule.initial_share(phase.level) for phase in schedule.phases}
    level = max(shares, key=shares.__getitem__)
    if shares[level] < LAGGING:
        return []
    side = 2**level
    kimg = FOLLOWING * (schedule.total - schedule.level_start(level)) / 1000
    return [
        f"the average of the generator, which makes the pictures, will lag: at the end it holds {shares[level]:.0%} of "
        f"the weights with which {side}x{side} began; give --ema-half-life {kimg:.2g} for one that follows, or look at "
        "the generator itself with pggan generate --raw"
    ]


def advice_on_cpu(config: TrainConfig, cores: int) -> list[str]:
    """Returns advice for a run whose arithmetic alone takes a CPU `MANY_DAYS` or more; none for a shorter run."""
    days = total_flops(plan(config)) / (CPU_FLOPS * cores) / 86_400
    if days < MANY_DAYS:
        return []
    return [
        f"this recipe is for a GPU: its arithmetic alone takes {cores} cores some {days:,.0f} days; --preset demo "
        "shows faces in minutes, --preset faces in hours, and small minibatches (--batch 4) show most for the time"
    ]


def fit_to_drawn(config: TrainConfig) -> TrainConfig:
    """Returns the configuration for synthetic faces."""
    from pggan.data.sources.synthetic import DrawnSource

    return _fit(config, 3, DrawnSource(f"drawn:{DRAWN_COUNT}").label_columns)


def _fit(config: TrainConfig, channels: int, columns: Sequence[LabelColumn]) -> TrainConfig:
    from pggan.data.label_columns import choose_columns

    chosen = [] if config.labels is None else [columns[at] for at in choose_columns(config.labels, columns)]
    layout = tuple(column.layout for column in chosen)
    is_plain = len(layout) == 1 and layout[0] > 0  # as runs of before have it
    return dataclasses.replace(
        config, channels=channels, label_size=sum(column.width for column in chosen),
        label_columns=() if is_plain else layout,
    )  # fmt: skip


def _identity(path: str) -> dict[str, Any]:
    """Returns what tells a store from another one."""
    from pggan.data.store.store import Store

    with Store(path) as store:
        return {"count": len(store), "channels": store.channels, "created": store.manifest.created}


def begin(
    config: TrainConfig,
    out: Path,
    display: Display,
    environment: RunEnvironment | None = None,
    call: CallOptions = NOTHING,
) -> RunResult:
    """Trains a new run.

    Args:
        config: The run's configuration, with its data.
        out: The run's directory.
        display: Shows ticks and messages.
        environment: What "auto" became; None: decided here.
        call: What this call does besides training.

    Raises:
        UsageError: A run is in the directory already, or something asked for is not on this machine.
    """
    from pggan.training.loop import Trainer
    from pggan.training.run.warm_start import load_pretrained
    from pggan.utils.distributed import barrier

    run = RunDirectory(out)
    about: dict[str, Any] = {"data": _identity(str(config.data))}
    if config.start_from is not None:
        credit = ModelMetadata.read(Path(config.start_from)).info.get("attribution")
        about["start_attribution"] = join_credits([credit])
    environment = dataclasses.replace(environment or resolve(config), **about)
    with _joined(environment, run, fresh=True) as (own, world):
        trainer = Trainer(config, own, run, display, world, call)
        for line in describe_memory(own.memory, config.budget):
            display.measured(line)
        if config.start_from is not None:
            both = load_pretrained(trainer.state, config.start_from)
            fresh = "" if both else ", which keeps no discriminator: that begins with fresh weights"
            display.note(f"going on from the weights of {config.start_from}{fresh}")
        if world.is_main_process:
            run.create(config, dataclasses.replace(environment, processes=world.size).to_json())
        barrier(world)
        return trainer.train()


@contextmanager
def _joined(
    environment: RunEnvironment, run: RunDirectory, fresh: bool = False
) -> Iterator[tuple[RunEnvironment, World]]:
    """Joins the run's processes and locks its directory for the block; yields what this process computes with."""
    from pggan.training.run.launcher import end_with_launcher
    from pggan.utils import distributed
    from pggan.utils.devices import pick_device

    end_with_launcher()
    place = distributed.world_from_environment()
    if place.size > 1 and environment.device.startswith("cuda"):
        environment = dataclasses.replace(environment, device=distributed.local_device("cuda"))
    with ExitStack() as stack:
        if place.is_main_process:
            if fresh:
                run.check_free()
            stack.enter_context(run.locked())
        yield environment, stack.enter_context(distributed.process_group(pick_device(environment.device)))


def resume(
    run: RunDirectory,
    display: Display,
    device: str | None = None,
    data: str | None = None,
    changes: Mapping[str, Any] | None = None,
    override: bool = False,
    call: CallOptions = NOTHING,
) -> RunResult:
    """Goes on with a run from its newest checkpoint, with its recorded options.

    Args:
        run: The run's directory.
        display: Shows ticks and messages.
        device: Moves the run to another device.
        data: Where the run's data has moved to.
        changes: Fields of the configuration to change; the run records them.
        override: Allows changes of the result, too.
        call: What this call does besides training.

    Raises:
        TrainingError: The data is not there, or is not what the run began on.
        UsageError: A change is not possible.
    """
    from pggan.training.loop import Trainer

    recorded, values = run.read_options()
    _check_resumable(run, recorded)
    before = RunEnvironment.from_json(values)
    config, changed_fields = changed(recorded, changes or {}, override)
    config = dataclasses.replace(config, data=_data_of(run, config, before, data))
    resolves = any(getattr(config, name) != getattr(recorded, name) for name in RESOLVED)
    if device is not None or resolves:
        environment = _moved(before, config, device or before.device, display, config.mode == recorded.mode)
    else:
        environment = _checked(before, config, display)
    with _joined(environment, run) as (own, world):
        trainer = Trainer(config, own, run, display, world, call)
        trainer.resume()
        if changed_fields:
            nimg = trainer.state.nimg
            shown = ", ".join(f"{name} {value}" for name, value in changed_fields.items())
            display.note(f"changed from {nimg / 1000:g} kimg on: {shown}")
            if world.is_main_process:
                run.record_changes(config, environment.to_json(), {"at_nimg": nimg, **changed_fields})
                run.give_up(nimg)
        elif config != recorded and world.is_main_process:
            run.record_changes(config, environment.to_json() if resolves else values)
        return trainer.train()


def _check_resumable(run: RunDirectory, recorded: TrainConfig) -> None:
    """Raises `TrainingError` for a pruned run, and for one that would have the network asked for a model."""
    if run.pruned:
        raise TrainingError(
            f"{run.path} was pruned: what going on with it needs is gone; start another run, --from another model"
        )
    if is_address(recorded.start_from):
        raise TrainingError(
            f"{run.path} names an address in its options ({recorded.start_from}); no run of pggan's does: addresses "
            "are given on the command line alone"
        )


def _data_of(run: RunDirectory, config: TrainConfig, before: RunEnvironment, moved: str | None) -> str:
    """Returns where the run's data is now: where it moved, as recorded, or in the run, which may have moved with it."""
    from pggan.data.store.store import is_store

    recorded = str(config.data)
    place = moved or (recorded if is_store(recorded) or not is_store(run.data) else str(run.data))
    if not is_store(place):
        raise TrainingError(f"the run's data is not at {place}; say where: pggan train DATA --resume {paste(run.path)}")
    now, then = _identity(place), before.data
    if then is not None and now != then:
        raise TrainingError(
            f"{place} is not the data that the run began on ({now['count']} pictures made {now['created']}, not "
            f"{then.get('count')} made {then.get('created')}); give the right one: pggan train DATA --resume "
            f"{paste(run.path)}"
        )
    return place


def _moved(
    before: RunEnvironment, config: TrainConfig, device: str, display: Display, same_mode: bool
) -> RunEnvironment:
    """Decides anew what "auto" becomes, on another device or with other options; step modes only where those change."""
    precision = "fp32" if config.precision == "tf32" and device == "cpu" else config.precision
    now = resolve(dataclasses.replace(config, device=device, precision=precision))
    if same_mode and before.modes is not None and (now.device, now.precision) == (before.device, before.precision):
        now = dataclasses.replace(now, modes=before.modes, modes_why=before.modes_why)
    for line in [*now.describe_steps(), *describe_memory(now.memory)]:
        display.note(line)
    kept = {name: getattr(before, name) for name in ("data", "processes", "start_attribution")}
    return dataclasses.replace(now, **kept)


def _checked(before: RunEnvironment, config: TrainConfig, display: Display) -> RunEnvironment:
    """Keeps what was recorded, as far as it is of this version and its memory is free now."""
    from pggan.utils.devices import pick_device

    if before.modes is None:
        modes, why = resolve_modes(config, before.device)
        before = dataclasses.replace(before, modes=modes, modes_why=why)
    memory = resolve_memory(config, pick_device(before.device), before.precision, before.memory)
    if memory != before.memory:
        display.note("less memory is free than the run's plan takes: it is planned again")
        for line in describe_memory(memory):
            display.note(line)
    return dataclasses.replace(before, memory=memory)
