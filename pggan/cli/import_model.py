"""`pggan import`: a model of another program as a model file of this one."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pggan.cli.options import as_json
from pggan.utils.errors import UsageError
from pggan.utils.formatting import size


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--which",
    type=click.Choice(["gs", "g", "all"]),
    default="gs",
    show_default=True,
    help="gs: the generator's running average; g: the generator itself in its place; all: both.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@as_json
def command(file: Path, out: Path, which: str, overwrite: bool, as_json: bool) -> None:
    """Turn a model of another program into a model file OUT (.safetensors).

    FILE is a network pickle of the official PG-GAN release, as karras2018iclr-celebahq-1024x1024.pkl (any resolution,
    channels, labels; the older Theano release, too), or a PGAN checkpoint of pytorch_GAN_zoo. Nothing in it is
    executed. The discriminator is kept: `pggan train DATA --from OUT` goes on from there.
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
    side = 2**model.level
    about = {
        "model": str(out),
        "imported_from": model.info.get("imported_from"),
        "resolution": f"{side}x{side}",
        "alpha": model.alpha,
        "channels": g.channels,
        "label_size": g.label_size,
        "latent_size": g.latent_size,
        "networks": list(model.parts()),
        "generator_parameters": parameters(g, model.level),
        "discriminator_parameters": parameters(d.config, model.level) if d is not None else None,
        "bytes": out.stat().st_size,
    }
    if as_json:
        click.echo(json.dumps(about))
        return
    fading = f" (alpha {model.alpha:.3g})" if model.alpha < 1 else ""
    kind = {1: "grey", 3: "RGB"}.get(g.channels, f"{g.channels} channels")
    labels = f", {g.label_size} classes" if g.label_size else ""
    click.echo(f"{out}: {about['imported_from']}, {side}x{side}{fading}, {kind}{labels}, {size(out.stat().st_size)}")
    click.echo(f"new pictures: pggan generate {out} --n 64 --out pictures")
