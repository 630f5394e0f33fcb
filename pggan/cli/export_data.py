"""`pggan export-data`: a store as files that other programs read."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from pggan.cli.options import as_json, quiet
from pggan.cli.progress_bar import progress
from pggan.utils.formatting import size


@click.command("export-data")
@click.argument("data", type=click.Path())
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "kind",
    type=click.Choice(["folder", "zip", "tfrecord", "parquet"]),
    required=True,
    help="folder, zip: PNGs with labels.csv (and dataset.json for StyleGAN's tools). tfrecord: the official release's, "
    "all resolutions. parquet: Hugging Face's.",
)
@click.option("--res", "resolution", type=int, help="Resolution of the pictures.  [default: the largest]")
@click.option("--labels", metavar="COLUMN", help="For formats with one column of labels.  [default: the only one]")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many pictures.")
@as_json
@quiet
def command(
    data: str,
    out: Path,
    kind: str,
    resolution: int | None,
    labels: str | None,
    limit: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the pictures and labels of DATA, a store, to OUT, so that nobody is locked in.

    What is written reads back to the same pixels, with prepare-data or anything else. OUT appears when it is whole.
    """
    from pggan.interop.export_data import export_data

    with ExitStack() as stack:
        advance: Any = None

        def start(total: int) -> None:
            nonlocal advance
            advance = stack.enter_context(progress("exporting", total, quiet=quiet or as_json))

        done = export_data(data, out, kind, resolution, labels, limit, start, lambda n: advance(n))
    if as_json:
        click.echo(json.dumps(done))
        return
    side, named = done["resolution"], ", ".join(done["labels"])
    click.echo(
        f"{out}: {done['pictures']} pictures of {side}x{side} as {kind}, {size(done['bytes'])}"
        + (f"; labels: {named}" if named else "")
    )
