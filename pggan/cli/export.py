"""`pggan export`: a model for programs without pggan: ONNX, or a torch.export program."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pggan.cli.options import as_json, best, quiet
from pggan.utils.errors import UsageError
from pggan.utils.formatting import size

ENDINGS = {".onnx": "onnx", ".pt2": "torch"}


@click.command("export")
@click.argument("model", type=click.Path())
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["onnx", "torch"]), help="Default: by OUT's ending, .onnx or .pt2.")
@click.option("--res", "resolution", type=int, help="Resolution.  [default: the model's own, at its alpha]")
@click.option("--all-levels", is_flag=True, help="Every resolution, a file each; OUT is a folder to be made.")
@click.option("--overwrite", is_flag=True, help="Replace files.")
@best
@as_json
@quiet
def command(
    model: str,
    out: Path,
    kind: str | None,
    resolution: int | None,
    all_levels: bool,
    overwrite: bool,
    best: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write MODEL's generator for other programs: latents (and labels) in, images around [-1, 1] out, any batch.

    MODEL is a file, a run directory or a shipped model's name. What is written is checked against PyTorch to 1e-4.
    The model's own .safetensors file is the format for exchange; the README documents it.
    """
    chosen = kind or ENDINGS.get(out.suffix.lower()) or ("onnx" if all_levels else None)
    if chosen is None:
        raise UsageError(f"OUT {out} ends in neither .onnx nor .pt2; give --format")
    if all_levels and resolution is not None:
        raise UsageError("--all-levels and --res exclude each other: give one of them")
    if resolution is not None:
        from pggan.config.resolution import level_of

        level_of(resolution)
    from pggan.cli.progress_bar import progress
    from pggan.generation.model import load
    from pggan.interop.export import FORMATS, export_model

    loaded = load(model, "cpu", best)
    wanted: list[tuple[Path, int | None]] = [(out, None if resolution is None else level_of(resolution))]
    if all_levels:
        levels = range(loaded.file.generator.config.min_level, loaded.file.level + 1)
        wanted = [(out / f"{loaded.name}-{2**at}x{2**at}{FORMATS[chosen]}", at) for at in levels]
    # before any is written
    if all_levels and not overwrite and (there := [path for path, _ in wanted if path.exists()]):
        raise UsageError(f"{there[0]} exists already; give another OUT, or --overwrite to replace it")
    made = []
    with progress("exporting", len(wanted), "files", quiet=quiet or as_json or len(wanted) == 1) as advance:
        for path, level in wanted:
            made.append(export_model(loaded, path, chosen, level, overwrite))
            advance(1)
    if as_json:
        click.echo(json.dumps(made))
        return
    for done in made:
        how = f"opset {done['opset']}" if chosen == "onnx" else f"torch {done['torch']}"
        click.echo(
            f"{done['file']}: {done['resolution']}x{done['resolution']}, {how}, {size(done['bytes'])}, differs from "
            f"PyTorch by at most {done['max_difference']:.1e}"
        )
