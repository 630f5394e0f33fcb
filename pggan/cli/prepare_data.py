"""`pggan prepare-data`: pictures to one multi-resolution store."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from pggan.cli.interrupts import can_go_on
from pggan.cli.progress_bar import progress
from pggan.utils.errors import UsageError
from pggan.utils.formatting import duration, size

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
    help="folders: a picture's class is the first folder in which they differ. FILE: a CSV (header; file name, then "
    "labels), CelebA's list of attributes, or StyleGAN's dataset.json. Default: the source's own, or a labels.csv or "
    "dataset.json in it.",
)
@click.option(
    "--fit",
    type=click.Choice(["crop", "pad", "frame", "reject"]),
    default="crop",
    show_default=True,
    help="Non-square pictures: cut to the middle square, padded by repeating their border, or left out and counted. "
    "frame: all pictures padded so to the next power of two, as 28x28 to 32x32.",
)
@click.option(
    "--align",
    metavar="LANDMARKS",
    help="Cut faces out upright, as CelebA-HQ's are: by CelebA's landmarks (list_landmarks_celeba.txt or .csv), "
    "or your own in that form: file name, then x and y of eyes, nose and mouth corners.",
)
@click.option("--upscale", is_flag=True, help="Take pictures smaller than --max-res, too (else left out and counted).")
@click.option("--limit", type=click.IntRange(min=1), help="Look only at the first so many pictures.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Only the I-th of N parts of the pictures, as 2/8: a job of a cluster's. pggan merge-data joins the stores.",
)
@click.option("--strict", is_flag=True, help="Stop at the first bad picture instead of naming and counting it.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of drawn faces.")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes. Default: one a core.")
@click.option("--overwrite", is_flag=True, help="Replace a store at DEST, once the new one is whole.")
@click.option("--force", is_flag=True, help="Start even if the disk looks too small.")
@click.option("--dry-run", is_flag=True, help="Only say what would be made, how large and in what time.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    source: str,
    dest: str,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    workers: int | None,
    channels: str | None,
    shard: str | None,
    **given: Any,
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

    Stopped by anything, it leaves DEST.partial, and the same command goes on from there; DEST appears when it is whole.
    """
    from contextlib import ExitStack

    from pggan.data.prepare.prepare import PrepareOptions, plan, prepare

    options = PrepareOptions(
        channels=int(channels) if channels else None, workers=workers or cores(), shard=_shard(shard), **given
    )
    if dry_run:
        planned = plan(source, dest, options)
        click.echo(json.dumps(planned.to_json()) if as_json else _planned(planned))
        return
    with ExitStack() as stack:
        advance: Any = None

        def start(total: int) -> None:
            nonlocal advance
            advance = stack.enter_context(progress("preparing", total, quiet=quiet))

        stack.enter_context(can_go_on(dest))
        on_plan = None if quiet or as_json else lambda found: click.echo(found, err=True)
        report = prepare(source, dest, options, start, lambda n: advance(n), on_plan)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        _show(report)


def cores() -> int:
    """Those that this process may use."""
    from pggan.utils.process_pool import available_cores

    return available_cores()


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None:
        raise UsageError(f"--shard {text!r} is not I/N, such as 2/8")
    return int(match[1]), int(match[2])


def _planned(plan: Any) -> str:
    shard = f", shard {plan.shard[0]}/{plan.shard[1]}" if plan.shard else ""
    colours = "grey" if plan.channels == 1 else "RGB"
    lines = [f"{plan.dest}: {plan.pictures} pictures{shard}, {colours}, 4x4 to {plan.resolution}x{plan.resolution}"]
    lines.append(f"  {', '.join(f'{side}x{side} {codec}' for side, codec in plan.codecs.items())}")
    lines.append(f"  {plan}; {size(plan.free)} are free")
    return "\n".join(lines)


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
    looked_at = sum(report.left_out.values(), report.count) - report.resumed
    rate = f"{looked_at / max(report.seconds, 1e-3):.1f} pictures/s"
    rest = f", going on after {report.resumed}" if report.resumed else ""
    click.echo(f"  on disk: {size(report.bytes_on_disk)}, made in {duration(report.seconds)} ({rate}{rest})")
    if report.labels:
        click.echo(f"  labels: {', '.join(report.labels)}")
    if report.attribution:
        click.echo(f"  attribution: {report.attribution}")
