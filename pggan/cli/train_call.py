"""What a call of `pggan train` does besides training: options that no file can set."""

from __future__ import annotations

import click
import cloup

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
