"""Comparisons of losses and techniques on little data: `python tools/lab.py all`, or one of them by name.

Each is a module of tools/experiments, imported when it is asked for. The plots want matplotlib (`pip install
'pggan[lab]'`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from experiments import frame
from experiments.frame import Experiment

from pggan.utils.errors import PgganError

EXPERIMENTS = (
    Experiment("gradients", "generator's gradient norm against a better and better discriminator", True, seeds=1),
    Experiment("supports", "Jensen-Shannon and critic's estimates as two supports approach", seeds=1),
    Experiment("weights", "the critic's weights and gradients under clip and under penalty", True, seeds=1),
    Experiment("modes", "modes found of a ring of Gaussians, by loss and by diversity technique"),
    Experiment("semi-supervised", "accuracy with few labels, with feature matching and without", True),
    Experiment("architectures", "fully connected and convolutional players on small pictures", True, seeds=1),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Runs a comparison on one core; writes its numbers as JSON and a plot beside them."""


def everything(as_json: bool, out: str, **given: Any) -> None:
    """All of them, and a table of what was expected and what was seen (lab.md)."""
    settings, say = frame.settings_of(**given), frame.speaker(as_json)
    found = [each.conduct(settings, Path(out), say) for each in EXPERIMENTS]
    table = frame.markdown(found)
    (Path(out) / "lab.md").write_text(table, encoding="utf-8")
    click.echo(json.dumps(found) if as_json else f"\n{table}", nl=as_json)


for each in EXPERIMENTS:
    cli.add_command(frame.command_of(each))
cli.add_command(click.Command("all", callback=everything, params=frame.options(True), help=everything.__doc__))

if __name__ == "__main__":
    try:
        cli()
    except PgganError as error:
        sys.exit(f"error: {error}")
