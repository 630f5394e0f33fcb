"""`pggan blend`: a model of two related ones, or a picture of two latents."""

from __future__ import annotations

from pathlib import Path

import cloup

from pggan.cli.latent_options import SIDE, SIDE_SHARE, check_ending, check_new
from pggan.cli.options import (
    SEEDS,
    FilePath,
    ModelChoice,
    NumberRange,
    Output,
    device_option,
    is_given,
    no_mark_option,
    numbers_type,
    output_options,
    overwrite_option,
)
from pggan.generation.seeds import Seeds
from pggan.utils.errors import UsageError


@cloup.command("blend")
@cloup.argument("model", type=FilePath())
@cloup.argument("other", required=False, type=FilePath())
@cloup.option_group("Model", device_option)
@cloup.option_group(
    "Blend",
    cloup.option("--at", type=SIDE, required=True, help="First resolution of the second model or latent, as 32x32."),
    cloup.option(
        "--mix", multiple=True, type=SIDE_SHARE, show_default="hard",
        help="Two models: share of the second at a resolution, as 32x32=0.5. Repeat for further resolutions.",
    ),
    cloup.option("--force", is_flag=True, help="Also unrelated models, or latents of another model."),
    cloup.option("--seeds", type=SEEDS, show_default="two models", help="One model: blend these two seeds' pictures."),
    cloup.option(
        "--latents", multiple=True, type=FilePath(path_type=Path), metavar="FILE", show_default="seeds",
        help="One model: blend two kept latents instead.",
    ),
    cloup.option(
        "--share", type=NumberRange(0, 1), metavar="X", default=1.0, help="Latents: share of the second's maps."
    ),
    cloup.option(
        "--channels", type=numbers_type(int, 2), show_default="all", help="Latents: first and last map, as 0,31."
    ),
    cloup.option(
        "--mask", metavar="NAME|FILE", show_default="everywhere",
        help="Latents: where the second counts: left, right, top, bottom, middle, or a picture, white there.",
    ),
)  # fmt: skip
@cloup.option_group(
    "Files",
    cloup.option(
        "--out", type=FilePath(path_type=Path), show_default="blend.safetensors, of latents blend.png",
        help="File to write.",
    ),
    overwrite_option,
    no_mark_option,
)  # fmt: skip
@output_options
def command(
    model: str, other: str | None, device: str, at: int, mix: tuple[tuple[int, float], ...], force: bool,
    seeds: Seeds | None, latents: tuple[Path, ...], share: float, channels: tuple[int, int] | None, mask: str | None,
    out: Path | None, overwrite: bool, output: Output,
) -> None:  # fmt: skip
    """Blend two related models, or two latents of one model.

    Two models: the layers below --at are MODEL's, from there on OTHER's; one was trained from the other, or both
    are of one run. One model with --seeds A,B: A's picture with B's feature maps at the resolution --at; the PNG shows
    A, the blend, and B.
    """
    if (other is None) == (seeds is None and not latents):
        raise UsageError("give two models, or one model with --seeds A,B or --latents FILE")
    if len({side for side, _ in mix}) < len(mix):
        raise UsageError("--mix: a resolution is there twice; give each one share")
    if other is not None:
        if share != 1 or channels or mask:
            raise UsageError("--share, --channels and --mask are about two latents; two models take --mix")
        if is_given("device"):
            raise UsageError("--device is about two latents; models are blended on the CPU, leave it out")
        _blend_models(model, other, at, dict(mix), force, out or Path("blend.safetensors"), overwrite, output)
        return
    if mix:
        raise UsageError("--mix is about two models; two latents take --share, --channels and --mask")
    _cross_over(
        ModelChoice(model, False, device), at, seeds, latents, share, channels, mask, out or Path("blend.png"),
        overwrite, output, force,
    )  # fmt: skip


def _blend_models(
    model: str, other: str, at: int, mix: dict[int, float], force: bool, out: Path, overwrite: bool, output: Output
) -> None:
    check_ending("--out", out, ".safetensors", "a model")
    from pggan.utils.paths import find_model

    check_new([out], overwrite, [find_model(model), find_model(other)])
    coarse, fine = (ModelChoice(name, False, "cpu").load() for name in (model, other))
    from pggan.editing.blend import blend_models
    from pggan.networks.model_file import save_model

    blend = blend_models(coarse, fine, at, mix, force)
    save_model(out, blend)
    note = blend.info["blend"]
    output.result(
        {"file": str(out), **note}, f"{out}: {coarse.name} below {at}x{at}, {fine.name} from there on"
    )  # fmt: skip


def _cross_over(
    choice: ModelChoice, at: int, seeds: Seeds | None, files: tuple[Path, ...], share: float,
    channels: tuple[int, int] | None, mask: str | None, out: Path, overwrite: bool, output: Output, force: bool,
) -> None:  # fmt: skip
    check_ending("--out", out, ".png", "a cross-over")
    check_new([out], overwrite, [*files, Path(mask) if mask else None])
    model = choice.load()
    from pggan.editing.blend import SIDES, CrossOver, cross_over, side_mask
    from pggan.editing.latent_sources import read_all_latents
    from pggan.editing.latents_file import LatentSet
    from pggan.editing.projection.picture_input import read_mask
    from pggan.generation.grid import Grid
    from pggan.generation.images import describe, make_folder, write_png

    sets = [LatentSet.of_seeds(model, seeds)] if seeds else []
    if files:
        sets.append(read_all_latents(files, model, force))
    latents = LatentSet.together(sets, model)
    weights = None
    if mask is not None:
        weights = side_mask(mask, model.resolution) if mask in SIDES else read_mask(mask, model)
    images = cross_over(model, latents, CrossOver(at, share, channels, weights))
    canvas = Grid(3, 1, model.resolution, model.channels)
    canvas.add(images)
    make_folder(out.parent)
    about = {"at": f"{at}x{at}", "share": share, "channels": channels, "mask": mask, "latents": list(latents.names)}
    write_png(out, canvas.image, {"cross_over": about, **describe(model)})
    output.result({"model": str(model.path), "file": str(out), **about}, f"{out}: {' and '.join(latents.names)}")
