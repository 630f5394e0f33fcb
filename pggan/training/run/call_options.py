"""What a call of `pggan train` does besides training: named by that call alone, recorded nowhere (torch-free).

A configuration, another run's options and a run that resumes come from other people, too: none of them starts a
command, or sends a run's values to a machine.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CallOptions:
    """Options of one call, for which there are no fields in `TrainConfig`."""

    track: str | None = None  # wandb or trackio: where the run's values are sent
    on_snapshot: str | None = None  # command that is run with the path of every new model


NOTHING = CallOptions()


def call_options(track: str | None, on_snapshot: str | None) -> CallOptions:
    """Returns what this call does besides training; a missing package or command is an error at once."""
    if track is not None:
        from pggan.training.run.trackers import find_tracker

        find_tracker(track)
    if on_snapshot is not None:
        from pggan.training.run.snapshot_command import split_command

        split_command(on_snapshot)
    return CallOptions(track, on_snapshot)
