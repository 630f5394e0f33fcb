"""`pggan merge-data`: several data stores to one."""

from __future__ import annotations

import cloup

from pggan.cli.interrupts import resume_hint
from pggan.cli.options import FilePath, Output, force_option, output_options, overwrite_option
from pggan.cli.prepare_data import provenance_lines
from pggan.cli.progress_bar import deferred_progress
from pggan.utils.formatting import duration, size


@cloup.command("merge-data")
@cloup.argument("dest", type=FilePath())
@cloup.argument("parts", type=FilePath(), nargs=-1, required=True)
@cloup.option_group("Run", overwrite_option, force_option)
@output_options
def command(dest: str, parts: tuple[str, ...], overwrite: bool, force: bool, output: Output) -> None:
    """Join several data stores into one.

    DEST is the store to make, PARTS are the stores to join. Those that pggan prepare-data --shard made are joined in
    the order of their numbers, however they are given, and make the store that one preparation would have made; a
    shard that is missing or there twice is named. Other stores are joined in the order given. All have to have the
    same resolutions, codecs, channels and label columns. Records are checked and copied as they are.

    If it is interrupted, the same command resumes.
    """
    from pggan.data.store.merge import merge

    with resume_hint(dest), deferred_progress("merging", output.quiet) as (start, advance):
        report = merge(dest, parts, overwrite, force, start, advance)
    output.result(
        report.to_json(),
        f"{report.path}: {report.count} pictures of {len(report.parts)} stores",
        *(f"  left out of them: {count} {reason}" for reason, count in report.left_out.items()),
        f"  on disk: {size(report.bytes_on_disk)}, made in {duration(report.seconds)}",
        *provenance_lines(report),
    )
