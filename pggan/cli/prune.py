"""`pggan prune`: reduces a run to what a person shares."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import cloup

from pggan.cli.options import FilePath, Output, discriminator_option, dry_run_option, json_option
from pggan.utils.errors import UsageError
from pggan.utils.formatting import size


@cloup.command("prune")
@cloup.argument("run", type=FilePath(path_type=Path))
@cloup.option_group(
    "Prune",
    discriminator_option,
    dry_run_option,
    cloup.option("--yes", is_flag=True, help="Do not ask, although the run cannot be resumed afterwards."),
)
@cloup.option_group("Output", json_option)
def command(run: Path, with_discriminator: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Reduce a run to the files that are worth sharing.

    Of RUN stay its best and its newest model and those of pggan ema (the averaged generators alone), the options, the
    log and the grids of generated pictures. A card (card.md) and a sample sheet (sheet.png) are added.

    Training states, older models, discriminators, TensorBoard's events and faces drawn for the run are removed, for
    they only serve to resume it. So are the grids of real pictures. A run that is training is refused.
    """
    from pggan.training.run.directory import RunDirectory
    from pggan.training.run.prune import plan_pruning, prune

    directory = RunDirectory(run)
    plan = plan_pruning(directory, with_discriminator)
    if not dry_run:
        if plan.resumable and not yes:
            _confirm(run, as_json)
        plan = prune(directory, with_discriminator)
    removed, taken = ("would remove", "would take") if dry_run else ("removed", "took")
    lines = [f"{removed} {path.relative_to(run)}" for path in plan.removed]
    lines += [f"{taken} the discriminator out of {path.relative_to(run)}" for path in plan.stripped]
    models, freed = ", ".join(str(path.relative_to(run)) for path in plan.models), size(plan.bytes_removed)
    if dry_run:
        lines.append(f"would keep {models}; {freed} of other files would go")
    else:
        lines.append(f"kept {models}; {freed} of other files are gone")
        lines.append(f"to share: {run}, its card is {run / 'card.md'}")
    Output(as_json).result({**plan.to_json(), "dry_run": dry_run}, *lines)


def _confirm(run: Path, as_json: bool) -> None:
    """Asks before what cannot be undone. Raises `click.Abort`, or `UsageError` where nobody can be asked."""
    if as_json or not sys.stdin.isatty():
        raise UsageError(f"{run} could not be gone on with afterwards (train --resume); insist with --yes")
    if not click.confirm(f"{run} cannot be gone on with afterwards. Prune it?", err=True):
        raise click.Abort
