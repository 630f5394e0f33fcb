"""`pggan prune`: of a run, what a person shares."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pggan.utils.errors import UsageError
from pggan.utils.formatting import size


@click.command("prune")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--with-discriminator", is_flag=True, help="Models keep theirs, for train --from.")
@click.option("--dry-run", is_flag=True, help="Say what would stay and what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask, although the run cannot be gone on with afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(run: Path, with_discriminator: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Keep of RUN what is shared: its best and its newest model (the averaged generator alone), the options, the log
    and the grids of generated pictures, with a card (card.md) and a sample sheet (sheet.png).

    What only going on with the run needs is removed: training states, older models, discriminators, TensorBoard's
    events, faces drawn for it. So are the grids of real pictures. A run that trains is refused.
    """
    from pggan.training.run.directory import RunDirectory
    from pggan.training.run.prune import plan_pruning, prune

    where = RunDirectory(run)
    plan = plan_pruning(where, with_discriminator)
    if not dry_run:
        if plan.resumable and not yes:
            _ask(run, as_json)
        plan = prune(where, with_discriminator)
    if as_json:
        click.echo(json.dumps({**plan.to_json(), "dry_run": dry_run}))
        return
    would = "would " if dry_run else ""
    for path in plan.removed:
        click.echo(f"{would}remove {path.relative_to(run)}" if dry_run else f"removed {path.relative_to(run)}")
    for path in plan.stripped:
        click.echo(f"{would}take the discriminator out of {path.relative_to(run)}" if dry_run
                   else f"took the discriminator out of {path.relative_to(run)}")  # fmt: skip
    kept = ", ".join(str(path.relative_to(run)) for path in plan.models)
    click.echo(f"{would + 'keep' if dry_run else 'kept'} {kept}; {size(plan.bytes_removed)} of other files "
               f"{'would go' if dry_run else 'are gone'}")  # fmt: skip
    if not dry_run:
        click.echo(f"to share: {run}, its card is {run / 'card.md'}")


def _ask(run: Path, as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise UsageError(f"{run} could not be gone on with afterwards (train --resume); insist with --yes")
    if not click.confirm(f"{run} cannot be gone on with afterwards. Prune it?", err=True):
        raise click.Abort
