"""`pggan prepare-data`: pictures to a data store of all resolutions."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.interrupts import resume_hint
from pggan.cli.options import (
    FilePath,
    Output,
    dry_run_option,
    force_option,
    is_given,
    limit_option,
    output_options,
    overwrite_option,
    workers_option,
)
from pggan.cli.progress_bar import deferred_progress, staged_progress
from pggan.config.content.channels import kind_of_channels
from pggan.utils.errors import UsageError
from pggan.utils.formatting import duration, printable, size

if TYPE_CHECKING:
    from pggan.data.prepare.prepare import Plan, PrepareReport
    from pggan.data.store.merge import MergeReport

# bad pictures that are named in the summary
SHOWN_BAD = 10
# classes without pictures that are named
SHOWN_CLASSES = 10


@cloup.command("prepare-data")
@cloup.argument("source")
@cloup.argument("dest", type=FilePath())
@cloup.option_group(
    "Pictures",
    cloup.option(
        "--max-res", type=int, metavar="R", show_default="what 95 % of the pictures reach; of drawn faces, 256",
        help="Largest resolution, a power of two from 4.",
    ),
    cloup.option(
        "--channels", type=click.Choice(["1", "3", "4"]), show_default="1 where the format says grey, else 3",
        help="1: grey, 3: RGB over white, 4: RGBA, which keeps transparency.",
    ),
    cloup.option(
        "--fit", type=click.Choice(["crop", "pad", "frame", "reject"]), default="crop",
        help="What to do with non-square pictures. crop: cut out the middle square. pad: repeat the border until they "
        "are square. reject: leave them out and count them. frame: pad every picture to the next power of two, as "
        "28x28 to 32x32.",
    ),
    cloup.option(
        "--dataset", metavar="NAME", show_default="by name and size",
        help="Of HDF5 or .npz with several arrays: the one to read, as images or train/images.",
    ),
    cloup.option(
        "--images-root", type=FilePath(), metavar="DIR", show_default="paths are not followed",
        help="Of Parquet that holds only paths: the folder that they begin in. Only relative paths that stay in it are "
        "read.",
    ),
    cloup.option(
        "--member", metavar="NAME", show_default="the one whose name says pictures, else all",
        help="Of samples of several pictures in a tar or webdataset, read those with this name: image of 7.image.png "
        "and 7.mask.png.",
    ),
    cloup.option(
        "--every", type=float, metavar="SECONDS", show_default="1",
        help="Of videos: take one picture every SECONDS. Where it still shows the scene of the one before, it is left "
        "out and counted.",
    ),
    cloup.option(
        "--upscale", is_flag=True,
        help="Enlarge pictures that are smaller than --max-res instead of leaving them out.",
    ),
    cloup.option(
        "--seed", type=click.IntRange(0, 2**31 - 1), default=0, metavar="SEED",
        help="Seed of drawn faces (drawn:COUNT).",
    ),
)  # fmt: skip
@cloup.option_group(
    "Faces",
    cloup.option(
        "--align", metavar="auto|LANDMARKS", show_default="no alignment",
        help="Cut faces out upright, as CelebA-HQ's are. auto: find them (extra pggan[align]). LANDMARKS: by a file: "
        "CelebA's (list_landmarks_celeba.txt or .csv), your own in that form (file name, then x and y of eyes, nose "
        "and mouth corners), or one that --report wrote.",
    ),
    cloup.option(
        "--faces", type=click.Choice(["largest", "all"]), default="largest",
        help="Of --align auto: the largest face of each picture, or all of them.",
    ),
    cloup.option(
        "--min-face", type=float, default=40.0, metavar="PIXELS",
        help="Of --align auto: leave out smaller faces.",
    ),
    cloup.option(
        "--sharpest", type=float, default=1.0, metavar="SHARE",
        help="Of --align auto: keep this share of the faces, the sharpest ones.",
    ),
    cloup.option(
        "--keep-typical", type=float, default=1.0, metavar="SHARE",
        help="Of --align: keep this share of the faces, the most typical ones by the features of EfficientNet-Lite0 "
        "(extra pggan[metrics]), or without that extra by the shape of their landmarks.",
    ),
    cloup.option(
        "--duplicates", type=click.Choice(["drop", "keep"]), default="drop",
        help="Of --align auto: what becomes of a photograph that comes again, also smaller, recompressed, or as its "
        "neighbour in a burst. drop: it is left out and counted.",
    ),
    cloup.option(
        "--report", type=FilePath(), metavar="FILE", show_default="none",
        help="Of --align auto: write a CSV of all faces: where, how large, how sharp, used or why not. With --dry-run "
        "nothing else is made.",
    ),
)  # fmt: skip
@cloup.option_group(
    "Labels",
    cloup.option(
        "--labels", metavar="folders|none|FILE",
        show_default="the source's own, or a labels.csv or dataset.json beside the pictures",
        help="folders: the class of a picture is the first folder in which paths differ. none: no labels. FILE: a CSV "
        "(header; file name, then labels), CelebA's list of attributes, or StyleGAN's dataset.json.",
    ),
    cloup.option(
        "--numbers", default="", metavar="COLUMN,...", show_default="classes alone",
        help="Labels that are numbers instead of classes, as age or pose. Of drawn heads: size, shift.",
    ),
)  # fmt: skip
@cloup.option_group(
    "Compression",
    cloup.option(
        "--codec", metavar="CODEC", show_default="webp; for grey, png",
        help="raw, png, webp (lossless) or jpeg, for resolutions above 64x64; smaller pictures are raw, which needs no "
        "decoding. Or by resolution: 256:webp,1024:jpeg. A portrait of 1024x1024 takes 1.34 MiB as png, 0.92 as webp, "
        "which is as fast to write and read, and 0.36 as jpeg, three times as fast but not lossless. A grey one takes "
        "0.57 MiB as png and 0.76 as webp.",
    ),
    cloup.option("--quality", type=click.IntRange(1, 100), default=95, metavar="Q", help="Quality of --codec jpeg."),
)  # fmt: skip
@cloup.option_group(
    "Run",
    limit_option,
    cloup.option(
        "--shard", metavar="I/N", show_default="all",
        help="Prepare only the I-th of N parts of the pictures, as 2/8: one job of several on a cluster. pggan "
        "merge-data joins the stores.",
    ),
    cloup.option("--strict", is_flag=True, help="Stop at the first bad picture instead of naming and counting it."),
    workers_option, overwrite_option, force_option, dry_run_option,
)  # fmt: skip
@output_options
def command(source: str, dest: str, output: Output, dry_run: bool, channels: str | None, shard: str | None,
            numbers: str, **options: Any) -> None:  # fmt: skip
    """Convert pictures to a data store of all resolutions.

    SOURCE is recognised by looking: a folder (nested; PNG, JPEG, WebP, BMP, TIFF, AVIF, and HEIC with the extra
    pggan[photos]), a zip or a tar of pictures; a video or a folder of videos; the official TFRecords (their directory);
    HDF5, also MATLAB's; CelebAMask-HQ (folder or zip); Hugging Face's Parquet (file or folder), data sets
    (hf://datasets/user/name) and save_to_disk folders; webdataset shards (data-{00..09}.tar, or a folder of them);
    NumPy arrays (.npy, .npz, or a folder of one a picture); idx files (MNIST); another store, or an LMDB of the
    StyleGAN ports; drawn:COUNT for COUNT faces that pggan draws itself.
    DEST is the directory to make. It holds every resolution from 4x4 to --max-res.

    Pictures are turned by their EXIF orientation, converted to RGB (or grey, or RGBA) of 8 bits,
    cropped to a square and resized to --max-res (Lanczos); of animations, the first frame counts. Each lower level is
    the 2x2 mean of the one above. Smaller pictures are left out and counted. A bad picture, or one above 134 million
    pixels, is named and counted, and does not stop the rest.

    If it is stopped, it leaves DEST.partial, and the same command resumes there. DEST appears when it is complete.
    """
    from pggan.api import prepare, typical_features
    from pggan.data.prepare.prepare import FaceProgress, PrepareOptions, plan

    if is_given("seed") and not source.startswith("drawn:"):
        raise UsageError("--seed is about drawn:COUNT, faces that pggan draws; pictures have none, leave it out")
    if is_given("quality") and "jpeg" not in str(options["codec"]):
        raise UsageError("--quality is about --codec jpeg; the other codecs lose nothing, leave it out")
    options["numbers"] = tuple(name.strip() for name in numbers.split(",") if name.strip())
    checked = PrepareOptions(channels=int(channels) if channels else None, shard=_parse_shard(shard), **options)
    if dry_run:
        with deferred_progress("looking for faces", output.quiet) as faces:
            planned = plan(source, dest, checked, FaceProgress(*faces), typical_features(checked))
        output.result(planned.to_json(), *_plan_lines(planned))
        return
    with resume_hint(dest), staged_progress(output.quiet) as on_progress:
        # None: no estimate is printed, so that none is made
        on_plan = None if output.silent else partial(_announce, output)
        report = prepare(source, dest, checked, on_progress=on_progress, on_plan=on_plan)
    output.result(report.to_json(), *_report_lines(report))


def _parse_shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None:
        raise UsageError(f"--shard {text!r} is not I/N, such as 2/8")
    return int(match[1]), int(match[2])


def _announce(output: Output, plan: Plan) -> None:
    """Prints the estimate, and what of the source is passed over, before the work begins."""
    output.note(plan)
    if plan.remark:
        output.note(f"note: {plan.remark}")


def _plan_lines(plan: Plan) -> list[str]:
    shard = f", shard {plan.shard[0]}/{plan.shard[1]}" if plan.shard else ""
    colours = kind_of_channels(plan.channels)
    return [
        f"{plan.dest}: {plan.pictures} pictures{shard}, {colours}, 4x4 to {plan.resolution}x{plan.resolution}",
        f"  {', '.join(f'{side}x{side} {codec}' for side, codec in plan.codecs.items())}",
        f"  {plan}; {size(plan.free)} are free",
        *([f"  note: {plan.remark}"] if plan.remark else []),
    ]


def _report_lines(report: PrepareReport) -> list[str]:
    lines = [f"{report.path}: {report.count} pictures, {kind_of_channels(report.channels)}"]
    lines += [f"  note: {report.remark}"] if report.remark else []
    lines += [f"  left out: {count} {reason}" for reason, count in report.left_out.items()]
    lines += [f"    {bad['name']}: {bad['reason']}" for bad in report.bad[:SHOWN_BAD]]
    hidden = report.left_out.get("bad", 0) - SHOWN_BAD
    if hidden > 0:
        lines.append(f"    and {hidden} more")
    lines += [f"  converted: {count} {kind}" for kind, count in sorted(report.converted.items())]
    lines += [
        f"  {f'{side}x{side}':>9}  {report.codecs[side]:<4}  {size(report.bytes[side]):>10}"
        for side in report.resolutions
    ]
    processed = sum(report.left_out.values(), report.count) - report.resumed
    rate = f"{processed / max(report.seconds, 1e-3):.1f} pictures/s"
    resumed = f", going on after {report.resumed}" if report.resumed else ""
    lines.append(f"  on disk: {size(report.bytes_on_disk)}, made in {duration(report.seconds)} ({rate}{resumed})")
    lines += provenance_lines(report)
    for column, names in report.empty_classes.items():
        shown = ", ".join(map(printable, names[:SHOWN_CLASSES])) + (" ..." if len(names) > SHOWN_CLASSES else "")
        lines.append(
            f"  note: {len(names)} classes of {printable(column)} have no pictures and are never drawn: {shown}"
        )
    return lines


def provenance_lines(report: PrepareReport | MergeReport) -> list[str]:
    """The label columns of a new store and the attribution of its pictures, where it has them."""
    lines = [f"  labels: {', '.join(report.labels)}"] if report.labels else []
    return lines + ([f"  attribution: {report.attribution}"] if report.attribution else [])
