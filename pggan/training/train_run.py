"""Starts or resumes a run by its options, as `pggan.train` and the command do (torch-free until it trains)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pggan.config.losses import all_options, resolve_options
from pggan.config.metrics import chosen
from pggan.config.option import AUTO, Option
from pggan.config.presets import configure
from pggan.config.resolution import PerResolution, overlay
from pggan.config.resume_policy import changed
from pggan.config.strict_json import is_kind
from pggan.config.train import OPTIONS, TrainConfig
from pggan.training.run.call_options import NOTHING, CallOptions
from pggan.training.run.directory import RunDirectory
from pggan.utils.errors import UsageError
from pggan.utils.formatting import bytes_of, nearest_name

if TYPE_CHECKING:
    from pggan.config.schedule import Schedule
    from pggan.training.engine.environment import RunEnvironment
    from pggan.training.loop import RunResult
    from pggan.training.monitor.display import Display

# Opens what shows a run with this schedule; it is closed when the run ends.
OpenDisplay = Callable[["Schedule"], AbstractContextManager["Display"]]
OnNote = Callable[[str], None]
# Receives the name of a piece of work, units done and units in all.
OnProgress = Callable[[str, int, int], None]
RUNS = Path("runs")


def is_main_process() -> bool:
    """Returns whether this process prints for the run: a launcher numbers its processes."""
    return os.environ.get("RANK", "0") == "0"


def collect_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `TrainConfig` that options set.

    Options of losses and techniques become `loss_options`, and `batch="auto"` becomes `auto_batch`. Numbers by
    resolution may be numbers, mappings or texts.

    Args:
        values: Options by name, `preset` among them; None where an option is not given.

    Raises:
        UsageError: A name is no option, or a value is not of its kind.
    """
    of_losses = all_options()
    declared = {
        name: option for name, option in OPTIONS.items() if option.on_command_line or name == "preset"
    } | of_losses
    fields: dict[str, Any] = {}
    loss_options: dict[str, Any] = {}
    for name, value in values.items():
        if name not in declared:
            raise UsageError(f"train has no option {name!r}{nearest_name(name, declared)}")
        if value is None:
            continue
        if name == "batch" and value == AUTO:
            fields["auto_batch"] = True
        else:
            (loss_options if name in of_losses else fields)[name] = _value_of(declared[name], value)
    # in the order of the declarations, whoever gave them
    ordered = tuple((name, loss_options[name]) for name in of_losses if name in loss_options)
    return {**fields, **({"loss_options": ordered} if ordered else {})}


def _value_of(option: Option, value: Any) -> Any:
    """Returns a value as the option's kind. Raises `UsageError` for one of another kind."""
    if isinstance(value, Path):
        value = str(value)
    if option.by_resolution and isinstance(value, (str, Mapping, PerResolution)):
        return _by_resolution_text(value)
    if option.kind is PerResolution and not isinstance(value, PerResolution):
        return PerResolution.parse(value) if isinstance(value, str) else PerResolution.of(value)
    if option.scheduled and option.kind is float and isinstance(value, (str, PerResolution)):
        return _scheduled(option, value)
    if isinstance(value, str):
        if option.name == "eval_metrics":
            return tuple(chosen(value))
        if option.name == "budget":
            return bytes_of(value)
    if isinstance(value, list):
        value = tuple(value)
    if option.kind not in (PerResolution, type(None)) and not is_kind(value, option.kind):
        raise UsageError(f"{option.flag}: {value!r} is of the wrong kind; {option.help}")
    return value


def _by_resolution_text(value: str | Mapping[Any, Any] | PerResolution) -> str:
    """Returns numbers by resolution as the text that runs record of losses and techniques."""
    return ",".join(f"{side}:{n}" for side, n in value.items()) if isinstance(value, Mapping) else str(value)


def _scheduled(option: Option, value: str | PerResolution) -> float | str | PerResolution:
    """Returns a number, or one that changes over the run; of a loss or technique that stays text, as runs record it."""
    numbers = PerResolution.parse(value) if isinstance(value, str) else value
    if numbers.plain is not None and numbers.end is None and not numbers.named:
        return numbers.plain
    return str(value) if option.annotation is None else numbers


def configure_run(options: Mapping[str, Any], data: str | Path | None) -> TrainConfig:
    """Returns the configuration of a new run, fitted to its data: without any, to the faces that are to be drawn.

    Args:
        options: What `collect_options` returned.
        data: A store.
    """
    from pggan.training.start import DRAWN_RESOLUTION, fit_to_data, fit_to_drawn

    preset, warm_start = options.get("preset"), None
    if options.get("start_from") is not None:
        from pggan.training.run.warm_start import WarmStart

        warm_start = WarmStart.read(options["start_from"])

    def configured(largest: int) -> TrainConfig:
        return configure(preset, warm_start.options(dict(options), largest) if warm_start else options, largest)

    if data is None:
        config = fit_to_drawn(configured(DRAWN_RESOLUTION))
    else:
        from pggan.data.store.store import Store

        with Store(data) as store:
            config = fit_to_data(configured(store.max_resolution), store.manifest)
        config = replace(config, data=str(Path(data).resolve()))
    if warm_start:
        # a preset's length is that of its own phases
        config = replace(warm_start.fit(config), total_kimg=options.get("total_kimg"))
    resolve_options(config.loss, config.labels is not None, dict(config.loss_options), config.has_codes)
    return config


