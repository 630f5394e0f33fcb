"""Transparency and numbers as labels, on drawn heads: do generated pictures obey the numbers that one asks for?

    python tools/lab_numbers.py OUT --res 8 --kimg 80

Prepares drawn heads without backgrounds, whose size and place are labels, trains on both numbers and the colour of the
hair with ADA, asks the model for random numbers, and measures them on the pictures by their alpha: the size as the
opaque share, the place as the middle of it. Prints the correlations of asked-for and measured numbers, and as their
limit those of the data; writes OUT/composites.png, training pictures below generated ones, over two backgrounds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from experiments.commands import run_pggan
from numpy.typing import NDArray

import pggan
from pggan.config.content.channels import over
from pggan.data.label_columns import STEPS
from pggan.data.store.store import Store
from pggan.generation.grid import enlarge, grid_image
from pggan.generation.images import write_png
from pggan.generation.model import Model
from pggan.training.run.directory import is_run

NUMBERS = ("size", "shift")
BACKGROUNDS = ((255, 255, 255), (40, 90, 40))


def measured(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Returns size and place of heads, (N,) each, as shares of the side, by the alpha of images (N, H, W, 4)."""
    alpha = images[..., 3].astype(np.float64)
    across = np.arange(alpha.shape[2]) / alpha.shape[2]
    return {"size": alpha.mean((1, 2)) / 255, "shift": (alpha.sum(1) * across).sum(1) / alpha.sum((1, 2)).clip(1)}


def correlations(entries: NDArray[Any], images: NDArray[np.uint8]) -> dict[str, float]:
    """Returns the correlation of each number, entries (N, numbers), with what is measured on images (N, H, W, 4)."""
    values = measured(images)
    return {name: round(float(np.corrcoef(entries[:, n], values[name])[0, 1]), 4) for n, name in enumerate(NUMBERS)}


def obeying(model: Model, count: int) -> dict[str, float]:
    """Asks for random numbers, with each seed's own hair, and returns how far pictures obey them."""
    names = [column.name for column in model.labels.columns]
    asked = np.random.default_rng(0).integers(STEPS + 1, size=(count, len(NUMBERS)))
    rows = [list(row) for row in model.seed_entries(range(count))]
    for row, entries in zip(rows, asked):
        for name, entry in zip(NUMBERS, entries):
            row[names.index(name)] = int(entry)
    labels = model.labels.vectors([tuple(row) for row in rows])
    return correlations(asked, model.images_in_batches(model.seed_latents(range(count)), labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--res", type=int, default=8)
    parser.add_argument("--kimg", type=float, default=80.0, help="of the last resolution")
    parser.add_argument("--count", type=int, default=600, help="pictures that are measured")
    given, further = parser.parse_known_args()  # further options are of pggan train
    data, trained = given.out / "data", given.out / "run"
    if not data.exists():
        kind = ["--channels", "4", "--numbers", ",".join(NUMBERS), "--max-res", str(given.res)]
        run_pggan("prepare-data", f"drawn:{given.pictures}", str(data), *kind, shown=True)
    plan = ["--max-res", str(given.res), "--stable-kimg", f"8,{given.res}:{given.kimg:g}", "--fade-kimg", "4"]
    plan += ["--labels", "size,shift,hair-colour", "--augment", "ada", "--augment-p", "0.1", "--no-mirror"]
    plan += ["--latent-size", "32", "--fmap-base", "256", "--fmap-max", "48", "--batch", "32", "--eval-every", "0"]
    plan += ["--tick-kimg", "4", "--ema-half-life", "1"]
    if is_run(trained):
        run_pggan("train", "--resume", str(trained), shown=True)
    else:
        run_pggan("train", str(data), "--out", str(trained), *plan, *further, shown=True)
    model = pggan.load(trained)
    with Store(data) as store:
        count = min(given.count, len(store))
        reals = store.read(given.res, range(count)).transpose(0, 2, 3, 1)
        of_data = correlations(store.labels[:count, -len(NUMBERS) :], reals)
    shown = np.concatenate([model.seed_images(range(24)), reals[:24]])
    heads = grid_image(enlarge(shown, max(1, 64 // given.res)), 8, 6)
    write_png(given.out / "composites.png", np.concatenate([over(heads, colour) for colour in BACKGROUNDS], axis=1))
    print(json.dumps({"asked": obeying(model, given.count), "data": of_data}))


if __name__ == "__main__":
    main()
