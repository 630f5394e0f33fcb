"""Shows projections: a sheet of pictures beside what was found, and the frames of a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import RGBA, over
from pggan.editing.projection.picture_input import InputPicture
from pggan.editing.projection.project import Projection
from pggan.generation.grid import Grid, Images, enlarge, shrink
from pggan.generation.images import describe, make_folder, write_png
from pggan.generation.model import Model

# Factor by which the sheet enlarges the difference.
AMPLIFICATION = 4
# Sides of a frame, and frames, at most: they wait in memory for the encoder.
FRAME_SIDE, MOST_FRAMES = 256, 150


def projection_sheet(
    model: Model, out: str | Path, projections: Sequence[Projection], tuned: Images | None = None
) -> None:
    """Writes a PNG with a row for each picture: the picture, what was found, four times the difference.

    Args:
        model: The model.
        out: The PNG.
        projections: What was found.
        tuned: Images (N, H, W, C) of the tuned generator, which get a fourth column.
    """
    canvas = Grid(3 if tuned is None else 4, len(projections), model.resolution, model.channels)
    for row, projection in enumerate(projections):
        picture, image = projection.picture.image, projection.image
        canvas.add(np.stack([picture, image, _difference(picture, image)]))
        if tuned is not None:
            canvas.add(tuned[row : row + 1])
    make_folder(Path(out).parent)
    about = {"projections": [projection.to_json() for projection in projections], **describe(model)}
    write_png(Path(out), canvas.image, about)


def _difference(picture: NDArray[np.uint8], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the amplified difference (H, W, C), of transparent images opaque and as they look over white."""
    channels = picture.shape[-1]
    if channels == RGBA:
        picture, image = over(picture), over(image)
    difference = np.clip(np.abs(picture.astype(np.int16) - image) * AMPLIFICATION, 0, 255).astype(np.uint8)
    return np.pad(difference, ((0, 0), (0, 0), (0, channels - difference.shape[-1])), constant_values=255)


class SearchFrames:
    """Collects frames of a search: the picture beside the best image so far, for at most 150 of its steps."""

    def __init__(self, picture: InputPicture, steps: int, frames: list[Images]) -> None:
        self._picture, self.frames = picture.image, frames
        self._every = -(-steps // MOST_FRAMES)

    def __call__(self, step: int, image: Images) -> None:
        if step % self._every == 0:
            pair = np.stack([self._picture, image])
            side = pair.shape[1]
            sized = shrink(pair, max(1, side // FRAME_SIDE)) if side > FRAME_SIDE else enlarge(pair, FRAME_SIDE // side)
            self.frames.append(np.concatenate([*sized], axis=1))
