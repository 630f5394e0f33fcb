"""Shows directions: a sheet of moves, and a looping video.

Amounts are degrees, of a model with a mapping network standard deviations of w.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pggan.config.content.channels import WHITE, Colour
from pggan.editing.directions_file import DirectionSet
from pggan.editing.latents_file import LatentSet
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.grid import Grid, Images
from pggan.generation.images import describe, make_folder, write_png
from pggan.generation.model import Model
from pggan.generation.video import write_grid_video
from pggan.utils.errors import UsageError

STEPS = 7
# How far latents are moved by default, and the unit, by the space that they are moved in.
AMOUNTS = {"z": 40.0, "w": 3.0}
UNITS = {"z": "degrees", "w": "spreads"}


def moved(model: Model, latents: LatentSet, directions: DirectionSet, name: str, amount: float) -> LatentSet:
    """Returns latents moved along a direction; their origins say so."""
    latents = latents.moved(model, directions.select([name]).vectors[0], amount)
    edit = {"direction": name, UNITS[directions.space]: amount}
    origins = [{"edit": edit, "of": origin} for origin in latents.origins]
    return latents.with_latents(latents.z, [f"{latent}-{name}{amount:+g}" for latent in latents.names], origins)


def direction_sheet(
    model: Model,
    out: str | Path,
    directions: DirectionSet,
    latents: LatentSet,
    amount: float | None = None,
    steps: int = STEPS,
    task: Task = UNWATCHED,
) -> dict[str, Any]:
    """Writes a PNG with a row for each direction and latent, moved from -`amount` to `amount` from left to right.

    Args:
        model: The model.
        out: The PNG.
        directions: Its directions.
        latents: Its latents.
        amount: Largest move; None: 40 degrees, or 3 standard deviations of w.
        steps: Images in a row.
        task: Counts rows.

    Returns:
        File, directions, rows, columns, and degrees or spreads.

    Raises:
        UsageError: The sheet is too large.
    """
    amount = AMOUNTS[directions.space] if amount is None else amount
    amounts, unit = [float(a) for a in np.linspace(-amount, amount, steps)], UNITS[directions.space]
    rows = len(directions) * len(latents)
    canvas = Grid(steps, rows, model.resolution, model.channels)
    make_folder(Path(out).parent)
    for name in directions.names:
        for row in range(len(latents)):
            one = latents.select([row])
            canvas.add(LatentSet.join([moved(model, one, directions, name, a) for a in amounts]).images(model))
            task.advance(1)
    about = {"directions": list(directions.names), unit: amounts, "latents": list(latents.names)}
    write_png(Path(out), canvas.image, {**about, **describe(model)})
    return {"file": str(out), "directions": list(directions.names), "rows": rows, "columns": steps, unit: amount}


def direction_video(
    model: Model,
    out: str | Path,
    directions: DirectionSet,
    latents: LatentSet,
    amount: float | None = None,
    seconds: float = 6.0,
    fps: float = 30.0,
    scale: int | None = None,
    background: Colour = WHITE,
    task: Task = UNWATCHED,
) -> dict[str, Any]:
    """Writes a looping video with a row for each direction and a column for each latent, moved there and back.

    Arguments are those of `direction_sheet` and `write_grid_video`; `task` counts frames.
    """
    if not seconds * fps >= 2:
        raise UsageError(f"{seconds:g} s at {fps:g} frames a second is less than two frames; give more of either")
    count = round(seconds * fps)
    most = AMOUNTS[directions.space] if amount is None else amount

    def frames() -> Iterator[Images]:
        for frame in range(count):
            at = most * math.sin(2 * math.pi * frame / count)
            rows = [moved(model, latents, directions, name, at) for name in directions.names]
            yield LatentSet.join(rows).images(model)
            task.advance(1)

    grid = (len(latents), len(directions))
    written = write_grid_video(out, frames(), grid, model.resolution, scale, fps, background)
    return {**written, "directions": list(directions.names)}