def next_run() -> Path:
    """Returns the first free runs/NNN."""
    taken = [int(p.name) for p in RUNS.glob("[0-9][0-9][0-9]*") if p.name.isdecimal()]
    return RUNS / f"{max(taken, default=-1) + 1:03d}"


def start_run(
    config: TrainConfig,
    out: Path,
    open_display: OpenDisplay,
    on_progress: OnProgress,
    on_note: OnNote,
    call: CallOptions = NOTHING,
) -> RunResult:
    """Trains a new run.

    Args:
        config: What `configure_run` returned; without data, faces are drawn into the run's directory.
        out: The run's directory.
        open_display: Opens what shows the run.
        on_progress: Receives how many faces are drawn.
        on_note: Receives a summary and advice, line by line, before the run begins.
        call: What this call does besides training.
    """
    from pggan.data.store.store import Store
    from pggan.training.engine.environment import resolve
    from pggan.training.start import advice, advice_on_cpu, begin
    from pggan.utils.process_pool import available_cores

    if is_main_process():
        RunDirectory(out).check_free()
    # before faces are drawn: a configuration that cannot be trained is refused at once
    schedule, environment = config.schedule, resolve(config)
    if config.data is None:
        config = _draw(config, out, on_progress, on_note)
    with Store(str(config.data)) as store:
        hints = advice(config, len(store))
    if environment.device == "cpu":
        hints += advice_on_cpu(config, available_cores())
    for line in [_summary(config, environment, out), *environment.describe_steps(), *hints]:
        on_note(line)
    with open_display(schedule) as display:
        return begin(config, out, display, environment, call)


def resume_run(
    path: Path,
    data: str | Path | None,
    options: Mapping[str, Any],
    override: bool,
    open_display: OpenDisplay,
    call: CallOptions = NOTHING,
) -> RunResult:
    """Goes on with a run, see `pggan.training.start.resume`. `options`: the changed ones, as of `collect_options`."""
    run = RunDirectory(path)
    config, _ = run.read_options()
    changes = dict(options)
    device = changes.pop("device", None)
    if "loss_options" in changes:
        before = dict(config.loss_options)
        given = {name: _overlaid(name, value, before.get(name)) for name, value in changes["loss_options"]}
        changes["loss_options"] = tuple({**before, **given}.items())
    new, _ = changed(config, changes, override)
    from pggan.training.start import resume

    with open_display(new.schedule) as display:
        return resume(run, display, device, None if data is None else str(data), changes, override, call)


def _overlaid(name: str, value: Any, before: Any) -> Any:
    """Returns an option of a loss over its earlier value: resolutions that are not named keep theirs."""
    if before is None:
        return value
    option = all_options()[name]
    both = overlay(option.check(value), option.check(before))
    return str(both) if isinstance(both, PerResolution) else value


def _draw(config: TrainConfig, run: Path, on_progress: OnProgress, on_note: OnNote) -> TrainConfig:
    """Draws synthetic faces into the run's own directory and returns the configuration with them as its data."""
    from pggan.data.prepare.prepare import PrepareOptions, prepare
    from pggan.training.start import DRAWN_COUNT
    from pggan.utils.process_pool import available_cores

    store, done = RunDirectory(run).data, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_progress("drawing faces", done, DRAWN_COUNT)

    options = PrepareOptions(max_res=config.max_res, seed=config.seed, workers=available_cores(), overwrite=True)
    on_progress("drawing faces", 0, DRAWN_COUNT)
    report = prepare(f"drawn:{DRAWN_COUNT}", store, options, on_progress=advance)
    on_note(f"drew {report.count} faces into {store}; {report.attribution}")
    return replace(config, data=str(store.resolve()))


def _summary(config: TrainConfig, environment: RunEnvironment, run: Path) -> str:
    from pggan.training.monitor.plan_table import sizes

    last = sizes(config)[-1]
    side = config.max_res
    grows = f"{config.start_res}x{config.start_res} to {side}x{side}" if config.growth != "none" else f"{side}x{side}"
    return (
        f"run {run}: {grows}, preset {config.preset}, loss {config.loss}; G {last['g'] / 1e6:.3f}M and "
        f"D {last['d'] / 1e6:.3f}M parameters; {environment.precision} on {environment.device}"
    )
