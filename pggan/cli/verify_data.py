"""`pggan verify-data`: checks a data store, and repairs a damaged one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import cloup

from pggan.cli.options import FilePath, Output, output_options, workers_option
from pggan.cli.progress_bar import deferred_progress
from pggan.utils.formatting import duration, paste

if TYPE_CHECKING:
    from pggan.data.store.repair import RepairReport
    from pggan.data.store.verify import VerifyReport


@cloup.command("verify-data")
@cloup.argument("data", type=FilePath())
@cloup.option_group(
    "Check",
    cloup.option(
        "--quick", is_flag=True, help="Only check that every record is there and has its checksum; decode nothing."
    ),
    cloup.option("--fix", is_flag=True, help="Build a repaired store and put it in the place of the damaged one."),
    cloup.option(
        "--most", type=click.IntRange(min=1), default=20, metavar="N", help="Damaged records to list, at most."
    ),
    workers_option,
)
@output_options
def command(data: str, quick: bool, fix: bool, most: int, workers: int, output: Output) -> int:
    """Check every record of a data store, and repair damage.

    Every record of DATA has to be there, to have its checksum, to decode to the right size, and each level has to be
    the mean of the full size (of lossless records to the bit, of JPEG ones nearly). The exit status is 1 where
    something is damaged. --json lists up to 1000 damages.

    --fix builds damaged lower levels from the full size and drops pictures whose full size is damaged; damaged labels
    become unknown. It needs as much space as the store, which stays as it is until the repaired one is complete.
    """
    from pggan.data.store.repair import repair
    from pggan.data.store.verify import verify

    with deferred_progress("verifying", output.quiet) as (start, advance):
        report = verify(data, quick, workers, start, advance)
    repaired = None
    if fix and not report.intact:
        with deferred_progress("mending", output.quiet) as (start, advance):
            repaired = repair(data, report, workers, start, advance)
    output.result(
        {**report.to_json(), "fixed": repaired.to_json() if repaired else None}, *_lines(report, repaired, most)
    )
    return 0 if report.intact or repaired is not None else 1


def _lines(report: VerifyReport, repaired: RepairReport | None, most: int) -> list[str]:
    """The result in words: the store is whole, or its damages, or what the repair did."""
    store = f"{report.path}: {report.count} pictures"
    checked = "structure and digests" if report.quick else "digests, pictures and levels"
    if not report.with_digests:
        checked = "structure" if report.quick else "pictures and levels"
    if report.intact:
        lines = [f"{store}, whole ({checked} in {duration(report.seconds)})"]
        if not report.with_digests:
            lines.append("  it keeps no digests, as older versions made it; pggan merge-data NEW DATA adds them")
        return lines
    lines = [f"{store}, damaged: {len(report.damaged_images)} of them, {report.damage_count} damages ({checked})"]
    lines += [f"  {damage}" for damage in report.damages(most)]
    if report.damage_count > most:
        lines.append(f"  and {report.damage_count - most} more")
    if repaired is None:
        return [*lines, f"  mend it with: pggan verify-data {paste(report.path)} --fix"]
    return lines + _repair_lines(repaired, most)


def _repair_lines(repaired: RepairReport, most: int) -> list[str]:
    lines = [f"mended: {repaired.count} pictures, whole"]
    if repaired.rebuilt:
        inexact = repaired.rebuilt - repaired.exactly
        cause = " (from a JPEG)" if repaired.from_jpeg else ""
        note = f", {inexact} of them not byte for byte{cause}" if inexact else ""
        lines.append(f"  {repaired.rebuilt} records built from the full size{note}")
    if repaired.dropped_count:
        names = ", ".join(map(str, repaired.dropped[:most])) + (" ..." if repaired.dropped_count > most else "")
        lines.append(f"  {repaired.dropped_count} pictures dropped, whose full size was damaged: {names}")
    if repaired.unlabelled:
        lines.append(f"  {repaired.unlabelled} pictures whose labels are unknown now")
    return lines
