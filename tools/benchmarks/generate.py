"""Benchmark of generation: images a second written as PNGs, against the network alone."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.measuring import Numbers, as_json, machine, processor_seconds, show, synchronize

COLUMNS = {
    "resolution": "resolution", "mode": "mode", "batch": "batch", "startup": "start s", "bare": "bare img/s",
    "rate": "with PNGs img/s", "of_bare": "of bare", "png_ms": "PNG ms of a core", "video": "video / bare",
}  # fmt: skip
GOAL, MODES = 0.8, ("eager", "compiled")
_print_note = partial(click.echo, err=True)


@click.command("generate")
@click.option("--resolutions", type=Numbers(), help="Default: 4 to 1024 (CPU: 4 to 128).")
@click.option("--model", help="A model instead of untrained networks, at its resolution.")
@click.option("--fmap-base", type=int, help="Width of untrained networks. Default: 8192 (CPU: 2048).")
@click.option("--mode", "modes", multiple=True, type=click.Choice(MODES), default=MODES[:1], help="Several: again.")
@click.option("--n", "count", type=click.IntRange(1), help="Pictures a measurement. Default: two batches, 16 at least.")
@click.option("--batch", type=click.IntRange(1), help="Default: as pggan generate.")
@click.option("--device", default="auto", show_default=True)
@click.option("--video", "seconds", type=click.FloatRange(0.1), help="Also pggan interpolate --grid 4x3, this long.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@as_json
def command(as_json: bool, **options: Any) -> None:
    """Measure generation by resolution: the network alone (bare), and all of `pggan generate` with its PNGs.

    Goal: 0.8 of bare. Both run in the same mode, in turns. `start s`: the first batch, compiling included. Networks are
    untrained by default: their images are harder to compress than faces. `video / bare`: processor time of a video,
    over that of as many pictures by the network alone.
    """
    rows = []
    for mode in options["modes"]:
        for model in _load_models(options, mode):
            rows.append({"mode": mode, **_measure(model, options)})
            click.echo(f"measured {model.resolution}x{model.resolution} {mode}", err=True)
    show({"machine": machine(), "goal": GOAL, "rows": rows}, "rows", COLUMNS, as_json)
    if not as_json:
        click.echo(f"goal: {GOAL} of bare, met by {sum(row['of_bare'] >= GOAL for row in rows)} of {len(rows)}")


def _load_models(options: dict[str, Any], mode: str) -> list[Any]:
    from pggan.generation.model import load

    if options["model"]:
        return [load(options["model"], options["device"], mode=mode, note=_print_note)]
    return _untrained_models(options, mode)


def _untrained_models(options: dict[str, Any], mode: str) -> list[Any]:
    from pggan.config.train import DiscriminatorConfig, GeneratorConfig
    from pggan.generation.model import Model
    from pggan.networks.factory import build
    from pggan.networks.model_file import ModelFile
    from pggan.utils.devices import pick_device

    device = pick_device(options["device"])
    sides = options["resolutions"] or [2**level for level in range(2, 11 if device.type == "cuda" else 8)]
    width = options["fmap_base"] or (8192 if device.type == "cuda" else 2048)
    models = []
    for side in sides:
        common = {"resolution": side, "fmap_base": width}
        generator, _ = build(GeneratorConfig(**common), DiscriminatorConfig(**common), 0)
        file = ModelFile(generator.to(device), None, side.bit_length() - 1, 1.0)
        models.append(Model(file, device, None, mode, _print_note))
    return models


def _measure(model: Any, options: dict[str, Any]) -> dict[str, Any]:
    from pggan.generation.images import write_images
    from pggan.networks.latents import seed_latents

    batch = options["batch"] or model.batch_size()
    count = options["count"] or max(16, 2 * batch)
    latents = seed_latents(range(batch), model.latent_size)

    def bare() -> float:
        start, images_done = time.perf_counter(), 0
        while images_done < count:
            model.synthesize(latents, remaining=batch)
            images_done += batch
        synchronize(model.device)
        return images_done / (time.perf_counter() - start)

    def with_pngs(folder: str) -> float:
        start = time.perf_counter()
        write_images(model, range(count), Path(folder), batch=batch)
        return count / (time.perf_counter() - start)

    row = {"resolution": model.resolution, "batch": batch, "device": str(model.device)}
    start = time.perf_counter()
    model.synthesize(latents, remaining=batch)
    synchronize(model.device)
    row["startup"] = time.perf_counter() - start
    images, pairs = model.images(latents), []
    with tempfile.TemporaryDirectory() as folder:
        row["png_ms"] = _png_seconds(images, Path(folder)) * 1e3
        with_pngs(folder)
        for _ in range(options["rounds"]):
            pairs.append((bare(), with_pngs(folder)))
        if options["seconds"]:
            row["video"] = median(_video_over_bare(model, options["seconds"], folder) for _ in range(options["rounds"]))
    row |= {"bare": median(a for a, _ in pairs), "rate": median(b for _, b in pairs)}
    return {**row, "of_bare": median(b / a for a, b in pairs)}


def _video_over_bare(model: Any, seconds: float, folder: str) -> float:
    """Returns the processor time of a video of 4x3 walks, over that of as many pictures by the network alone."""
    from pggan.generation.video import VideoOptions, interpolate
    from pggan.networks.latents import seed_latents

    options = VideoOptions(seconds, grid=(4, 3))
    start = processor_seconds()
    interpolate(model, Path(folder, "walk.mp4"), options)
    between, latents = processor_seconds(), seed_latents(range(12), model.latent_size)
    for _ in range(options.frames):
        model.synthesize(latents, remaining=len(latents))
    synchronize(model.device)
    return (between - start) / (processor_seconds() - between)


def _png_seconds(images: Any, folder: Path) -> float:
    """Returns the processor time of encoding and writing an image, by one thread."""
    from pggan.generation.images import write_png

    some = images[:16]
    start = time.process_time()
    for number, image in enumerate(some):
        write_png(folder / f"{number}.png", image, {"seed": number}, durable=False)
    return (time.process_time() - start) / len(some)
