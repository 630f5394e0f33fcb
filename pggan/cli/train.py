"""`pggan train`: grow a generator and a discriminator, or go on with a run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pggan.cli.options import GridSize
from pggan.config import CACHES, PRECISIONS, PerResolution, TrainConfig
from pggan.errors import UsageError
from pggan.objectives import OBJECTIVES, all_options, resolve_options
from pggan.presets import DEFAULT_PRESET, PRESETS, configure

if TYPE_CHECKING:
    from pggan.training.loop import Display, Outcome


class PerResolutionType(click.ParamType):
    """`128`, `4:128,8:64` or `16,256:8`."""

    name = "number|R:number,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PerResolution:
        if isinstance(value, PerResolution):
            return value
        try:
            return PerResolution.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


PER_RESOLUTION = PerResolutionType()

# option -> (click arguments); each sets the field of its name in config.TrainConfig, where the default and range are
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--start-res", {"type": int, "help": "First resolution (4)."}),
    ("--stable-kimg", {"type": PER_RESOLUTION, "help": "Thousands of images a resolution trains after its fade."}),
    ("--fade-kimg", {"type": PER_RESOLUTION, "help": "Thousands of images a resolution fades in over."}),
    ("--total-kimg", {"type": float, "help": "Length of the run; lengthens or cuts the phases."}),
    ("--batch", {"type": PER_RESOLUTION, "help": "Images an iteration."}),
    ("--micro-batch", {"type": PER_RESOLUTION, "help": "Most images computed at once; gradients add up to the batch."}),
    ("--g-lr", {"type": PER_RESOLUTION, "help": "Learning rate of the generator."}),
    ("--d-lr", {"type": PER_RESOLUTION, "help": "Learning rate of the discriminator."}),
    ("--fmap-base", {"type": int, "help": "Feature maps: stage s has min(base / 2^s, max)."}),
    ("--fmap-max", {"type": int, "help": "Most feature maps of a layer."}),
    ("--latent-size", {"type": int, "help": "Dimensions of the latent."}),
    ("--fused-scale/--no-fused-scale", {"default": None, "help": "Scaling fused into strided convolutions."}),
    ("--stddev-group", {"type": int, "help": "Group of the minibatch statistic; 1: none."}),
    ("--n-critic", {"type": int, "help": "Discriminator steps for each generator step."}),
    ("--ema-decay", {"type": float, "help": "Decay of the generator's running average."}),
    ("--mirror/--no-mirror", {"default": None, "help": "Mirror half of the pictures."}),
    ("--labels", {"help": "Train conditionally on this label column of the data."}),
    (
        "--precision",
        {
            "type": click.Choice(PRECISIONS),
            "help": "auto: bf16 on a GPU that has it, tf32 on one that has that, else fp32.",
        },
    ),
    ("--device", {"help": "auto, cpu, cuda or cuda:N."}),
    ("--seed", {"type": int, "help": "Decides weights, order and noise."}),
    ("--workers", {"type": int, "help": "Threads that read pictures; 0: none beside training."}),
    (
        "--cache",
        {
            "type": click.Choice(CACHES),
            "help": "Where the decoded pictures of the resolution that trains are kept: in the GPU's memory, in main "
            "memory (shared by the machine's processes), or nowhere. auto: the first that has room, taking a quarter "
            "of a GPU's free memory at most (device: up to 70 %).",
        },
    ),
    ("--cache-mb", {"type": int, "help": "Main memory that --cache may take."}),
    ("--tick-kimg", {"type": PER_RESOLUTION, "help": "Thousands of images between lines of the log."}),
    ("--snapshot-ticks", {"type": int, "help": "Ticks between snapshots (sample grid and model)."}),
    ("--checkpoint-ticks", {"type": int, "help": "Ticks between checkpoints to resume from."}),
    ("--keep-checkpoints", {"type": int, "help": "Checkpoints kept; the newest ones."}),
    ("--keep-models", {"type": int, "help": "Models kept; 0: all."}),
    ("--max-rollbacks", {"type": int, "help": "Times a run that goes wrong returns to its last good checkpoint."}),
    ("--rollback-lr", {"type": float, "help": "Factor on the learning rates at each such return."}),
    ("--grid", {"type": GridSize(), "help": "Shape of the sample grids, as 8x4."}),
]


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The table above, and every loss's and regulariser's own numbers, as click options."""
    for option in reversed(list(all_options().values())):
        text = f"{option.help[0].upper()}{option.help[1:]}."
        function = click.option(option.flag, type=float, help=f"{text} [{option.low:g} to {option.high:g}]")(function)
    for flag, arguments in reversed(OPTIONS):
        function = click.option(flag, **arguments)(function)
    return function


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
        _show_plan(config, data, as_json)
        return 0
    return _finish(_begin(config, out or _next_run(), drawn, as_json or quiet), as_json)


