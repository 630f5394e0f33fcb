"""`pggan generate` of latents instead of seeds: kept ones, a picture's family, and a choice by the discriminator."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.latent_options import LatentChoice, task_of
from pggan.cli.options import Command, FilePath, ModelChoice, NumberRange, Output
from pggan.generation.seeds import MAX_SEED, Seeds
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.cli.generate import Request
    from pggan.editing.latents_file import LatentSet
    from pggan.generation.model import Model

DEFAULT_FAMILY, DEFAULT_DEGREES = 24, 15.0
FAMILY_SEED = 0
PLAIN_MODES = "auto", "eager"  # latents are computed eagerly


@dataclass(frozen=True)
class LatentRequest:
    """The options of the group "Family and choice"."""

    similar: int | None  # a seed
    around: Path | None  # a file of latents or a PNG
    degrees: float | None
    sort: str | None
    reject: float

    @property
    def is_family(self) -> bool:
        return self.similar is not None or self.around is not None

    @property
    def is_wanted(self) -> bool:
        return self.is_family or self.sort is not None or self.reject > 0

    def check(self, saved: LatentChoice, has_seeds: bool, layout: str, mode: str) -> None:
        """Raises `UsageError` for options that exclude each other."""
        sources = sum((self.similar is not None, self.around is not None, bool(saved.files), has_seeds))
        if sources > 1:
            raise UsageError("--seeds or --n, --latents, --similar and --around exclude each other: give one of them")
        if self.degrees is not None and not self.is_family:
            raise UsageError("--degrees is about --similar and --around; give one of them, too")
        if saved.files or self.is_wanted:
            ignored = f"--layout {layout}" if layout != "flat" else f"--mode {mode}" if mode not in PLAIN_MODES else ""
            if ignored:
                raise UsageError(f"{ignored} is about seeds alone; leave the options of latents and choice out")


def family_options(function: Command) -> Command:
    """Adds the group "Family and choice"; the command receives it as `family`, a `LatentRequest`."""

    @functools.wraps(function)
    def command(
        *, similar: int | None, around: Path | None, degrees: float | None, sort: str | None, reject: float,
        **others: Any,
    ) -> Any:  # fmt: skip
        return function(family=LatentRequest(similar, around, degrees, sort, reject), **others)

    return cloup.option_group(
        "Family and choice",
        cloup.option(
            "--similar", type=click.IntRange(0, MAX_SEED), metavar="SEED", show_default="none",
            help=f"Pictures like this seed's, --n of them ({DEFAULT_FAMILY}).",
        ),
        cloup.option(
            "--around", type=FilePath(path_type=Path), metavar="FILE", show_default="none",
            help="Pictures like those of a file of latents, or of a PNG that pggan made; --n of each.",
        ),
        cloup.option(
            "--degrees", type=NumberRange(0, 180), metavar="X", show_default=f"{DEFAULT_DEGREES:g}",
            help="How far the latents of such pictures are turned; 90 is as different as two seeds.",
        ),
        cloup.option(
            "--sort", type=click.Choice(["score"]), show_default="by seed",
            help="score: best first, by the discriminator, where the file keeps it.",
        ),
        cloup.option(
            "--reject", type=NumberRange(0, 1, max_open=True), metavar="SHARE", default=0.0,
            help="Leave out this share of the pictures, those with the lowest scores by the discriminator.",
        ),
    )(command)  # fmt: skip


def write_latents(
    choice: ModelChoice, saved: LatentChoice, family: LatentRequest, seeds: Seeds, count: int | None, request: Request,
    output: Output,
) -> None:  # fmt: skip
    """Writes the pictures, and prints what was written."""
    if (saved.files or family.around) and (request.label is not None or request.codes):
        raise UsageError("kept latents have their own labels and codes; leave --label and --code out")
    model = saved.load(choice, mode=request.mode, note=output.note, truncation=request.truncation, raw=request.raw)
    from pggan.editing.latent_images import remaining, write_latent_images
    from pggan.generation.images import file_suffix

    latents = _latents(model, saved, family, seeds, count, request)
    with output.progress("generating", len(latents)) as advance:
        written = write_latent_images(
            model, latents, request.out, grid=request.grid_of(remaining(len(latents), family.reject)),
            images=not request.only_grid, sort=family.sort is not None, reject=family.reject, batch=request.batch,
            suffix=file_suffix(model, request.label, dict(request.codes)), task=task_of(advance),
        )  # fmt: skip
    values = {
        "model": str(model.path),
        "resolution": model.resolution,
        "folder": str(request.out),
        "names": list(written.latents.names),
        "pictures": len(written.names),
        "files": written.names,
        "scores": written.scores,
        "rejected": written.rejected,
        "grid": str(written.grid) if written.grid else None,
    }
    lines = []
    if written.names:
        lines.append(f"{len(written.names)} pictures of {model.resolution}x{model.resolution} in {request.out}")
    if written.rejected:
        lines.append(f"left out: {written.rejected} with the lowest scores")
    if written.grid:
        lines.append(f"grid: {written.grid}")
    output.result(values, *lines)


def _of_seeds(model: Model, seeds: Seeds, request: Request) -> LatentSet:
    """Returns the latents of seeds, named as the files of `generate` without a choice are."""
    from pggan.editing.latents_file import LatentSet
    from pggan.generation.images import file_suffix

    asked = request.label, dict(request.codes)
    found, suffix = LatentSet.of_seeds(model, seeds, *asked), file_suffix(model, *asked)
    return replace(found, names=tuple(name + suffix for name in found.names))


def _latents(
    model: Model, saved: LatentChoice, family: LatentRequest, seeds: Seeds, count: int | None, request: Request
) -> LatentSet:
    from pggan.editing.latent_sources import read_all_latents, read_latents
    from pggan.editing.latents_file import relatives

    if saved.files:
        return read_all_latents(saved.files, model, saved.force)
    if not family.is_family:
        return _of_seeds(model, seeds, request)
    if family.around is not None:
        centres = read_latents(family.around, model, saved.force)
    else:
        centres = _of_seeds(model, Seeds.of([family.similar or 0]), request)
    degrees = DEFAULT_DEGREES if family.degrees is None else family.degrees
    return relatives(model, centres, degrees, count or DEFAULT_FAMILY, FAMILY_SEED)
