"""Pictures a second written as PNGs, beside what the network alone makes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.measuring import Numbers, as_json, machine, median, show

COLUMNS = {
    "resolution": "resolution",
    "batch": "batch",
    "bare": "bare img/s",
    "rate": "with PNGs img/s",
    "of_bare": "of bare",
}


@click.command("generate")
@click.option("--resolutions", type=Numbers(), help="Default: 4 to 1024 (CPU: 4 to 128).")
@click.option("--model", help="A model instead of untrained networks, at its resolution.")
@click.option("--fmap-base", type=int, help="Width of untrained networks. Default: 8192 (CPU: 2048).")
@click.option("--n", "count", type=click.IntRange(1), help="Pictures a measurement. Default: two batches, 16 at least.")
@click.option("--batch", type=click.IntRange(1), help="Default: as pggan generate.")
@click.option("--device", default="auto", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@as_json
def command(as_json: bool, **given: Any) -> None:
    """Generation by resolution: the network alone, and all of `pggan generate` with its PNGs; goal: 0.8 of bare.

    Untrained networks by default: their pictures are harder to compress than faces are.
    """
    from pggan.synthesis.model import load

    rows = []
    if given["model"]:
        models = [load(given["model"], given["device"])]
    else:
        models = _untrained(given)
    for model in models:
        rows.append(_row(model, given))
        click.echo(f"measured {model.resolution}x{model.resolution}", err=True)
    show({"machine": machine(), "device": str(model.device), "rows": rows}, "rows", COLUMNS, as_json)


def _untrained(given: dict[str, Any]) -> list[Any]:
    from pggan.checkpoints import ModelFile
    from pggan.config import DiscriminatorConfig, GeneratorConfig
    from pggan.devices import pick_device
    from pggan.networks.build import build
    from pggan.synthesis.model import Model

    device = pick_device(given["device"])
    sides = given["resolutions"] or [2**level for level in range(2, 11 if device.type == "cuda" else 8)]
    width = given["fmap_base"] or (8192 if device.type == "cuda" else 2048)
    found = []
    for side in sides:
        common = {"resolution": side, "fmap_base": width}
        generator, _ = build(GeneratorConfig(**common), DiscriminatorConfig(**common), 0)
        file = ModelFile(generator.to(device), None, side.bit_length() - 1, 1.0)
        found.append(Model(file, device))
    return found


def _row(model: Any, given: dict[str, Any]) -> dict[str, Any]:
    import torch

    from pggan.latents import seed_latents
    from pggan.synthesis.pictures import write_pictures

    batch = given["batch"] or min(model.batch_size(), max(1, 4096 // model.resolution))
    count = given["count"] or max(16, 2 * batch)
    latents = seed_latents(range(batch), model.latent_size)

    def bare() -> float:
        start, done = time.perf_counter(), 0
        while done < count:
            model.synthesize(latents)
            done += batch
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return done / (time.perf_counter() - start)

    def written(folder: str) -> float:
        start = time.perf_counter()
        write_pictures(model, range(count), Path(folder), batch=batch)
        return count / (time.perf_counter() - start)

    model.synthesize(latents)
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        written(folder)
        for _ in range(given["rounds"]):
            pairs.append((bare(), written(folder)))
    row = {"resolution": model.resolution, "batch": batch, "bare": median([a for a, _ in pairs])}
    row |= {"rate": median([b for _, b in pairs]), "of_bare": median([b / a for a, b in pairs])}
    return row
