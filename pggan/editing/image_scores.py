"""Numbers of images that directions can be fitted to: brightness, hue, sharpness, of faces, D's score, a CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import over
from pggan.editing.faces.face_points import why_no_faces
from pggan.editing.faces.face_scores import FACE_SCORES, score_faces
from pggan.editing.latent_images import discriminator_scores
from pggan.editing.latents_file import LatentSet, check_small_file
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.grid import Images
from pggan.generation.model import Model
from pggan.utils.errors import DataError, UsageError
from pggan.utils.limits import MAX_LIST_BYTES
from pggan.utils.untrusted import reading

Scores = NDArray[np.float64]
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _luma(images: Images) -> Scores:
    """Returns luma (N, H, W), 0 to 255."""
    values = images.astype(np.float64)
    return np.asarray(values @ _LUMA if images.shape[-1] == 3 else values[..., 0])


def brightness(images: Images) -> Scores:
    """Returns the mean luma of images (N, H, W, C), 0 to 255."""
    return np.asarray(_luma(images).mean(axis=(1, 2)))


def contrast(images: Images) -> Scores:
    """Returns the standard deviation of luma, 0 to 127.5."""
    return np.asarray(_luma(images).std(axis=(1, 2)))


def sharpness(images: Images) -> Scores:
    """Returns the logarithm of the variance of luma's Laplacian, relative to the variance of luma."""
    luma = _luma(images)
    centre = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return np.asarray(np.log((around - 4 * centre).var(axis=(1, 2)) + 1e-3) - np.log(luma.var(axis=(1, 2)) + 1e-3))


def _chroma(images: Images) -> NDArray[np.complex128]:
    """Returns the mean colour of each image as a point (N,) in the hue circle; grey is 0."""
    if images.shape[-1] != 3:
        return np.zeros(len(images), np.complex128)
    red, green, blue = np.moveaxis(images.astype(np.float64), -1, 0)
    return np.asarray((red - (green + blue) / 2 + 1j * np.sqrt(0.75) * (green - blue)).mean(axis=(1, 2)))


def saturation(images: Images) -> Scores:
    """Returns how far the mean colour is from grey, 0 to 255."""
    return np.asarray(np.abs(_chroma(images)))


# Scores of images alone, by name. Hue is a circle, and is unrolled around the mean of all images.
IMAGE_SCORES: dict[str, Callable[[Images], Scores]] = {
    "brightness": brightness, "contrast": contrast, "saturation": saturation, "sharpness": sharpness,
}  # fmt: skip
HUE, DISCRIMINATOR = "hue", "score"
NAMES = (*IMAGE_SCORES, HUE, DISCRIMINATOR, *FACE_SCORES)


def score_images(model: Model, latents: LatentSet, names: tuple[str, ...], task: Task = UNWATCHED) -> dict[str, Scores]:
    """Returns scores (N,) by name of the images of latents; those of faces are NaN where an image shows none.

    Args:
        model: The model.
        latents: Its latents.
        names: Of `NAMES`.
        task: Counts images.

    Raises:
        UsageError: There is no such score, images are grey and the score is of colour, or `pggan[align]` is missing.
        ModelError: D's score of a file without a discriminator.
    """
    for name in names:
        if name not in NAMES:
            raise UsageError(f"there is no score {name!r}; choose of {', '.join(NAMES)}, or give a table with --csv")
    if model.channels == 1 and {HUE, "saturation"} & {*names}:
        raise UsageError("hue and saturation are of pictures in colour; leave them out for this model")
    of_faces = tuple(name for name in names if name in FACE_SCORES)
    if of_faces and (reason := why_no_faces()):
        raise UsageError(f"{', '.join(of_faces)}: {reason}")
    parts: dict[str, list[NDArray[np.number]]] = {name: [] for name in names if name != DISCRIMINATOR}
    for images in _batches(model, latents, task) if parts else ():
        faces = score_faces(images, of_faces) if of_faces else {}
        for name, values in parts.items():
            if name in faces:
                values.append(faces[name])
            else:
                values.append(_chroma(images) if name == HUE else IMAGE_SCORES[name](images))
    scores = {name: np.concatenate(values) for name, values in parts.items()}
    if HUE in scores:
        scores[HUE] = np.angle(scores[HUE] * np.conj(scores[HUE].sum()), deg=True)
    if DISCRIMINATOR in names:
        scores[DISCRIMINATOR] = discriminator_scores(model, latents, task)
    return {name: np.asarray(scores[name], np.float64) for name in names}


def _batches(model: Model, latents: LatentSet, task: Task) -> Iterator[Images]:
    size, taker = model.batch_size(), latents.taker(model)
    for start in range(0, len(latents), size):
        part = latents.select(range(start, min(start + size, len(latents))))
        yield over(taker.images(part.inputs, part.labels))
        task.advance(len(part))


def read_score_table(path: str | Path) -> tuple[list[int], Mapping[str, Scores]]:
    """Reads a CSV: a header `seed,NAME,...`, then a line for each seed.

    Returns the seeds, and the values (N,) of each column by its name.

    Raises `DataError` where it is missing, too large, or not such a table.
    """
    path = Path(path)
    check_small_file(path, MAX_LIST_BYTES)
    with reading(str(path), DataError, "a table begins with seed,NAME and has a number in every cell"):
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
        header, lines = [name.strip() for name in rows[0]], [row for row in rows[1:] if row]
        if header[0] != "seed" or len(header) < 2 or len(set(header)) < len(header) or not lines:
            raise ValueError(f"its header is {','.join(header)[:80]!r}")
        if any(len(row) != len(header) for row in lines):
            raise ValueError("a line has more or fewer cells than the header")
        seeds = [int(row[0]) for row in lines]
        columns = {name: np.array([float(row[i]) for row in lines]) for i, name in enumerate(header) if i}
        if any(not np.isfinite(values).all() for values in columns.values()):
            raise ValueError("a number in it is not finite")
    return seeds, columns
