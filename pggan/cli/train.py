"""`pggan train`: trains a generator and a discriminator, or resumes a run."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.options import Output, dry_run_option, json_option, quiet_option
from pggan.cli.train_options import collect, config_option, like_option, train_options
from pggan.config.config_file import to_options, to_toml
from pggan.config.losses import resolve_options
from pggan.config.option import Group
from pggan.config.presets import DEFAULT_PRESET, PRESETS, configure
from pggan.config.train import TrainConfig
from pggan.utils.errors import UsageError
from pggan.utils.formatting import paste
from pggan.utils.output import activity, say

if TYPE_CHECKING:
    from pggan.config.schedule import Schedule
    from pggan.training.engine.environment import RunEnvironment
    from pggan.training.engine.memory_estimate import MicroBatchPlan
    from pggan.training.loop import RunResult
    from pggan.training.monitor.display import Display

# fmt: off
OUT = cloup.option(
    "--out", type=click.Path(path_type=Path), help="Run directory to create.  [default: the next runs/NNN]"
)
RESUME = cloup.option(
    "--resume", "resumed", metavar="RUN", type=click.Path(path_type=Path),
    help="Resume a run from its last checkpoint; give DATA only where it has moved.  [default: none]",
)
PRESET = cloup.option(
    "--preset", metavar="NAME", type=click.Choice(PRESETS.names()),
    help=f"Recipe that the other options change: {', '.join(PRESETS.names())}.  [default: {DEFAULT_PRESET}]",
)
GPUS = cloup.option(
    "--gpus", type=click.IntRange(1, 1024),
    help="Train on this many GPUs of this machine (with --device cpu: in this many processes). For several machines "
    "use torchrun.  [default: 1]",
)
OVERRIDE = cloup.option(
    "--override", is_flag=True, help="With --resume: accept options that change the run's result, and record them."
)
PEAK_TFLOPS = cloup.option(
    "--peak-tflops", type=click.FloatRange(0, min_open=True), metavar="TFLOP/S",
    help="With --dry-run and --peak-bandwidth: also the hours that the run takes at least on a card of this peak rate, "
    "in the run's precision, without sparsity.  [default: none]",
)
PEAK_BANDWIDTH = cloup.option(
    "--peak-bandwidth", type=click.FloatRange(0, min_open=True), metavar="GB/S",
    help="The card's peak rate of memory.  [default: none]",
)
WRITE_CONFIG = cloup.option(
    "--write-config", is_flag=True, help="Print all options of this run, as a file for --config, and train nothing."
)
# fmt: on


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    data: str | None  # a prepared store; None: synthetic faces
    out: Path | None  # run directory to create
    resumed: Path | None  # run directory to resume
    gpus: int | None
    override: bool
    dry_run: bool
    peaks: tuple[float, float] | None  # a card's TFLOP/s and GB/s
    output: Output
    options: dict[str, Any]  # fields of `TrainConfig`; None where not given


@cloup.command("train")
@click.argument("data", required=False, type=click.Path())
@train_options(
    {
        Group.RUN: [
            OUT,
            RESUME,
            OVERRIDE,
            PRESET,
            config_option(),
            like_option(),
            WRITE_CONFIG,
            dry_run_option,
            json_option,
            quiet_option,
        ],
        Group.COMPUTING: [GPUS, PEAK_TFLOPS, PEAK_BANDWIDTH],
    }
)
def command(as_json: bool, quiet: bool, write_config: bool, **values: Any) -> int:
    """Train a generator and a discriminator on a data store.

    DATA is a store that prepare-data made; without it, synthetic faces are drawn first. Options replace what the preset
    says; a default below is that of a run without --preset. Ctrl-C saves a checkpoint, prints how to resume and exits
    with status 130 (SIGTERM: 143, SIGHUP: 129).
    """
    output = Output(as_json, quiet or not _is_main_process())
    own = {name: values.pop(name) for name in ("data", "out", "resumed", "gpus", "override", "dry_run")}
    own["peaks"] = _peaks(values.pop("peak_tflops"), values.pop("peak_bandwidth"), own["dry_run"])
    request = Request(**own, output=output, options=collect(values))
    if request.resumed is None and request.override:
        raise UsageError("--override is about --resume; leave it out")
    if request.gpus is not None and request.gpus > 1 and not request.dry_run:
        return _launch_on_gpus(request, request.gpus)
    if "RANK" in os.environ and request.resumed is None and (request.data is None or request.out is None):
        raise UsageError("several processes of one run need to be given DATA and --out")
    if request.resumed is not None and write_config:
        raise UsageError("--write-config is about a new run: --like RUN takes that run's options")
    if request.resumed is not None:
        return _report(_resume(request, request.resumed), output)
    config = _configure(request)
    if write_config:
        options = to_options(config)
        output.result(options, *to_toml(options).splitlines())
        return 0
    if request.dry_run:
        _show_plan(config, request)
        return 0
    return _report(_begin(config, request.out or _next_run(), request), output)


def _peaks(tflops: float | None, bandwidth: float | None, dry_run: bool) -> tuple[float, float] | None:
    """Returns both peak rates of a card. Raises `UsageError` where one is missing, or nothing is planned."""
    if tflops is None and bandwidth is None:
        return None
    if tflops is None or bandwidth is None:
        raise UsageError("--peak-tflops and --peak-bandwidth describe a card together; give both")
    if not dry_run:
        raise UsageError("--peak-tflops and --peak-bandwidth are about a plan; add --dry-run")
    return tflops, bandwidth


def _is_main_process() -> bool:
    """Returns whether this process prints for the run: a launcher numbers its processes."""
    return os.environ.get("RANK", "0") == "0"


def _launch_on_gpus(request: Request, count: int) -> int:
    """Starts this same command once per GPU and returns the exit status."""
    from pggan.training.run.launcher import launch

    if request.data is None and request.resumed is None:
        raise UsageError("--gpus shares prepared data: prepare it first, then give DATA")
    if not str(request.options["device"] or "").startswith("cpu"):
        import torch

        if torch.cuda.device_count() < count:
            have = torch.cuda.device_count()
            raise UsageError(f"--gpus {count}: this machine has {have} CUDA GPUs; give as many or fewer")
    arguments = sys.argv[1:]
    at = next(i for i, argument in enumerate(arguments) if argument.split("=")[0] == "--gpus")
    del arguments[at : at + (1 if "=" in arguments[at] else 2)]
    if request.resumed is None and request.out is None:
        arguments += ["--out", str(_next_run())]
    return launch(count, arguments)


def _configure(request: Request) -> TrainConfig:
    """Returns the configuration, fitted to its data: without DATA, to the faces that are to be drawn."""
    from pggan.training.start import DRAWN_RESOLUTION, fit_to_data, fit_to_drawn

    options, warm_start = request.options, None
    if options["start_from"] is not None:
        from pggan.training.run.warm_start import WarmStart

        warm_start = WarmStart.read(options["start_from"])

    def configured(largest: int) -> TrainConfig:
        return configure(options["preset"], warm_start.options(options, largest) if warm_start else options, largest)

    if request.data is None:
        config = fit_to_drawn(configured(DRAWN_RESOLUTION))
    else:
        from pggan.data.store.store import Store

        with Store(request.data) as store:
            config = fit_to_data(configured(store.max_resolution), store.manifest)
        config = replace(config, data=str(Path(request.data).resolve()))
    if warm_start:
        # a preset's length is that of its own phases
        config = replace(warm_start.fit(config), total_kimg=options["total_kimg"])
    resolve_options(config.loss, config.labels is not None, dict(config.loss_options), config.has_codes)
    return config


def _draw(config: TrainConfig, run: Path, output: Output) -> TrainConfig:
    """Draws synthetic faces into the run's own directory and returns the configuration with them as its data."""
    from pggan.data.prepare.prepare import PrepareOptions, prepare
    from pggan.training.run.directory import RunDirectory
    from pggan.training.start import DRAWN_COUNT
    from pggan.utils.process_pool import available_cores

    store = RunDirectory(run).data
    options = PrepareOptions(max_res=config.max_res, seed=config.seed, workers=available_cores(), overwrite=True)
    with output.progress("drawing faces", DRAWN_COUNT) as advance:
        report = prepare(f"drawn:{DRAWN_COUNT}", store, options, on_progress=advance)
    say(f"drew {report.count} faces into {store}; {report.attribution}", err=True)
    return replace(config, data=str(store.resolve()))