def _leads() -> bool:
    """Whether this process speaks for the run: a launcher numbers them."""
    return os.environ.get("RANK", "0") == "0"


def _on_gpus(count: int, data: str | None, out: Path | None, resumed: Path | None, given: dict[str, Any]) -> int:
    """Starts this same command once for every GPU."""
    from pggan.training.launch import launch

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
        from pggan.training.origin import Origin

        origin = Origin.read(given["start_from"])

    def made(largest: int) -> TrainConfig:
        return configure(preset, origin.options(given, largest) if origin else given, largest)

    if data is None:
        config = fit_to_drawn(made(DRAWN_RESOLUTION))
    else:
        from pggan.data.store import Store

        with Store(data) as store:
            config = fit_to_data(made(store.max_resolution), store.manifest)
        config = _replace(config, data=str(Path(data).resolve()))
    if origin:
        # a preset's length is that of its own phases
        config = _replace(origin.fit(config), total_kimg=given["total_kimg"])
    resolve_options(config.loss, config.labels is not None, dict(config.loss_options))
    return config, data is None


def _replace(config: TrainConfig, **values: Any) -> TrainConfig:
    from dataclasses import replace

    return replace(config, **values)


def _draw(config: TrainConfig, run: Path, quiet: bool) -> TrainConfig:
    """Draws faces into the run's own directory."""
    from pggan.cli.prepare_data import cores
    from pggan.cli.progress import progress
    from pggan.data.prepare import PrepareOptions, prepare
    from pggan.training.rundir import RunDirectory
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


def _begin(config: TrainConfig, run: Path, drawn: bool, quiet: bool) -> Outcome:
    from pggan.training.rundir import RunDirectory
    from pggan.training.schedule import Schedule
    from pggan.training.start import begin, resolve

    if _leads():
        RunDirectory(run).check_free()
    # before faces are drawn: what cannot be trained is told at once
    schedule, resolved = Schedule(config), resolve(config)
    if drawn:
        config = _draw(config, run, quiet)
    if not quiet:
        click.echo(_summary(config, resolved, run), err=True)
    with ExitStack() as stack:
        return begin(config, run, _display(schedule, quiet, stack), resolved)


def _resume(
    path: Path,
    data: str | None,
    out: Path | None,
    preset: str | None,
    dry_run: bool,
    quiet: bool,
    given: dict[str, Any],
    override: bool,
) -> Outcome:
    from pggan.training.changes import changed
    from pggan.training.rundir import RunDirectory
    from pggan.training.schedule import Schedule

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
    from pggan.training.display import LineDisplay, LiveDisplay, QuietDisplay, SilentDisplay

    if not _leads():
        return SilentDisplay()
    if quiet:
        return QuietDisplay()
    if sys.stderr.isatty():
        return stack.enter_context(LiveDisplay(schedule))
    return LineDisplay(schedule)


def _summary(config: TrainConfig, resolved: dict[str, Any], run: Path) -> str:
    from pggan.training.plan import sizes

    last = sizes(config)[-1]
    side = config.max_res
    return (
        f"run {run}: {config.start_res}x{config.start_res} to {side}x{side}, preset {config.preset}, loss "
        f"{config.loss}; G {last['g'] / 1e6:.3f}M and D {last['d'] / 1e6:.3f}M parameters; "
        f"{resolved['precision']} on {resolved['device']}"
    )


def _show_plan(config: TrainConfig, data: str | None, as_json: bool) -> None:
    from pggan.config import to_json
    from pggan.training.plan import plan, table

    if as_json:
        click.echo(json.dumps({"config": to_json(config), **plan(config)}))
        return
    click.echo(f"data: {data or 'faces drawn on the spot'}; preset {config.preset}")
    click.echo(table(config))


def _finish(outcome: Outcome, as_json: bool) -> int:
    run = outcome.run.path
    models = outcome.run.models()
    if not _leads():
        return 128 + outcome.signal if outcome.signal else 0
    if as_json:
        model = str(models[-1]) if models else None
        done = {"run": str(run), "nimg": outcome.nimg, "signal": outcome.signal, "seconds": outcome.seconds}
        click.echo(json.dumps({**done, "model": model, "last": outcome.last}))
    elif not outcome.signal:
        click.echo(f"trained {outcome.nimg / 1000:g} kimg; sample grids: {outcome.run.samples}")
        click.echo(f"new pictures: pggan generate {run} --n 64 --out pictures")
    if outcome.signal:
        click.echo(
            f"stopped and saved at {outcome.nimg / 1000:g} kimg; go on with: pggan train --resume {run}", err=True
        )
        return 128 + outcome.signal
    return 0
