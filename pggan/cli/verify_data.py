"""`pggan verify-data`: checks a data store, and repairs a damaged one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import cloup

from pggan.cli.options import Output, output_options, workers_option
from pggan.cli.progress_bar import deferred_progress
from pggan.utils.formatting import duration

if TYPE_CHECKING:
    from pggan.data.store.repair import MendReport
    from pggan.data.store.verify import VerifyReport


@cloup.command("verify-data")
@cloup.argument("data", type=click.Path())
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
    from pggan.data.store.repair import mend
    from pggan.data.store.verify import verify

    with deferred_progress("verifying", output.quiet) as (start, advance):
        report = verify(data, quick, workers, start, advance)
    repair = None
    if fix and not report.whole:
        with deferred_progress("mending", output.quiet) as (start, advance):
            repair = mend(data, report, workers, start, advance)
    output.result({**report.to_json(), "fixed": repair.to_json() if repair else None}, *_lines(report, repair, most))
    return 0 if report.whole or repair is not None else 1


def _lines(report: VerifyReport, repair: MendReport | None, most: int) -> list[str]:
    """The result in words: the store is whole, or its damages, or what the repair did."""
    store = f"{report.path}: {report.count} pictures"
    checked = "structure and digests" if report.quick else "digests, pictures and levels"
    if not report.with_digests:
        checked = "structure" if report.quick else "pictures and levels"
    if report.whole:
        lines = [f"{store}, whole ({checked} in {duration(report.seconds)})"]
        if not report.with_digests:
            lines.append("  it keeps no digests, as older versions made it; pggan merge-data NEW DATA adds them")
        return lines
    lines = [f"{store}, damaged: {len(report.pictures)} of them, {report.found} damages ({checked})"]
    lines += [f"  {damage}" for damage in report.damages(most)]
    if report.found > most:
        lines.append(f"  and {report.found - most} more")
    if repair is None:
        return [*lines, f"  mend it with: pggan verify-data {report.path} --fix"]
    return lines + _repair_lines(repair, most)


def _repair_lines(repair: MendReport, most: int) -> list[str]:
    lines = [f"mended: {repair.count} pictures, whole"]
    if repair.rebuilt:
        inexact = repair.rebuilt - repair.exactly
        cause = " (from a JPEG)" if repair.from_jpeg else ""
        note = f", {inexact} of them not byte for byte{cause}" if inexact else ""
        lines.append(f"  {repair.rebuilt} records built from the full size{note}")
    if repair.dropped_count:
        names = ", ".join(map(str, repair.dropped[:most])) + (" ..." if repair.dropped_count > most else "")
        lines.append(f"  {repair.dropped_count} pictures dropped, whose full size was damaged: {names}")
    if repair.unlabelled:
        lines.append(f"  {repair.unlabelled} pictures whose labels are unknown now")
    return lines