def _next_run() -> Path:
    """Returns the first free runs/NNN."""
    taken = [int(p.name) for p in Path("runs").glob("[0-9][0-9][0-9]*") if p.name.isdecimal()]
    return Path("runs") / f"{max(taken, default=-1) + 1:03d}"


def _begin(config: TrainConfig, run: Path, request: Request) -> RunResult:
    from pggan.data.store.store import Store
    from pggan.training.engine.environment import resolve
    from pggan.training.run.directory import RunDirectory
    from pggan.training.start import advice, begin

    if _is_main_process():
        RunDirectory(run).check_free()
    # before faces are drawn: a configuration that cannot be trained is refused at once
    schedule, environment = config.schedule, resolve(config)
    if config.data is None:
        config = _draw(config, run, request.output)
    if not request.output.silent:
        with Store(str(config.data)) as store:
            hints = advice(config, len(store))
        for line in [_summary(config, environment, run), *environment.describe_steps(), *hints]:
            request.output.note(line)
    with ExitStack() as stack:
        return begin(config, run, _display(schedule, request.output.silent, stack), environment)


def _resume(request: Request, path: Path) -> RunResult:
    from pggan.config.resume_policy import changed
    from pggan.training.run.directory import RunDirectory

    if request.out is not None or request.dry_run:
        flag = "--out" if request.out else "--dry-run"
        raise UsageError(f"--resume goes on in the run's own directory; leave {flag} out")
    run = RunDirectory(path)
    config, _ = run.read_options()
    options = dict(request.options)
    device = options.pop("device")
    if options["loss_options"] is not None:
        options["loss_options"] = tuple({**dict(config.loss_options), **dict(options["loss_options"])}.items())
    new, _ = changed(config, options, request.override)
    from pggan.training.start import resume

    with ExitStack() as stack:
        display = _display(new.schedule, request.output.silent, stack)
        return resume(run, display, device, request.data, options, request.override)


