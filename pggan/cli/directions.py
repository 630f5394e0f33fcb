"""`pggan directions`: directions in latent space that change pictures in a nameable way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.latent_options import Reach, check_ending, check_new, reach_options, task_of
from pggan.cli.options import (
    SEEDS,
    FilePath,
    ModelChoice,
    Output,
    is_given,
    label_option,
    model_options,
    no_mark_option,
    output_options,
    overwrite_option,
)
from pggan.generation.seeds import Seeds
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.editing.directions_file import DirectionSet
    from pggan.generation.model import Model

METHODS = ("sefa", "pca", "labels", "scores", "marks")
# Directions below it hardly predict their score, which the command says.
LEAST_R2 = 0.2


@dataclass(frozen=True)
class Request:
    """What to look for."""

    method: str
    count: int
    seeds: int
    scores: tuple[str, ...]
    table: Path | None
    yes: Seeds | None
    no: Seeds | None
    name: str | None
    label: str | None
    keeps_scores: bool = False  # --keep names a score, which is measured of pictures

    def check(self) -> None:
        """Raises `UsageError` for options that are not about the method."""
        marks = self.method == "marks"
        if marks != (self.yes is not None and self.no is not None) or (not marks and (self.yes or self.no)):
            raise UsageError("--from marks takes --yes SEEDS and --no SEEDS, and nothing else does")
        if self.method != "scores" and (self.scores or self.table):
            raise UsageError("--score and --csv are about --from scores; leave them out")
        if self.name is not None and not marks:
            raise UsageError("--name is about --from marks; leave it out")
        if is_given("count") and self.method not in ("sefa", "pca"):
            raise UsageError(f"--n is about --from sefa and pca; --from {self.method} has its own number, leave it out")
        makes_none = self.method in ("sefa", "marks") or self.table is not None
        if is_given("seeds") and makes_none and not self.keeps_scores:
            what = "--csv has pictures of its own" if self.table is not None else f"--from {self.method} makes none"
            raise UsageError(f"--pictures is about --from pca, labels and scores; {what}, leave it out")
        if self.method == "pca" and self.count > self.seeds:
            raise UsageError(f"--n {self.count} directions need as many --pictures; give more than {self.seeds}")


@cloup.command("directions")
@model_options
@cloup.option_group(
    "Search",
    cloup.option(
        "--from", "method", type=click.Choice(METHODS), default="sefa",
        help="sefa: closed form. pca: principal components of pictures. labels: classes that the discriminator tells. "
        "scores: numbers of pictures. marks: seeds that you chose.",
    ),
    cloup.option(
        "--n", "count", type=click.IntRange(1, 1000), metavar="N", default=6, help="Directions of sefa and pca."
    ),
    cloup.option(
        "--pictures", "seeds", type=click.IntRange(8, 1_000_000), metavar="N", default=2000,
        help="Pictures to learn from: seeds 0 to N - 1.",
    ),
    cloup.option(
        "--score", "scores", multiple=True, metavar="NAME", show_default="brightness, contrast, saturation, sharpness",
        help="Numbers for --from scores: those, hue, score (the discriminator's), or with the extra "
        "align yaw, roll, smile, eyes (how open) of faces. Repeat for more.",
    ),
    cloup.option(
        "--csv", "table", type=FilePath(path_type=Path), metavar="FILE", show_default="none",
        help="Numbers of your own: a header seed,NAME,... and a line for each seed.",
    ),
    cloup.option("--yes", type=SEEDS, show_default="none", help="Seeds that have what --from marks looks for."),
    cloup.option("--no", type=SEEDS, show_default="none", help="Seeds that lack it."),
    cloup.option("--name", metavar="NAME", show_default="marked", help="Name of the direction of --from marks."),
    cloup.option(
        "--keep", "fixed", multiple=True, metavar="NAME", show_default="none",
        help="Make the directions orthogonal to this score's, or to a direction FILE:NAME. Repeat for more.",
    ),
    label_option,
)  # fmt: skip
@cloup.option_group(
    "Files",
    cloup.option(
        "--out", type=FilePath(path_type=Path), default="directions.safetensors", help="Directions to write."
    ),
    cloup.option(
        "--sheet", type=FilePath(path_type=Path), show_default="OUT with .png",
        help="PNG of the directions, a row each, from minus to plus --degrees.",
    ),
    reach_options,
    cloup.option("--sheet-seed", type=click.IntRange(0, 2**32 - 1), metavar="SEED", default=0, help="Its picture."),
    overwrite_option,
    no_mark_option,
)  # fmt: skip
@output_options
def command(
    model: ModelChoice, output: Output, fixed: tuple[str, ...], out: Path, sheet: Path | None, degrees: float | None,
    spreads: float | None, sheet_seed: int, overwrite: bool, **options: Any,
) -> None:  # fmt: skip
    """Find directions in which pictures change in a nameable way.

    MODEL is a file, a run directory, hf://user/name or a shipped model's name (none: portraits). The directions are
    sorted by their effect: the change of the picture at 25 degrees, in units of a random direction's (of a model with a
    mapping network, whose directions lie in w, at 2 standard deviations). Show one with pggan traverse --directions
    FILE --direction NAME.
    """
    request = Request(**options, keeps_scores=any(":" not in name for name in fixed))
    request.check()
    sheet = sheet or out.with_suffix(".png")
    check_ending("--out", out, ".safetensors", "a file of directions")
    check_ending("--sheet", sheet, ".png", "a sheet")
    check_new([out, sheet], overwrite)
    loaded = model.load()
    amount = Reach(degrees, spreads).amount(loaded)
    from pggan.editing.direction_views import direction_sheet
    from pggan.editing.directions import effect_images, keep_fixed, measure_effects
    from pggan.editing.latents_file import LatentSet

    with output.progress("looking for directions", 0) as advance:
        directions = _find(loaded, request, task_of(advance))
        if others := [_to_keep(loaded, name, request, task_of(advance)) for name in fixed]:
            directions = keep_fixed(directions, *others)
    with output.progress("measuring", effect_images(len(directions))) as advance:
        directions = measure_effects(loaded, directions, label=request.label, task=task_of(advance))
    directions.save(out)
    direction_sheet(loaded, sheet, directions, LatentSet.of_seeds(loaded, [sheet_seed], request.label), amount)
    values = [{"name": name, **figures} for name, figures in zip(directions.names, directions.figures)]
    lines = [_line(value) for value in values]
    result = {"model": str(loaded.path), "file": str(out), "sheet": str(sheet), "directions": values}
    output.result(result, *lines, f"directions: {out}, sheet: {sheet}")


def _find(model: Model, request: Request, task: Any) -> DirectionSet:
    from pggan.editing import directions as search

    if request.method == "sefa":
        return search.find_sefa(model, request.count)
    if request.method == "pca":
        return search.find_components(model, request.count, request.seeds, request.label, task)
    if request.method == "labels":
        return search.find_classes(model, request.seeds, request.label, task)
    if request.yes is not None and request.no is not None:
        return search.find_marks(model, request.yes, request.no, request.name or "marked", request.label)
    if request.table is None:
        names = request.scores or tuple(search.IMAGE_SCORES if model.channels == 3 else ("brightness", "sharpness"))
        return search.find_scores(model, names, request.seeds, request.label, task)
    if request.scores:
        raise UsageError("--csv and --score exclude each other: give one of them")
    from pggan.editing.image_scores import read_score_table
    from pggan.editing.latents_file import LatentSet

    seeds, columns = read_score_table(request.table)
    return search.fit_scores(model, LatentSet.of_seeds(model, seeds, request.label), columns)


def _to_keep(model: Model, name: str, request: Request, task: Any) -> DirectionSet:
    """Returns the direction that --keep names: `FILE:NAME`, else that of a score."""
    from pggan.editing.directions import find_scores
    from pggan.editing.directions_file import read_directions

    file, colon, direction = name.rpartition(":")
    if colon:
        return read_directions(file).check_model(model).select([direction])
    return find_scores(model, (name,), request.seeds, request.label, task)


def _line(value: dict[str, Any]) -> str:
    parts = [f"{value['effect']:.2f} times a random direction's effect"]
    if "r2" in value:
        doubt = " (hardly any: it may show something else)" if value["r2"] < LEAST_R2 else ""
        parts.append(f"R^2 {value['r2']:.2f} on held-out pictures{doubt}")
    if "accuracy" in value:
        parts.append(f"accuracy {value['accuracy']:.2f} on held-out pictures")
    return f"{value['name']}: {', '.join(parts)}"
