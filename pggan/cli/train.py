"""`pggan train`: grow a generator and a discriminator, or go on with a run."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pggan.cli.train_options import options
from pggan.config.losses import OBJECTIVES, all_options, resolve_options
from pggan.config.presets import DEFAULT_PRESET, PRESETS, configure
from pggan.config.train import TrainConfig
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.training.engine.environment import RunEnvironment
    from pggan.training.engine.memory_estimate import MicroBatchPlan
    from pggan.training.loop import RunResult
    from pggan.training.monitor.display import Display


@click.command("train")
@click.argument("data", required=False, type=click.Path())
@click.option("--out", type=click.Path(path_type=Path), help="Run directory to make. Default: the next runs/NNN.")
@click.option(
    "--resume",
    "resumed",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Go on with a run; DATA only where it has moved.",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS.names()),
    help=f"Recipe that the other options change ({DEFAULT_PRESET}).",
)
@click.option(
    "--from",
    "start_from",
    metavar="MODEL",
    help="Begin with this model's networks and weights, at its resolution: a file, a run or a shipped model's name.",
)
@click.option("--max-res", type=int, help="Last resolution. Default: the preset's, at most the data's.")
@click.option("--loss", type=click.Choice(OBJECTIVES.names()), help="Loss of the two players (wgan-gp).")
@options
@click.option(
    "--gpus",
    type=click.IntRange(1, 1024),
    help="Train on so many GPUs of this machine (with --device cpu: in so many processes). Several machines: torchrun.",
)
@click.option("--override", is_flag=True, help="With --resume: take options that change the run's result.")
@click.option("--dry-run", is_flag=True, help="Print the whole plan and train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome (or the plan) as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    data: str | None,
    out: Path | None,
    resumed: Path | None,
    preset: str | None,
    gpus: int | None,
    override: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> int:
    """Grow a generator and a discriminator on DATA, a store that prepare-data made.

    Without DATA, faces are drawn first. Options go over the preset's values; `number|R:number,...` is one number for
    all resolutions (128), numbers by resolution (4:128,8:64; unnamed ones keep the preset's), or both (16,256:8).
    Ctrl-C saves, says how to go on and exits 130 (SIGTERM: 143).
    """
    if given["batch"] == "auto":
        given |= {"batch": None, "auto_batch": True}
    if override and resumed is None:
        raise UsageError("--override is about --resume; leave it out")
    if gpus is not None and gpus > 1 and not dry_run:
        return _on_gpus(gpus, data, out, resumed, given)
    quiet = quiet or not _leads()
    if "RANK" in os.environ and resumed is None and (data is None or out is None):
        raise UsageError("several processes of one run need to be given DATA and --out")
    if resumed is not None:
        outcome = _resume(resumed, data, out, preset, dry_run, as_json or quiet, given, override)
        return _finish(outcome, as_json)
    config, drawn = _configure(data, preset, given)
    if dry_run:
        memory = {}
        if config.budget is not None:
            from pggan.training.engine.memory_estimate import estimate_memory

            memory = estimate_memory(config)
        _show_plan(config, data, as_json, memory)
        return 0
    return _finish(_begin(config, out or _next_run(), drawn, as_json or quiet), as_json)


def _leads() -> bool:
    """Whether this process speaks for the run: a launcher numbers them."""
    return os.environ.get("RANK", "0") == "0"


def _on_gpus(count: int, data: str | None, out: Path | None, resumed: Path | None, given: dict[str, Any]) -> int:
    """Starts this same command once for every GPU."""
    from pggan.training.run.launcher import launch

    if data is None and resumed is None:
        raise UsageError("--gpus shares prepared data: prepare it first, then give DATA")
    if not str(given.get("device") or "").startswith("cpu"):
        import torch

        if torch.cuda.device_count() < count:
            raise UsageError(f"--gpus {count}: this machine has {torch.cuda.device_count()}; give as many or fewer")
    arguments = sys.argv[1:]
    at = next(i for i, argument in enumerate(arguments) if argument.split("=")[0] == "--gpus")
    del arguments[at : at + (1 if "=" in arguments[at] else 2)]
    if resumed is None and out is None:
        arguments += ["--out", str(_next_run())]
    return launch(count, arguments)


def _configure(data: str | None, preset: str | None, given: dict[str, Any]) -> tuple[TrainConfig, bool]:
    """The configuration fitted to its data, and whether faces have to be drawn first."""
    from pggan.training.start import DRAWN_RESOLUTION, fit_to_data, fit_to_drawn

    chosen = {name: given.pop(name) for name in all_options()}
    loss_options = tuple((name, value) for name, value in chosen.items() if value is not None)
    given["loss_options"] = loss_options or None
    origin = None
    if given["start_from"] is not None:
        from pggan.training.run.warm_start import WarmStart

        origin = WarmStart.read(given["start_from"])

    def made(largest: int) -> TrainConfig:
        return configure(preset, origin.options(given, largest) if origin else given, largest)

    if data is None:
        config = fit_to_drawn(made(DRAWN_RESOLUTION))
    else:
        from pggan.data.store.store import Store

        with Store(data) as store:
            config = fit_to_data(made(store.max_resolution), store.manifest)
        config = _replace(config, data=str(Path(data).resolve()))
    if origin:
        # a preset's length is that of its own phases
        config = _replace(origin.fit(config), total_kimg=given["total_kimg"])
    resolve_options(config.loss, config.labels is not None, dict(config.loss_options), config.has_codes)
    return config, data is None


def _replace(config: TrainConfig, **values: Any) -> TrainConfig:
    from dataclasses import replace

    return replace(config, **values)


def _draw(config: TrainConfig, run: Path, quiet: bool) -> TrainConfig:
    """Draws faces into the run's own directory."""
    from pggan.cli.prepare_data import cores
    from pggan.cli.progress_bar import progress
    from pggan.data.prepare.prepare import PrepareOptions, prepare
    from pggan.training.run.directory import RunDirectory
    from pggan.training.start import DRAWN_COUNT

    where = RunDirectory(run).data
    wanted = PrepareOptions(max_res=config.max_res, seed=config.seed, workers=cores(), overwrite=True)
    with progress("drawing faces", DRAWN_COUNT, quiet=quiet) as advance:
        report = prepare(f"drawn:{DRAWN_COUNT}", where, wanted, on_progress=advance)
    click.echo(f"drew {report.count} faces into {where}; {report.attribution}", err=True)
    return _replace(config, data=str(where.resolve()))


def _next_run() -> Path:
    taken = [int(p.name) for p in Path("runs").glob("[0-9][0-9][0-9]*") if p.name.isdecimal()]
    return Path("runs") / f"{max(taken, default=-1) + 1:03d}"


def _begin(config: TrainConfig, run: Path, drawn: bool, quiet: bool) -> RunResult:
    from pggan.config.schedule import Schedule
    from pggan.training.engine.environment import resolve
    from pggan.training.run.directory import RunDirectory
    from pggan.training.start import advice, begin

    if _leads():
        RunDirectory(run).check_free()
    # before faces are drawn: what cannot be trained is told at once
    schedule, environment = Schedule(config), resolve(config)
    if drawn:
        config = _draw(config, run, quiet)
    if not quiet:
        click.echo(_summary(config, environment, run), err=True)
        for line in [*environment.describe_steps(), *advice(config, _pictures(config))]:
            click.echo(line, err=True)
    with ExitStack() as stack:
        return begin(config, run, _display(schedule, quiet, stack), environment)


def _pictures(config: TrainConfig) -> int:
    from pggan.data.store.store import Store

    with Store(str(config.data)) as store:
        return len(store)


def _resume(
    path: Path,
    data: str | None,
    out: Path | None,
    preset: str | None,
    dry_run: bool,
    quiet: bool,
    given: dict[str, Any],
    override: bool,
) -> RunResult:
    from pggan.config.resume_policy import changed
    from pggan.config.schedule import Schedule
    from pggan.training.run.directory import RunDirectory

    if out is not None or dry_run:
        raise UsageError(f"--resume goes on in the run's own directory; leave {'--out' if out else '--dry-run'} out")
    device = given.pop("device")
    run = RunDirectory(path)
    config, _ = run.read_options()
    chosen = {name: value for name in all_options() if (value := given.pop(name)) is not None}
    loss_options = tuple({**dict(config.loss_options), **chosen}.items()) if chosen else None
    changes = {**given, "preset": preset, "loss_options": loss_options}
    shown, _ = changed(config, changes, override)
    from pggan.training.start import resume

    with ExitStack() as stack:
        return resume(run, _display(Schedule(shown), quiet, stack), device, data, changes, override)


def _display(schedule: Any, quiet: bool, stack: ExitStack) -> Display:
    from pggan.training.monitor.display import LineDisplay, LiveDisplay, QuietDisplay, SilentDisplay

    if not _leads():
        return SilentDisplay()
    if quiet:
        return QuietDisplay()
    if sys.stderr.isatty():
        return stack.enter_context(LiveDisplay(schedule))
    return LineDisplay(schedule)


def _summary(config: TrainConfig, environment: RunEnvironment, run: Path) -> str:
    from pggan.training.monitor.plan_table import sizes

    last = sizes(config)[-1]
    side = config.max_res
    grows = f"{config.start_res}x{config.start_res} to {side}x{side}" if config.growth != "none" else f"{side}x{side}"
    return (
        f"run {run}: {grows}, preset {config.preset}, loss "
        f"{config.loss}; G {last['g'] / 1e6:.3f}M and D {last['d'] / 1e6:.3f}M parameters; "
        f"{environment.precision} on {environment.device}"
    )


def _show_plan(config: TrainConfig, data: str | None, as_json: bool, memory: dict[int, MicroBatchPlan]) -> None:
    """`memory`: the plan within --budget, by estimate."""
    from pggan.config.train import to_json
    from pggan.training.engine.memory_estimate import describe, plan_to_json
    from pggan.training.monitor.plan_table import plan, table

    if as_json:
        click.echo(
            json.dumps(
                {"config": to_json(config), **plan(config), **({"memory": plan_to_json(memory)} if memory else {})}
            )
        )
        return
    click.echo(f"data: {data or 'faces drawn on the spot'}; preset {config.preset}")
    click.echo(table(config))
    for line in describe(memory):
        click.echo(line)
    if config.auto_batch and not memory:
        click.echo("images computed at once: as many as fit into what is free when a resolution begins")


def _finish(outcome: RunResult, as_json: bool) -> int:
    run = outcome.run.path
    models = outcome.run.models()
    if not _leads():
        return 128 + outcome.signal if outcome.signal else 0
    if as_json:
        model = str(models[-1]) if models else None
        done = {"run": str(run), "nimg": outcome.nimg, "signal": outcome.signal, "seconds": outcome.seconds}
        best = str(outcome.run.best) if outcome.run.best.exists() else None
        click.echo(json.dumps({**done, "model": model, "best": best, "last": outcome.last}))
    elif not outcome.signal:
        click.echo(f"trained {outcome.nimg / 1000:g} kimg; sample grids: {outcome.run.samples}")
        click.echo(f"new pictures: pggan generate {run} --n 64 --out pictures")
        if outcome.run.best.exists():
            click.echo(f"the best model by its figures: {outcome.run.best} (pggan generate {run} --best)")
    if outcome.signal:
        click.echo(
            f"stopped and saved at {outcome.nimg / 1000:g} kimg; go on with: pggan train --resume {run}", err=True
        )
        return 128 + outcome.signal
    return 0
