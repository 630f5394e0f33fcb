"""`pggan train`: trains a generator and a discriminator, or resumes a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.options import FilePath, NumberRange, Output, dry_run_option, json_option, quiet_option
from pggan.cli.progress_bar import staged_progress
from pggan.cli.train_call import ON_SNAPSHOT, TRACK
from pggan.cli.train_options import config_option, like_option, train_options
from pggan.config.config_file import to_options, to_toml
from pggan.config.option import Group
from pggan.config.presets import DEFAULT_PRESET, PRESETS
from pggan.config.train import TrainConfig
from pggan.training.run.call_options import CallOptions, call_options
from pggan.training.train_run import collect_options, configure_run, is_main_process, next_run
from pggan.utils.errors import UsageError
from pggan.utils.formatting import paste
from pggan.utils.output import activity, say

if TYPE_CHECKING:
    from pggan.config.schedule import Schedule
    from pggan.training.engine.memory_estimate import MicroBatchPlan
    from pggan.training.loop import RunResult
    from pggan.training.monitor.display import Display
    from pggan.training.run.directory import RunDirectory

# fmt: off
OUT = cloup.option(
    "--out", type=FilePath(path_type=Path), help="Run directory to create.  [default: the next runs/NNN]"
)
RESUME = cloup.option(
    "--resume", "resumed", metavar="RUN", type=FilePath(path_type=Path),
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
    "--peak-tflops", type=NumberRange(0, min_open=True), metavar="TFLOP/S",
    help="With --dry-run and --peak-bandwidth: also the hours that the run takes at least on a card of this peak rate, "
    "in the run's precision, without sparsity.  [default: none]",
)
PEAK_BANDWIDTH = cloup.option(
    "--peak-bandwidth", type=NumberRange(0, min_open=True), metavar="GB/S",
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
    call: CallOptions  # what no file and no run says
    options: dict[str, Any]  # by name; None where not given


@cloup.command("train")
@click.argument("data", required=False, type=FilePath())
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
            ON_SNAPSHOT,
            TRACK,
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
    output = Output(as_json, quiet or not is_main_process())
    own = {name: values.pop(name) for name in ("data", "out", "resumed", "gpus", "override", "dry_run")}
    call = call_options(values.pop("track"), values.pop("on_snapshot"))
    own["peaks"] = _peaks(values.pop("peak_tflops"), values.pop("peak_bandwidth"), own["dry_run"])
    request = Request(**own, output=output, call=call, options=values)
    if request.resumed is None and request.override:
        raise UsageError("--override is about --resume; leave it out")
    if request.gpus is not None and request.gpus > 1 and not (request.dry_run or write_config):
        return _launch_on_gpus(request, request.gpus)
    if "RANK" in os.environ and request.resumed is None and (request.data is None or request.out is None):
        raise UsageError("several processes of one run need to be given DATA and --out")
    if request.resumed is not None and write_config:
        raise UsageError("--write-config is about a new run: --like RUN takes that run's options")
    if request.resumed is None and (write_config or request.dry_run):
        config = configure_run(collect_options(request.options), request.data)
        if write_config:
            options = to_options(config)
            output.result(options, *to_toml(options).splitlines())
        else:
            _show_plan(config, request)
        return 0
    return _report(_train(request), output)


def _peaks(tflops: float | None, bandwidth: float | None, dry_run: bool) -> tuple[float, float] | None:
    """Returns both peak rates of a card. Raises `UsageError` where one is missing, or nothing is planned."""
    if tflops is None and bandwidth is None:
        return None
    if tflops is None or bandwidth is None:
        raise UsageError("--peak-tflops and --peak-bandwidth describe a card together; give both")
    if not dry_run:
        raise UsageError("--peak-tflops and --peak-bandwidth are about a plan; add --dry-run")
    return tflops, bandwidth


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
        arguments += ["--out", str(next_run())]
    return launch(count, arguments)


def _train(request: Request) -> RunResult:
    """Trains or resumes with the library's function."""
    from pggan.api import train

    if request.resumed is not None and (request.out is not None or request.dry_run):
        flag = "--out" if request.out else "--dry-run"
        raise UsageError(f"--resume goes on in the run's own directory; leave {flag} out")
    with staged_progress(request.output.silent) as on_progress:
        return train(
            request.data, request.out, resume=request.resumed, override=request.override, on_progress=on_progress,
            on_note=request.output.note, open_display=partial(_display, silent=request.output.silent),
            track=request.call.track, on_snapshot=request.call.on_snapshot, **request.options,
        )  # fmt: skip


@contextmanager
def _display(schedule: Schedule, silent: bool) -> Iterator[Display]:
    """Opens what shows the run's progress."""
    from pggan.training.monitor.display import Display, LineDisplay, LiveDisplay, QuietDisplay

    if not is_main_process():
        yield Display()
    elif silent:
        yield QuietDisplay()
    elif sys.stderr.isatty():
        with LiveDisplay(schedule) as live:
            yield live
    else:
        display = LineDisplay(schedule)
        with activity(display.describe):
            yield display


def _show_plan(config: TrainConfig, request: Request) -> None:
    """Prints the phases; with --budget also the micro-batches by estimate, with peak rates the least of hours."""
    from pggan.config.serialization import to_json
    from pggan.training.engine.memory_estimate import check_batch_divides, describe, estimate_memory, plan_to_json
    from pggan.training.monitor.plan_table import card_plan, plan, table

    processes = request.gpus or 1
    check_batch_divides(config, processes)
    memory: dict[int, MicroBatchPlan] = estimate_memory(config, processes)
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
    if not is_main_process():
        return status
    best = run.best if run.best.exists() else None
    models, lines = run.models(), []
    report = {"run": str(run.path), "nimg": nimg, "signal": result.signal, "seconds": result.seconds}
    report |= {"model": str(models[-1]) if models else None, "best": str(best) if best else None, "last": result.last}
    report |= {"stopped": result.stopped or None}
    if not result.signal:
        lines += [f"ended early: {result.stopped}"] if result.stopped else []
        lines.append(f"trained {nimg / 1000:g} kimg; sample grids: {run.samples}")
        lines.append(f"new pictures: pggan generate {paste(run.path)} --n 64 --out pictures")
        if best:
            lines.append(f"the best model by its figures: {best} (pggan generate {paste(run.path)} --best)")
    output.result(report, *lines)
    if result.signal:
        say(f"{_saved(run, nimg)}; go on with: pggan train --resume {paste(run.path)}", err=True)
    return status


def _saved(run: RunDirectory, nimg: int) -> str:
    """Says at what a run stopped, and what it could save: on a full disk less than that."""
    from pggan.training.run.directory import images_of

    saved = [images_of(path) for path in run.states() if images_of(path) <= nimg]
    if saved and saved[-1] == nimg:
        return f"stopped and saved at {nimg / 1000:g} kimg"
    upto = f"saved up to {saved[-1] / 1000:g} kimg" if saved else "nothing is saved"
    return f"stopped at {nimg / 1000:g} kimg, but {upto}"
