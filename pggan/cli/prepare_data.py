"""`pggan prepare-data`: pictures to one multi-resolution store."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from pggan.cli.progress import progress
from pggan.words import duration, size

SHOWN_BAD = 10


@click.command("prepare-data")
@click.argument("source")
@click.argument("dest", type=click.Path())
@click.option(
    "--max-res",
    type=int,
    help="Largest resolution, a power of two from 4. Default: the largest that 95 % of the pictures reach; "
    "of drawn faces, 256.",
)
@click.option(
    "--codec",
    metavar="CODEC",
    help="raw, png, webp (lossless) or jpeg, for resolutions above 64x64; up to there pictures are raw, which nothing "
    "has to decode. Or by resolution: 256:webp,1024:jpeg. Default: webp, on 1024x1024 portraits 0.92 MiB a picture "
    "where png takes 1.34, as fast to write and read (jpeg: 0.36, three times as fast, not lossless); for grey png, "
    "0.57 MiB where webp takes 0.76.",
)
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Quality of --codec jpeg.")
@click.option(
    "--channels", type=click.Choice(["1", "3"]), help="1: grey, 3: RGB. Default: 1 where the source is grey throughout."
)
@click.option(
    "--labels",
    metavar="folders|FILE",
    help="folders: a picture's first folder is its class. FILE: a CSV (header; file name, then labels), CelebA's list "
    "of attributes, or StyleGAN's dataset.json. Default: the source's own, or a labels.csv or dataset.json in it.",
)
@click.option(
    "--fit",
    type=click.Choice(["crop", "pad", "reject"]),
    default="crop",
    show_default=True,
    help="Non-square pictures: cut to the middle square, padded by repeating their border, or left out and counted.",
)
@click.option(
    "--align",
    metavar="LANDMARKS",
    help="Cut faces out upright, as CelebA-HQ's are: by CelebA's landmarks (list_landmarks_celeba.txt or .csv), "
    "or your own in that form: file name, then x and y of eyes, nose and mouth corners.",
)
@click.option("--upscale", is_flag=True, help="Take pictures smaller than --max-res, too (else left out and counted).")
@click.option("--limit", type=click.IntRange(min=1), help="Look only at the first so many pictures.")
@click.option("--strict", is_flag=True, help="Stop at the first bad picture instead of naming and counting it.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of drawn faces.")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes. Default: one a core.")
@click.option("--overwrite", is_flag=True, help="Replace a store at DEST, once the new one is whole.")
@click.option("--force", is_flag=True, help="Start even if the disk looks too small.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    source: str, dest: str, as_json: bool, quiet: bool, workers: int | None, channels: str | None, **given: Any
) -> None:
    """Turn pictures into one multi-resolution store, 4x4 to --max-res.

    SOURCE is recognised by looking: a folder (nested; PNG, JPEG, WebP, BMP, TIFF), a zip or a tar of pictures; the
    official TFRecords (their directory) or HDF5; CelebAMask-HQ (folder or zip); Hugging Face's Parquet; webdataset
    shards (data-{00..09}.tar, or a folder of them); NumPy arrays (.npy, .npz, or a folder of one a picture); idx files
    (MNIST); another store, or an LMDB of the StyleGAN ports; drawn:COUNT for COUNT faces that pggan draws itself.
    DEST is a directory to be made.

    Pictures are turned by their EXIF orientation, made RGB (or grey) of 8 bits, transparency over white, the first
    frame of animations, cropped to a square and resized to --max-res (Lanczos); each lower level is the 2x2 mean of
    the one above. Smaller ones are left out and counted. A bad picture, or one above 134 million pixels, is named and
    counted, and does not stop the rest.
    """
    from contextlib import ExitStack

    from pggan.data.prepare import PrepareOptions, prepare

    options = PrepareOptions(channels=int(channels) if channels else None, workers=workers or cores(), **given)
    with ExitStack() as stack:
        advance: Any = None

        def start(total: int) -> None:
            nonlocal advance
            advance = stack.enter_context(progress("preparing", total, quiet=quiet))

        report = prepare(source, dest, options, start, lambda n: advance(n))
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        _show(report)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _show(report: Any) -> None:
    click.echo(f"{report.path}: {report.count} pictures, {'grey' if report.channels == 1 else 'RGB'}")
    for reason, count in report.left_out.items():
        click.echo(f"  left out: {count} {reason}")
    for bad in report.bad[:SHOWN_BAD]:
        click.echo(f"    {bad['name']}: {bad['reason']}")
    hidden = report.left_out.get("bad", 0) - SHOWN_BAD
    if hidden > 0:
        click.echo(f"    and {hidden} more")
    for kind, count in sorted(report.converted.items()):
        click.echo(f"  converted: {count} {kind}")
    for side in report.resolutions:
        click.echo(f"  {f'{side}x{side}':>9}  {report.codecs[side]:<4}  {size(report.bytes[side]):>10}")
    rate = sum(report.left_out.values(), report.count) / max(report.seconds, 1e-3)
    click.echo(f"  on disk: {size(report.bytes_on_disk)}, made in {duration(report.seconds)} ({rate:.1f} pictures/s)")
    if report.labels:
        click.echo(f"  labels: {', '.join(report.labels)}")
    if report.attribution:
        click.echo(f"  attribution: {report.attribution}")
