"""Traversals: what each structured code does (InfoGAN), one code a row, with the noise and the other codes fixed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import WHITE, Colour
from pggan.generation.grid import Grid, Images
from pggan.generation.images import describe, make_folder, write_png
from pggan.generation.model import Model
from pggan.generation.video import Advance, write_grid_video
from pggan.networks.latents import CodeSpace
from pggan.utils.errors import UsageError

Codes = NDArray[np.float32]


@dataclass(frozen=True)
class TraverseOptions:
    """Which codes pass through which values."""

    codes: tuple[int, ...] = ()  # numbers of the codes; empty: all
    seeds: tuple[int, ...] = (0,)  # whose noise and other codes are shown
    steps: int = 10  # values of a continuous code in a grid; a categorical code has all its values
    reach: float = 1.0  # continuous codes go from -reach to reach

    def codes_of(self, space: CodeSpace) -> list[int]:
        """Returns the numbers of the codes. Raises `UsageError` for a model without codes, or without these."""
        if not space.count:
            raise UsageError("this model has no structured codes; train one with --categorical or --continuous")
        if len(set(self.codes)) < len(self.codes):
            raise UsageError("a code is there twice; each is a row of its own")
        for number in self.codes:
            if not 0 <= number < space.count:
                raise UsageError(f"this model has codes 0 to {space.count - 1}, not a code {number}")
        return list(self.codes) or list(range(space.count))

    def values(self, space: CodeSpace, number: int) -> list[float]:
        """Returns the values of a code in a grid, from left to right."""
        if number < len(space.categorical):
            return [float(value) for value in range(space.categorical[number])]
        return [float(value) for value in np.linspace(-self.reach, self.reach, self.steps)]

    def set_at(self, space: CodeSpace, rows: Codes, number: int, time: float) -> None:
        """Sets a code in rows (N, size) to its value at a time of the loop, 0 to below 1.

        A continuous code goes there and back by a cosine. A categorical one passes through its values: each stays for
        two thirds of its time, then blends into the next one.
        """
        if number >= len(space.categorical):
            space.set_code(rows, number, -self.reach * math.cos(2 * math.pi * time))
            return
        count = space.categorical[number]
        value, elapsed = divmod(time * count, 1)
        space.set_code(rows, number, value)
        next_weight = max(0.0, 3 * elapsed - 2)
        first = sum(space.categorical[:number])
        rows[:, first + int(value)] = 1 - next_weight
        rows[:, first + (int(value) + 1) % count] += next_weight


def traverse_grid(
    model: Model, out: str | Path, options: TraverseOptions, advance: Advance = lambda rows: None
) -> dict[str, Any]:
    """Writes a PNG with a row for each code and seed, the code's values from left to right.

    Args:
        model: A model with structured codes.
        out: The PNG.
        options: Codes, seeds and values.
        advance: Is called with the number of rows since the last call.

    Returns:
        File, codes, rows, columns and resolution.

    Raises:
        UsageError: The model lacks the codes, or the grid is too large.
    """
    space, path = model.codes, Path(out)
    codes = options.codes_of(space)
    values = {number: options.values(space, number) for number in codes}
    columns, rows = max(map(len, values.values())), len(codes) * len(options.seeds)
    canvas = Grid(columns, rows, model.resolution, model.channels)
    make_folder(path.parent)
    side = model.resolution
    for number in codes:
        for seed in options.seeds:
            seeds = [seed] * len(values[number])
            latents = model.seed_latents(seeds)
            for row, value in enumerate(values[number]):
                space.set_code(latents[row : row + 1, model.latent_size :], number, value)
            canvas.add(model.images_in_batches(latents, model.seed_labels(seeds)))
            canvas.add(np.zeros((columns - len(latents), side, side, model.channels), np.uint8))
            advance(1)
    traversed = {str(number): code_values for number, code_values in values.items()}
    write_png(path, canvas.image, {"traversed": traversed, "seeds": list(options.seeds), **describe(model)})
    return {"file": str(path), "codes": codes, "rows": rows, "columns": columns, "resolution": side}


def traverse_video(
    model: Model,
    out: str | Path,
    options: TraverseOptions,
    seconds: float,
    fps: float,
    scale: int | None = None,
    background: Colour = WHITE,
    advance: Advance = lambda frames: None,
) -> dict[str, Any]:
    """Writes a looping video with a row for each code and a column for each seed; every code passes through its values.

    Args:
        model: A model with structured codes.
        out: File ending in .mp4, .gif or .webp.
        options: Codes and seeds.
        seconds: Length.
        fps: Frames a second.
        scale: Enlargement; None: to 256 pixels a side at least.
        background: Colour behind RGBA pictures.
        advance: Is called with the number of frames since the last call.

    Returns:
        File, codes, frames, width, height, fps and seconds.

    Raises:
        UsageError: The model lacks the codes, or see `video.write_video`.
    """
    codes = options.codes_of(model.codes)
    frames = _video_frames(model, options, codes, max(2, round(seconds * fps)), advance)
    grid = (len(options.seeds), len(codes))
    written = write_grid_video(out, frames, grid, model.resolution, scale, fps, background)
    return {"file": str(out), "codes": codes, **written}


def _video_frames(
    model: Model, options: TraverseOptions, codes: Sequence[int], count: int, advance: Advance
) -> Iterator[Images]:
    """Yields the images of each frame, a row for each code."""
    columns, rows = len(options.seeds), len(codes)
    seeds = list(options.seeds) * rows
    base, labels = model.seed_latents(seeds), model.seed_labels(seeds)
    for frame in range(count):
        latents = base.copy()
        for row, number in enumerate(codes):
            row_codes = latents[row * columns : (row + 1) * columns, model.latent_size :]
            options.set_at(model.codes, row_codes, number, frame / count)
        yield model.images_in_batches(latents, labels)
        advance(1)