def _display(schedule: Schedule, silent: bool, stack: ExitStack) -> Display:
    """Returns what shows the run's progress; `stack` closes it."""
    from pggan.training.monitor.display import Display, LineDisplay, LiveDisplay, QuietDisplay

    if not _is_main_process():
        return Display()
    if silent:
        return QuietDisplay()
    if sys.stderr.isatty():
        return stack.enter_context(LiveDisplay(schedule))
    display = LineDisplay(schedule)
    stack.enter_context(activity(display.describe))
    return display


def _summary(config: TrainConfig, environment: RunEnvironment, run: Path) -> str:
    from pggan.training.monitor.plan_table import sizes

    last = sizes(config)[-1]
    side = config.max_res
    grows = f"{config.start_res}x{config.start_res} to {side}x{side}" if config.growth != "none" else f"{side}x{side}"
    return (
        f"run {run}: {grows}, preset {config.preset}, loss {config.loss}; G {last['g'] / 1e6:.3f}M and "
        f"D {last['d'] / 1e6:.3f}M parameters; {environment.precision} on {environment.device}"
    )


def _show_plan(config: TrainConfig, request: Request) -> None:
    """Prints the phases; with --budget also the micro-batches by estimate, with peak rates the least of hours."""
    from pggan.config.serialization import to_json
    from pggan.training.engine.memory_estimate import describe, estimate_memory, plan_to_json
    from pggan.training.monitor.plan_table import card_plan, plan, table

    memory: dict[int, MicroBatchPlan] = estimate_memory(config) if config.budget is not None else {}
    values = {"config": to_json(config), **plan(config)}
    lines = [f"data: {request.data or 'faces drawn on the spot'}; preset {config.preset}", *table(config).splitlines()]
    if memory:
        values["memory"] = plan_to_json(memory)
        lines += describe(memory, config.budget)
    elif config.auto_batch:
        lines.append("images computed at once: as many as fit into what is free when a resolution begins")
    card, more = card_plan(config, request.peaks)
    request.output.result({**values, **card}, *lines, *more)


def _report(result: RunResult, output: Output) -> int:
    """Prints what a run has reached and returns the exit status."""
    run, nimg = result.run, result.nimg
    status = 128 + result.signal if result.signal else 0
    if not _is_main_process():
        return status
    best = run.best if run.best.exists() else None
    models, lines = run.models(), []
    report = {"run": str(run.path), "nimg": nimg, "signal": result.signal, "seconds": result.seconds}
    report |= {"model": str(models[-1]) if models else None, "best": str(best) if best else None, "last": result.last}
    if not result.signal:
        lines.append(f"trained {nimg / 1000:g} kimg; sample grids: {run.samples}")
        lines.append(f"new pictures: pggan generate {paste(run.path)} --n 64 --out pictures")
        if best:
            lines.append(f"the best model by its figures: {best} (pggan generate {paste(run.path)} --best)")
    output.result(report, *lines)
    if result.signal:
        say(f"stopped and saved at {nimg / 1000:g} kimg; go on with: pggan train --resume {paste(run.path)}", err=True)
    return status
