"""`pggan export-data`: a data store as files that other programs read."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from pggan.cli.options import FilePath, Output, limit_option, output_options
from pggan.cli.progress_bar import deferred_progress
from pggan.utils.formatting import size


@cloup.command("export-data")
@cloup.argument("data", type=FilePath())
@cloup.argument("out", type=FilePath(path_type=Path))
@cloup.option_group(
    "Files",
    cloup.option(
        "--as", "kind", type=click.Choice(["folder", "zip", "tfrecord", "parquet"]), required=True,
        help="Format to write. folder, zip: PNGs with labels.csv (and dataset.json for StyleGAN's tools). tfrecord: "
        "that of the official release, all resolutions. parquet: Hugging Face's.",
    ),
    cloup.option(
        "--res", "resolution", type=int, metavar="R", show_default="the largest", help="Resolution of the pictures."
    ),
    cloup.option(
        "--labels", metavar="COLUMN", show_default="the only one",
        help="Label column of what holds one: TFRecords, and StyleGAN's dataset.json in folders and zips.",
    ),
    cloup.option(
        "--by-class", metavar="COLUMN", show_default="folders of 1000",
        help="Put the PNGs of a folder or a zip into a folder for each class of this label, as torchvision's "
        "ImageFolder and Hugging Face's imagefolder read them; pictures without the label are left out.",
    ),
    limit_option,
)  # fmt: skip
@output_options
def command(
    data: str, out: Path, kind: str, resolution: int | None, labels: str | None, by_class: str | None,
    limit: int | None, output: Output,
) -> None:  # fmt: skip
    """Write a data store as files that other programs read.

    The pictures and labels of DATA, a store, go to OUT, so that nobody is locked in. prepare-data reads the same pixels
    back from there. OUT appears when it is complete; the name of a zip gets the ending .zip.
    """
    from pggan.interop.export_data import export_data

    with deferred_progress("exporting", output.silent) as (start, advance):
        result = export_data(data, out, kind, resolution, labels, limit, start, advance, by_class)
    side, columns = result["resolution"], ", ".join(result["labels"])
    summary = f"{result['out']}: {result['pictures']} pictures of {side}x{side} as {kind}, {size(result['bytes'])}"
    notes = [f"  {note}" for note in result["notes"]]
    output.result(result, summary + (f"; labels: {columns}" if columns else ""), *notes)
