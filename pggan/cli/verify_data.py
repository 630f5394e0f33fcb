"""`pggan verify-data`: whether a store is whole, and what can be mended of a damaged one."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import click

from pggan.cli.prepare_data import cores
from pggan.cli.progress_bar import progress
from pggan.utils.formatting import duration


@click.command("verify-data")
@click.argument("data", type=click.Path())
@click.option(
    "--quick", is_flag=True, help="Only whether all is there and is what its digest says; nothing is decoded."
)
@click.option("--fix", is_flag=True, help="Make the store anew without the damage, and put it in the old one's place.")
@click.option("--most", type=click.IntRange(min=1), default=20, show_default=True, help="Damages to list.")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes. Default: one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON (up to 1000 damages).")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(data: str, quick: bool, fix: bool, most: int, workers: int | None, as_json: bool, quiet: bool) -> int:
    """Read the whole store DATA and name what is damaged in it.

    Every record has to be there, to be what its digest says, to decode to the right size, and each level to be the mean
    of the full size (of lossless records to the bit, of JPEG ones nearly). Exit status 1: something is damaged.

    --fix builds damaged lower levels from the full size and drops pictures whose full size is damaged; labels that are
    damaged become unknown. It needs as much space as the store, which stays as it is until the new one is whole.
    """
    from pggan.data.store.repair import repair
    from pggan.data.store.verify import verify

    with ExitStack() as stack:
        begin, advance = _shown("verifying", quiet, stack)
        found = verify(data, quick, workers or cores(), begin, advance)
    mended = None
    if fix and not found.intact:
        with ExitStack() as stack:
            begin, advance = _shown("mending", quiet, stack)
            mended = repair(data, found, workers or cores(), begin, advance)
    if as_json:
        click.echo(json.dumps({**found.to_json(), "fixed": mended.to_json() if mended else None}))
    else:
        _show(found, mended, most)
    return 0 if found.intact or mended is not None else 1


def _shown(what: str, quiet: bool, stack: ExitStack) -> tuple[Any, Any]:
    """Two callbacks: how many pictures there are, and that so many more are done."""
    advance: Any = None

    def begin(total: int) -> None:
        nonlocal advance
        advance = stack.enter_context(progress(what, total, quiet=quiet))

    return begin, lambda n: advance(n)


def _show(found: Any, mended: Any, most: int) -> None:
    what = f"{found.path}: {found.count} pictures"
    looked = "structure and digests" if found.quick else "digests, pictures and levels"
    if not found.with_digests:
        looked = "structure" if found.quick else "pictures and levels"
    if found.intact:
        click.echo(f"{what}, whole ({looked} in {duration(found.seconds)})")
        if not found.with_digests:
            click.echo("  it keeps no digests, as older versions made it; pggan merge-data NEW DATA adds them")
        return
    click.echo(f"{what}, damaged: {len(found.damaged_images)} of them, {found.damage_count} damages ({looked})")
    for damage in found.damages(most):
        click.echo(f"  {damage}")
    if found.damage_count > most:
        click.echo(f"  and {found.damage_count - most} more")
    if mended is None:
        click.echo(f"  mend it with: pggan verify-data {found.path} --fix")
        return
    closely = mended.rebuilt - mended.exactly
    click.echo(f"mended: {mended.count} pictures, whole")
    if mended.rebuilt:
        note = f", {closely} of them not byte for byte{' (from a JPEG)' if mended.from_jpeg else ''}" if closely else ""
        click.echo(f"  {mended.rebuilt} records built from the full size{note}")
    if mended.dropped_count:
        named = ", ".join(map(str, mended.dropped[:most])) + (" ..." if mended.dropped_count > most else "")
        click.echo(f"  {mended.dropped_count} pictures dropped, whose full size was damaged: {named}")
    if mended.unlabelled:
        click.echo(f"  {mended.unlabelled} pictures whose labels are unknown now")
