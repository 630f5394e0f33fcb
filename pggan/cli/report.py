"""`pggan report`: a run as one HTML page."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pggan.cli.options import as_json as json_option
from pggan.utils.formatting import size


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The file to write.  [default: RUN/report.html]")
@json_option
def command(run: Path, out: Path | None, as_json: bool) -> None:
    """Write all of RUN into one HTML page: curves, samples through time, phases, models, options, machine.

    The page holds everything it shows: it needs no server and asks for nothing from outside. RUN may be unfinished.
    """
    from pggan.report import write_report

    report = write_report(run, out)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        click.echo(f"{report.path} ({size(report.bytes)})")
