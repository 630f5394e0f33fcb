"""Shows directions: a sheet of moves in steps of degrees, and a looping video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pggan.config.content.channels import WHITE, Colour
from pggan.editing.directions_file import DirectionSet
from pggan.editing.latents_file import LatentSet
from pggan.editing.sphere import move
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.grid import Grid, Images
from pggan.generation.images import describe, make_folder, write_png
from pggan.generation.model import Model
from pggan.generation.video import write_grid_video
from pggan.utils.errors import UsageError

DEGREES, STEPS = 40.0, 7


def moved(latents: LatentSet, directions: DirectionSet, name: str, degrees: float) -> LatentSet:
    """Returns latents turned by an angle towards a direction; their origins say so."""
    vector = directions.select([name]).vectors[0]
    edit = {"direction": name, "degrees": degrees}
    origins = [{"edit": edit, "of": origin} for origin in latents.origins]
    names = [f"{latent}-{name}{degrees:+g}" for latent in latents.names]
    return latents.with_latents(move(latents.z, vector, degrees), names, origins)


def direction_sheet(
    model: Model,
    out: str | Path,
    directions: DirectionSet,
    latents: LatentSet,
    degrees: float = DEGREES,
    steps: int = STEPS,
    task: Task = UNWATCHED,
) -> dict[str, Any]:
    """Writes a PNG with a row for each direction and latent, moved from -`degrees` to `degrees` from left to right.

    Args:
        model: The model.
        out: The PNG.
        directions: Its directions.
        latents: Its latents.
        degrees: Largest move.
        steps: Images in a row.
        task: Counts rows.

    Returns:
        File, directions, rows, columns and degrees.

    Raises:
        UsageError: The sheet is too large.
    """
    angles = [float(a) for a in np.linspace(-degrees, degrees, steps)]
    rows = len(directions) * len(latents)
    canvas = Grid(steps, rows, model.resolution, model.channels)
    make_folder(Path(out).parent)
    for name in directions.names:
        for row in range(len(latents)):
            one = latents.select([row])
            canvas.add(LatentSet.join([moved(one, directions, name, a) for a in angles]).images(model))
            task.advance(1)
    about = {"directions": list(directions.names), "degrees": angles, "latents": list(latents.names)}
    write_png(Path(out), canvas.image, {**about, **describe(model)})
    return {"file": str(out), "directions": list(directions.names), "rows": rows, "columns": steps, "degrees": degrees}


def direction_video(
    model: Model,
    out: str | Path,
    directions: DirectionSet,
    latents: LatentSet,
    degrees: float = DEGREES,
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

    def frames() -> Iterator[Images]:
        for frame in range(count):
            at = degrees * math.sin(2 * math.pi * frame / count)
            rows = [moved(latents, directions, name, at) for name in directions.names]
            yield LatentSet.join(rows).images(model)
            task.advance(1)

    grid = (len(latents), len(directions))
    written = write_grid_video(out, frames(), grid, model.resolution, scale, fps, background)
    return {**written, "directions": list(directions.names)}
