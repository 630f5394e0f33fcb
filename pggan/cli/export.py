"""`pggan export`: a model for programs without pggan, as ONNX or as a torch.export program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from pggan.cli.options import FilePath, Output, best_option, complete_model, output_options, overwrite_option
from pggan.config.resolution import level_of
from pggan.utils.errors import UsageError
from pggan.utils.formatting import size

if TYPE_CHECKING:
    from pggan.generation.model import Model

FORMAT_OF_ENDING = {".onnx": "onnx", ".pt2": "torch"}


@cloup.command("export")
@cloup.argument("model", type=FilePath(), shell_complete=complete_model)
@cloup.argument("out", type=FilePath(path_type=Path))
@cloup.option_group("Model", best_option)
@cloup.option_group(
    "Files",
    cloup.option(
        "--format", "kind", type=click.Choice(["onnx", "torch"]), show_default="by OUT's ending, .onnx or .pt2",
        help="Format to write.",
    ),
    cloup.option(
        "--opset", type=click.IntRange(min=18), metavar="N", show_default="18, which runtimes since 2023 run",
        help="Operator set of an ONNX file.",
    ),
    cloup.option(
        "--res", "resolution", type=int, metavar="R", show_default="the model's own, at its alpha",
        help="Resolution of the pictures.",
    ),
    cloup.option(
        "--all-levels", is_flag=True, help="Write every resolution, a file each; OUT is the folder to make."
    ),
    overwrite_option,
)  # fmt: skip
@output_options
def command(
    model: str, out: Path, kind: str | None, resolution: int | None, all_levels: bool, overwrite: bool, best: bool,
    opset: int | None, output: Output,
) -> None:  # fmt: skip
    """Convert a model to ONNX or to a torch.export program.

    MODEL is a file, a run directory, hf://user/name or a shipped model's name.
    The program takes latents (and labels) of any batch
    size and returns images around [-1, 1]. Its outputs are checked against PyTorch to 1e-4. To exchange models between
    pggan installations, copy their .safetensors files instead; the README documents that format.
    """
    kind = kind or FORMAT_OF_ENDING.get(out.suffix.lower()) or ("onnx" if all_levels else None)
    if kind is None:
        raise UsageError(f"OUT {out} ends in neither .onnx nor .pt2; give --format")
    if all_levels and resolution is not None:
        raise UsageError("--all-levels and --res exclude each other: give one of them")
    level = None if resolution is None else level_of(resolution)
    from pggan.generation.model import load
    from pggan.interop.export import export_model

    loaded = load(model, "cpu", best)
    files = _files_of_levels(loaded, out, kind, overwrite) if all_levels else [(out, level)]
    results = []
    progress = Output(output.as_json, output.quiet or len(files) == 1).progress("exporting", len(files), "files")
    with progress as advance:
        for path, level in files:
            results.append(export_model(loaded, path, kind, level, overwrite, opset))
            advance(1)
    output.result(results, *(_line(result, kind) for result in results))


def _files_of_levels(model: Model, folder: Path, kind: str, overwrite: bool) -> list[tuple[Path, int | None]]:
    """A file for every level of a model. Raises `UsageError`, before any is written, where one exists already."""
    from pggan.interop.export import FORMATS

    levels = range(model.file.generator.config.min_level, model.file.level + 1)
    files = [(folder / f"{model.name}-{2**level}x{2**level}{FORMATS[kind]}", level) for level in levels]
    if not overwrite and (existing := [path for path, _ in files if path.exists()]):
        raise UsageError(f"{existing[0]} exists already; give another OUT, or --overwrite to replace it")
    return [*files]


def _line(result: dict[str, Any], kind: str) -> str:
    made_for = f"opset {result['opset']} (IR {result['ir']})" if kind == "onnx" else f"torch {result['torch']}"
    return (
        f"{result['file']}: {result['resolution']}x{result['resolution']}, {made_for}, {size(result['bytes'])}, "
        f"differs from PyTorch by at most {result['max_difference']:.1e}"
    )
