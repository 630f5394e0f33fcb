"""Writes the images of latents as PNG files whose metadata makes them again, if wanted sorted by D's score."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.editing.latent_sources import latent_entry
from pggan.editing.latents_file import LatentSet
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.grid import Grid
from pggan.generation.images import (
    NamedImage,
    describe,
    make_folder,
    read_metadata,
    write_all,
    write_png,
    writers,
)
from pggan.generation.model import Model
from pggan.utils.errors import DataError, UsageError

MOST_NAME_CHARACTERS = 80


@dataclass(frozen=True)
class LatentImages:
    """What `write_latent_images` wrote."""

    names: list[str]  # of the files, in the order of the grid
    latents: LatentSet  # the latents of those images
    scores: list[float] | None  # D's, of those images
    rejected: int  # images that were left out
    grid: Path | None


def write_latent_images(
    model: Model,
    latents: LatentSet,
    out: str | Path,
    *,
    grid: tuple[int, int] | None = None,
    images: bool = True,
    sort: bool = False,
    reject: float = 0.0,
    batch: int | None = None,
    suffix: str = "",
    task: Task = UNWATCHED,
) -> LatentImages:
    """Writes the images of latents as PNGs, and a grid of the first ones.

    Args:
        model: The model.
        latents: Its latents.
        out: Folder of the files, made if it is missing.
        grid: Columns and rows; None: no grid.
        images: False: the grid alone.
        sort: Best score by the model's discriminator first.
        reject: Share of the images, 0 to below 1, that is left out: those with the lowest scores.
        batch: Images computed at once; None: what fits the memory.
        suffix: Of the grid's name.
        task: Counts images.

    Raises:
        UsageError: Sizes do not fit, a share is out of range, or a file in `out` that is no image of pggan has the name
            of one of the latents.
        ModelError: The file keeps no discriminator, and scores are needed.
        OSError: `out` cannot be written.
    """
    total, size = len(latents), batch or model.batch_size()
    latents, scores = _chosen(model, latents, sort, reject, size, task)
    names = file_names(latents)
    canvas = Grid(*grid, model.resolution, model.channels) if grid is not None else None
    folder = Path(out)
    make_folder(folder)
    _check_names(folder, names if images else [], latents)
    about = describe(model) | ({"rejected_share": reject} if reject else {})
    stream = _named_images(model, latents, names, scores, about, canvas, size, task)
    if images:
        write_all(folder, stream, writers(model))
    else:
        cells = None if canvas is None else canvas.columns * canvas.rows
        deque(islice(stream, cells), maxlen=0)  # fills the grid
    path = None if canvas is None else _write_grid(folder / f"grid{suffix}.png", canvas, latents, about)
    listed = None if scores is None else [float(score) for score in scores]
    return LatentImages(names if images else [], latents, listed, total - len(latents), path)


def _write_grid(path: Path, canvas: Grid, latents: LatentSet, about: dict[str, Any]) -> Path:
    shown = {"names": list(latents.names[: canvas.filled]), "grid": f"{canvas.columns}x{canvas.rows}"}
    write_png(path, canvas.image, {**shown, **about})
    return path


def _chosen(
    model: Model, latents: LatentSet, sort: bool, reject: float, size: int, task: Task
) -> tuple[LatentSet, NDArray[np.float64] | None]:
    """Returns the latents that stay, in the order wanted, and their scores; None where none are needed."""
    if not 0 <= reject < 1:
        raise UsageError(f"a share of {reject:g} to leave out is not from 0 to below 1")
    if not (sort or reject):
        return latents, None
    scores = discriminator_scores(model, latents, task, size)
    rows = chosen_rows(scores, sort, reject)
    return latents.select(rows), scores[rows]


def remaining(count: int, reject: float) -> int:
    """Returns how many of `count` images stay after the share `reject` is left out."""
    return count - math.floor(reject * count + 1e-9)  # 0.29 * 100 is a bit less than 29


def chosen_rows(scores: NDArray[np.float64], sort: bool, reject: float) -> list[int]:
    """Returns the rows that stay after the share `reject` with the lowest scores is left out, best first if `sort`."""
    order = np.argsort(-scores, kind="stable")
    best = order[: remaining(len(scores), reject)]
    return [int(row) for row in (best if sort else np.sort(best))]


def discriminator_scores(
    model: Model, latents: LatentSet, task: Task = UNWATCHED, batch: int | None = None
) -> NDArray[np.float64]:
    """Returns D's score of the image of each latent, (N,). Each is judged alone; `batch` of them are made at once.

    So a score does not depend on the other images, as it would by the minibatch statistic.

    Raises `ModelError` where the file keeps no discriminator.
    """
    size, scores, taker = batch or model.batch_size(), [], latents.taker(model)
    for start in range(0, len(latents), size):
        task.check()
        part = latents.select(range(start, min(start + size, len(latents))))
        images = taker.synthesize(part.inputs, part.labels)
        scores += [float(model.discriminator(image[None]).score[0]) for image in images]
    return np.asarray(scores)


def file_names(latents: LatentSet) -> list[str]:
    """Returns a file name for each latent, from its name: letters, digits, dots and dashes; no two alike."""
    names: list[str] = []
    used: set[str] = set()
    for row, name in enumerate(latents.names):
        plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[:MOST_NAME_CHARACTERS] or f"latent{row:05d}"
        while plain.lower() in used or plain.lower() == "grid":  # some file systems do not tell capitals
            plain = f"{plain}-{row:05d}"
        used.add(plain.lower())
        names.append(f"{plain}.png")
    return names


def _check_names(folder: Path, names: list[str], latents: LatentSet) -> None:
    """Raises `UsageError` where an image named after a picture would replace a file that pggan did not make."""
    for name, origin in zip(names, latents.origins):
        if "seed" in origin or not (folder / name).exists():
            continue
        try:
            read_metadata(folder / name)
        except DataError:
            raise UsageError(
                f"{folder / name} is no picture of pggan's, and would be replaced; give another --out"
            ) from None


def _named_images(
    model: Model,
    latents: LatentSet,
    names: list[str],
    scores: NDArray[np.float64] | None,
    about: dict[str, Any],
    canvas: Grid | None,
    size: int,
    task: Task,
) -> Iterator[NamedImage]:
    taker = latents.taker(model)
    for start in range(0, len(latents), size):
        rows = range(start, min(start + size, len(latents)))
        part = latents.select(rows)
        images = taker.images(part.inputs, part.labels)
        task.advance(len(images))
        if canvas is not None:
            canvas.add(images)
        for image, row in zip(images, rows):
            score = {} if scores is None else {"score": round(float(scores[row]), 6)}
            yield NamedImage(names[row], image, {**_about_latent(model, latents, row), **score, **about})


def _about_latent(model: Model, latents: LatentSet, row: int) -> dict[str, Any]:
    """Returns the metadata that makes one image again."""
    entry = latent_entry(latents, row)
    if entry:
        return entry
    codes = {} if latents.codes is None else {"codes": model.codes.describe(latents.codes[row])}
    classes = None
    if latents.labels is not None:
        classes = model.labels.describe(model.labels.row_of(latents.labels[row]))
    return {"seed": latents.origins[row]["seed"], "class": classes, **codes}
