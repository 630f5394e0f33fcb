"""What each structured code does (InfoGAN): one code a row, the noise and the other codes held."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.generation.images import Grid, describe, enlarge, grid_image, make_folder, write_png
from pggan.generation.model import Model
from pggan.generation.video import SMALLEST_SIDE, write_video
from pggan.generation.video_formats import check_fps, check_size, video_format
from pggan.networks.latents import CodeSpace
from pggan.utils.errors import UsageError

Codes = NDArray[np.float32]


@dataclass(frozen=True)
class Traverse:
    """`codes`: which, by number (none: all); `seeds`: whose noise and other codes; `reach`: continuous codes go from
    -reach to reach, in a grid in `steps` steps. Categorical ones pass through all their values.
    """

    codes: tuple[int, ...] = ()
    seeds: tuple[int, ...] = (0,)
    steps: int = 10
    reach: float = 1.0

    def chosen(self, space: CodeSpace) -> list[int]:
        """Raises `UsageError` for a model without codes, or without those asked for."""
        if not space.count:
            raise UsageError("this model has no structured codes; train one with --categorical or --continuous")
        if len(set(self.codes)) < len(self.codes):
            raise UsageError("a code is there twice; each is a row of its own")
        for number in self.codes:
            if not 0 <= number < space.count:
                raise UsageError(f"this model has codes 0 to {space.count - 1}, not a code {number}")
        return list(self.codes) or list(range(space.count))

    def values(self, space: CodeSpace, number: int) -> list[float]:
        """The values of a code that a grid shows, from left to right."""
        if number < len(space.categorical):
            return [float(value) for value in range(space.categorical[number])]
        return [float(value) for value in np.linspace(-self.reach, self.reach, self.steps)]

    def put_at(self, space: CodeSpace, rows: Codes, number: int, place: float) -> None:
        """Sets a code in rows (N, size) as at `place` of a loop, 0 to below 1: there and back, or value after value."""
        if number >= len(space.categorical):
            space.set_code(rows, number, -self.reach * math.cos(2 * math.pi * place))
            return
        values = space.categorical[number]
        before, part = divmod(place * values, 1)
        space.set_code(rows, number, before)
        # each value stays for two thirds of its time, then turns into the next one
        turned = max(0.0, 3 * part - 2)
        at = sum(space.categorical[:number])
        rows[:, at + int(before)] = 1 - turned
        rows[:, at + (int(before) + 1) % values] += turned


def traverse_grid(
    model: Model, out: str | Path, what: Traverse, advance: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Writes a PNG: a row for each code (and seed), its values from left to right. Returns its codes, rows, columns."""
    space, path = model.codes, Path(out)
    chosen = what.chosen(space)
    values = {number: what.values(space, number) for number in chosen}
    columns, rows = max(map(len, values.values())), len(chosen) * len(what.seeds)
    canvas = Grid(columns, rows, model.resolution, model.channels)
    make_folder(path.parent)
    side = model.resolution
    for number in chosen:
        for seed in what.seeds:
            latents = model.seed_latents([seed] * len(values[number]))
            for at, value in enumerate(values[number]):
                space.set_code(latents[at : at + 1, model.latent_size :], number, value)
            canvas.add(_pictures(model, latents, [seed] * len(latents)))
            canvas.add(np.zeros((columns - len(latents), side, side, model.channels), np.uint8))
            advance(1)
    about = {"traversed": {str(k): v for k, v in values.items()}, "seeds": list(what.seeds), **describe(model)}
    write_png(path, canvas.image, about)
    return {"file": str(path), "codes": chosen, "rows": rows, "columns": columns, "resolution": side}


def traverse_video(
    model: Model,
    out: str | Path,
    what: Traverse,
    seconds: float,
    fps: float,
    scale: int | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Writes a looping video: a row for each code, a column for each seed; every code passes through its values.

    Raises as `video.write_video`.
    """
    chosen = what.chosen(model.codes)
    kind = video_format(out)
    check_fps(kind, fps)
    count = max(2, round(seconds * fps))
    factor = scale or max(1, -(-SMALLEST_SIDE // model.resolution))
    width, height = (tiles * model.resolution * factor for tiles in (len(what.seeds), len(chosen)))
    check_size(kind, width, height)
    written = write_video(out, _frames(model, what, chosen, count, factor, advance), fps)
    return {
        "file": str(out), "codes": chosen, "frames": written, "width": width, "height": height, "fps": fps,
        "seconds": written / fps,
    }  # fmt: skip


def _frames(
    model: Model, what: Traverse, chosen: Sequence[int], count: int, factor: int, advance: Callable[[int], None]
) -> Iterator[NDArray[np.uint8]]:
    seeds = list(what.seeds) * len(chosen)
    base = model.seed_latents(seeds)
    for frame in range(count):
        latents = base.copy()
        for row, number in enumerate(chosen):
            own = latents[row * len(what.seeds) : (row + 1) * len(what.seeds), model.latent_size :]
            what.put_at(model.codes, own, number, frame / count)
        pictures = _pictures(model, latents, seeds)
        yield grid_image(enlarge(pictures, factor), len(what.seeds), len(chosen))
        advance(1)


def _pictures(model: Model, latents: Codes, seeds: Sequence[int]) -> NDArray[np.uint8]:
    """Pictures of latents, in batches that the memory takes; labels are the seeds' own."""
    labels, size = model.seed_labels(seeds), model.batch_size()
    parts = [
        model.pictures(latents[at : at + size], None if labels is None else labels[at : at + size])
        for at in range(0, len(latents), size)
    ]
    return np.concatenate(parts)
