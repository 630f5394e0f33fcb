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
from benchmarks.measuring import Numbers
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


@cli.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("reals", type=click.Path(exists=True))
@click.option("--out", default="lab", show_default=True, type=click.Path(path_type=Path), help="Folder of the runs.")
@click.option("--recipes", "names", help="Of these recipes, e.g. published,bilinear+mapping.  [default: all]")
@click.option("--seeds", type=Numbers(), default="0,1", show_default=True, help="Each is a repetition.")
@click.option("--max-res", default=32, show_default=True, help="Last resolution.")
@click.option("--scale", default=1.0, show_default=True, help="Of the phases' lengths.")
@click.option("--n", "pictures", default=4096, show_default=True, help="Generated pictures that are measured.")
@click.option("--fd/--no-fd", default=True, show_default=True, help="Frechet distance by EfficientNet-Lite0, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON, too.")
def recipes(
    data: str, reals: str, out: Path, names: str | None, seeds: list[int], fd: bool, as_json: bool, **sizes: Any
) -> None:
    """Switches of the recipe on a growing network, at equal images and equal processor time.

    Trains on DATA and measures against the pictures of REALS, two stores that prepare-data made.
    """
    from experiments import recipes as comparison

    plan = comparison.Plan(data, reals, out, embedding="efficientnet-lite0" if fd else None, **sizes)
    rows = comparison.conduct(plan, (names or ",".join(comparison.RECIPES)).split(","), seeds, frame.speaker(as_json))
    comparison.write(plan, rows)
    click.echo(json.dumps(rows) if as_json else f"\n{comparison.table(rows)}", nl=as_json)


for each in EXPERIMENTS:
    cli.add_command(frame.command_of(each))
cli.add_command(click.Command("all", callback=everything, params=frame.options(True), help=everything.__doc__))

if __name__ == "__main__":
    try:
        cli()
    except PgganError as error:
        sys.exit(f"error: {error}")
