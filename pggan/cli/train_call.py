"""What a call of `pggan train` does besides training: options that no file can set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import cloup

if TYPE_CHECKING:
    from pggan.training.run.call_options import CallOptions

# fmt: off
TRACK = cloup.option(
    "--track", type=click.Choice(["wandb", "trackio"]),
    help="Send hyper-parameters, figures, sample grids and the best model there, too (pip install wandb, or trackio). "
    "Only here: no file can ask for it.  [default: none]",
)
ON_SNAPSHOT = cloup.option(
    "--on-snapshot", metavar="COMMAND",
    help="Run a command beside the training with the path of each new model, as 'python publish.py'. Only here: no "
    "file can ask for it.  [default: none]",
)
# fmt: on


def call_options(track: str | None, on_snapshot: str | None) -> CallOptions:
    """Returns what this call does besides training; a missing package or command is an error at once."""
    from pggan.training.run.call_options import CallOptions

    if track is not None:
        from pggan.training.run.trackers import find_tracker

        find_tracker(track)
    if on_snapshot is not None:
        from pggan.training.run.snapshot_command import split_command

        split_command(on_snapshot)
    return CallOptions(track, on_snapshot)
