"""`pggan merge-data`: stores to one."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import click

from pggan.cli.interrupts import can_go_on
from pggan.cli.progress_bar import progress
from pggan.utils.formatting import duration, size


@click.command("merge-data")
@click.argument("dest", type=click.Path())
@click.argument("parts", type=click.Path(), nargs=-1, required=True)
@click.option("--overwrite", is_flag=True, help="Replace a store at DEST, once the new one is whole.")
@click.option("--force", is_flag=True, help="Start even if the disk looks too small.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(dest: str, parts: tuple[str, ...], overwrite: bool, force: bool, as_json: bool, quiet: bool) -> None:
    """Join the stores PARTS into one, DEST.

    Those that pggan prepare-data --shard made come in the order of their numbers, however they are given, and make what
    one preparation would have made; one that is missing or there twice is named. Other stores come in the order given.
    All have to have the same resolutions, codecs, channels and label columns. Records are checked and copied as they
    are. Interrupted, the same command goes on.
    """
    from pggan.data.store.merge import merge

    with ExitStack() as stack:
        advance: Any = None

        def start(total: int) -> None:
            nonlocal advance
            advance = stack.enter_context(progress("merging", total, quiet=quiet))

        stack.enter_context(can_go_on(dest))
        report = merge(dest, parts, overwrite, force, start, lambda n: advance(n))
    if as_json:
        click.echo(json.dumps(report.to_json()))
        return
    click.echo(f"{report.path}: {report.count} pictures of {len(report.parts)} stores")
    for reason, count in report.left_out.items():
        click.echo(f"  left out of them: {count} {reason}")
    click.echo(f"  on disk: {size(report.bytes_on_disk)}, made in {duration(report.seconds)}")
    if report.labels:
        click.echo(f"  labels: {', '.join(report.labels)}")
    if report.attribution:
        click.echo(f"  attribution: {report.attribution}")
