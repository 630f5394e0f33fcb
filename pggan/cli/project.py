"""`pggan project`: the latents of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.latent_options import CONSENT, check_ending, check_new, task_of
from pggan.cli.options import (
    CODE_VALUE,
    FilePath,
    ModelChoice,
    Output,
    best_option,
    device_option,
    label_option,
    no_mark_option,
    output_options,
    overwrite_option,
)
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.editing.latents_file import LatentSet
    from pggan.editing.projection.picture_input import InputPicture
    from pggan.editing.projection.project import Projection, ProjectOptions
    from pggan.generation.model import Model


@dataclass(frozen=True)
class Files:
    """What to write."""

    out: Path
    sheet: Path | None
    no_sheet: bool
    video: Path | None
    tuned: Path | None
    overwrite: bool

    def check(self, tune: int, pictures: Sequence[Path]) -> Files:
        """Returns the files with the defaults filled in. Raises `UsageError` where one is in the way."""
        if self.tuned is not None and not tune:
            raise UsageError("--tuned is the file of --tune; give --tune STEPS, too")
        if self.no_sheet and self.sheet is not None:
            raise UsageError("--no-sheet and --sheet exclude each other: give one of them")
        if self.video is not None and len(pictures) > 1:
            raise UsageError("--video shows the search of one picture; give one")
        if self.video is not None:
            from pggan.generation.video_formats import video_format

            video_format(self.video)
        sheet = None if self.no_sheet else self.sheet or self.out.with_suffix(".png")
        tuned = (self.tuned or self.out.with_suffix(".tuned.safetensors")) if tune else None
        check_ending("--out", self.out, ".safetensors", "a file of latents")
        check_ending("--tuned", tuned, ".safetensors", "a file of weights")
        check_ending("--sheet", sheet, ".png", "a sheet")
        check_new([path for path in (self.out, sheet, self.video, tuned) if path], self.overwrite, pictures)
        return Files(self.out, sheet, self.no_sheet, self.video, tuned, self.overwrite)


@cloup.command("project")
@cloup.argument("model", type=FilePath())
@cloup.argument("pictures", nargs=-1, required=True, type=FilePath(path_type=Path))
@cloup.option_group("Model", best_option, device_option)
@cloup.option_group(
    "Pictures",
    cloup.option(
        "--align", type=click.Choice(["none", "auto"]), default="none",
        help="auto: find the face in each photograph and cut it out as the model frames its own (extra "
        "align). none: the square in the middle.",
    ),
)  # fmt: skip
@cloup.option_group(
    "Search",
    cloup.option("--steps", type=click.IntRange(3, 1_000_000), metavar="N", default=1000, help="Steps of a search."),
    cloup.option(
        "--loss", type=click.Choice(["auto", "pyramid", "discriminator", "efficientnet"]), default="auto",
        help="What is compared: bands of the picture, and features of the model's discriminator (auto: where its file "
        "keeps it, in the last part of the search) or of EfficientNet-Lite0.",
    ),
    cloup.option("--restarts", type=click.IntRange(1, 64), metavar="N", default=4, help="Searches begun at a time."),
    cloup.option(
        "--starts", type=click.IntRange(1, 100_000), metavar="N", default=2000,
        help="Seeds among which the nearest are looked for; their thumbnails are kept in the cache folder.",
    ),
    cloup.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="SEED", default=0, help="Seed of the noise."),
    label_option,
    cloup.option(
        "--code", "codes", multiple=True, type=CODE_VALUE, show_default="found, too",
        help="Set a structured code of an InfoGAN model, as 0=3. Repeat for further codes.",
    ),
    cloup.option(
        "--tune", type=click.IntRange(0, 100_000), metavar="STEPS", default=0,
        help="Then tune the generator around the latents that were found, and write the change of its weights.",
    ),
)  # fmt: skip
@cloup.option_group(
    "Files",
    cloup.option("--out", type=FilePath(path_type=Path), default="found.safetensors", help="Latents to write."),
    cloup.option(
        "--sheet", type=FilePath(path_type=Path), show_default="OUT with .png",
        help="PNG of each picture, what was found, and four times the difference.",
    ),
    cloup.option("--no-sheet", is_flag=True, help="Write no sheet."),
    cloup.option("--video", type=FilePath(path_type=Path), show_default="none", help="Video of the search."),
    cloup.option(
        "--tuned", type=FilePath(path_type=Path), show_default="OUT with .tuned.safetensors",
        help="Tuned weights to write.",
    ),
    overwrite_option,
    no_mark_option,
)  # fmt: skip
@output_options
def command(
    model: str, pictures: tuple[Path, ...], best: bool, device: str, align: str, steps: int, loss: str, restarts: int,
    starts: int, seed: int, label: str | None, codes: tuple[tuple[int, float], ...], tune: int, output: Output,
    **files: Any,
) -> None:  # fmt: skip
    """Find the latents of pictures.

    MODEL is a file, a run directory, hf://user/name or a shipped model's name. Each PICTURE is cut square in the middle
    and resized; of photographs --align auto cuts the face out as the model's own pictures show it. pggan generate,
    interpolate and traverse take the latents with --latents, and the tuned weights with --tuned. Of photographs of
    people: ask them first.
    """
    paths = Files(**files).check(tune, pictures)
    loaded = ModelChoice(model, best, device).load()
    from pggan.editing.latents_file import LatentSet
    from pggan.editing.projection.picture_input import read_picture
    from pggan.editing.projection.project import ProjectOptions

    options = ProjectOptions(
        steps, loss, restarts, starts=starts, seed=seed, label=label, codes=dict(codes) or None
    )  # fmt: skip
    inputs = [read_picture(path, loaded, align) for path in pictures]
    for picture in inputs:
        if (picture.faces or 0) > 1:
            output.note(f"{picture.name} shows {picture.faces} faces; the largest is taken")
    output.note(CONSENT)
    _fill_bank(loaded, options, output)
    frames: list[Any] = []
    with output.progress("projecting", steps * len(inputs), "steps") as advance:
        projections: list[Projection] = []
        for picture in inputs:
            projections.append(_project(loaded, picture, options, task_of(advance), frames, paths.video))
            latents = LatentSet.join([projection.latents for projection in projections])
            latents.save(paths.out)  # an interrupted search of the next picture loses none of these
    results = [projection.to_json() for projection in projections]
    tuned = _tune(loaded, latents, inputs, tune, loss, paths, output) if tune else None
    _write_views(loaded, latents, projections, tuned, paths, frames)
    lines = [_line(result) for result in results]
    if tuned is not None:
        from pggan.editing.projection.project import psnr

        for result, image, picture in zip(results, latents.images(tuned), inputs):
            result["psnr_tuned"] = round(psnr(image, picture.image), 2)
        lines = [f"{line}, {result['psnr_tuned']} dB tuned" for line, result in zip(lines, results)]
    named = {"latents": paths.out, "sheet": paths.sheet, "video": paths.video, "tuned": paths.tuned}
    files_json = {kind: str(path) for kind, path in named.items() if path}
    output.result({"model": str(loaded.path), **files_json, "pictures": results}, *lines, f"latents: {paths.out}")


def _fill_bank(model: Model, options: ProjectOptions, output: Output) -> None:
    """Makes the thumbnails of seeds with a progress bar of their own; searches of w begin without them."""
    from pggan.editing.latent_space import space_of
    from pggan.editing.seed_bank import seed_bank

    if space_of(model) == "w":
        return
    with output.progress("looking for starts", options.starts) as advance:
        seed_bank(model, options.starts, options.label, task_of(advance))


def _project(
    model: Model, picture: InputPicture, options: ProjectOptions, task: Any, frames: list[Any], video: Path | None
) -> Projection:
    from pggan.editing.projection.project import project
    from pggan.editing.projection.projection_views import SearchFrames

    watch = SearchFrames(picture, options.steps, frames) if video is not None else None
    return project(model, picture, options, task, watch)


def _tune(
    model: Model, latents: LatentSet, pictures: list[InputPicture], steps: int, loss: str, paths: Files, output: Output
) -> Model:
    from pggan.editing.projection.tuning import tune

    with output.progress("tuning", steps, "steps") as advance:
        weights = tune(model, latents, pictures, steps, loss, task_of(advance))
    if paths.tuned is not None:
        weights.save(paths.tuned)
    return weights.apply(model)


def _write_views(
    model: Model,
    latents: LatentSet,
    projections: list[Projection],
    tuned: Model | None,
    paths: Files,
    frames: list[Any],
) -> None:
    from pggan.editing.projection.projection_views import projection_sheet
    from pggan.generation.video import write_video

    if paths.sheet is not None:
        projection_sheet(model, paths.sheet, projections, None if tuned is None else latents.images(tuned))
    if paths.video is not None:
        write_video(paths.video, frames, 30.0)


def _line(result: dict[str, Any]) -> str:
    apart = f", restarts {result['restart_angle']:.1f} degrees apart" if result["restart_angle"] is not None else ""
    return f"{result['picture']}: {result['psnr']} dB{apart}"
