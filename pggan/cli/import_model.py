"""`pggan import`: a model of another program as a model file of this one."""

from __future__ import annotations

from pathlib import Path

import click
import cloup

from pggan.cli.options import FilePath, Output, json_option, overwrite_option
from pggan.config.content.channels import kind_of_channels
from pggan.utils.errors import UsageError
from pggan.utils.formatting import paste, size


@cloup.command("import")
@cloup.argument("file", type=FilePath(path_type=Path))
@cloup.argument("out", type=FilePath(path_type=Path))
@cloup.option_group(
    "Model",
    cloup.option(
        "--which", type=click.Choice(["gs", "g", "all"]), default="gs",
        help="Generator to import. gs: its running average. g: the generator itself in its place. all: both.",
    ),
)  # fmt: skip
@cloup.option_group("Output", overwrite_option, json_option)
def command(file: Path, out: Path, which: str, overwrite: bool, as_json: bool) -> None:
    """Convert a model of another program to a pggan model.

    FILE is a network pickle of the official PG-GAN release, as karras2018iclr-celebahq-1024x1024.pkl (any resolution,
    channels, labels; of the older Theano release, too), or a PGAN checkpoint of pytorch_GAN_zoo. Nothing in it is
    executed. OUT is the model file to write (.safetensors). The discriminator is kept, so that `pggan train DATA
    --from OUT` continues training.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"OUT {out} has to end in .safetensors")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already; give another OUT, or --overwrite to replace it")

    from pggan.interop.import_model import import_model
    from pggan.networks.flops import parameters
    from pggan.networks.model_file import save_model

    model = import_model(file, which)
    save_model(out, model)
    g, d = model.generator.config, model.discriminator
    resolution = f"{2**model.level}x{2**model.level}"
    values = {
        "model": str(out),
        "imported_from": model.info.get("imported_from"),
        "resolution": resolution,
        "alpha": model.alpha,
        "channels": g.channels,
        "label_size": g.label_size,
        "latent_size": g.latent_size,
        "networks": list(model.parts()),
        "generator_parameters": parameters(g, model.level),
        "discriminator_parameters": parameters(d.config, model.level) if d is not None else None,
        "bytes": out.stat().st_size,
    }
    fading = f" (alpha {model.alpha:.3g})" if model.alpha < 1 else ""
    colours = kind_of_channels(g.channels)
    labels = f", {g.label_size} classes" if g.label_size else ""
    Output(as_json).result(
        values,
        f"{out}: {values['imported_from']}, {resolution}{fading}, {colours}{labels}, {size(out.stat().st_size)}",
        f"new pictures: pggan generate {paste(out)} --n 64 --out pictures",
    )
