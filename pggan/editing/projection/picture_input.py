"""Reads pictures of people's own as a model takes them: square, at its resolution, in its channels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pggan.config.content.channels import bound_by_alpha
from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import read_image, to_pil
from pggan.editing.faces.face_points import all_face_points, corners
from pggan.editing.faces.face_template import cut_face, face_template
from pggan.editing.latents_file import check_small_file
from pggan.generation.grid import Images
from pggan.generation.model import Model
from pggan.utils.errors import DataError, UsageError
from pggan.utils.limits import MAX_FILE_BYTES


@dataclass(frozen=True)
class InputPicture:
    """A picture (R, R, C) as a model takes it."""

    name: str  # of the file
    image: Images
    faces: int | None = None  # found in the file, of which the largest was cut out; None: not looked for


ALIGN = ("none", "auto")


def read_picture(path: str | Path, model: Model, align: str = "none") -> InputPicture:
    """Reads an image file as a model takes it, at the model's resolution.

    Args:
        path: The file.
        model: The model.
        align: "auto": cut the largest face out, as the model frames its own faces. "none": cut the largest square in
            the middle out.

    Raises:
        DataError: It is missing, too large, no image, or shows no face.
        UsageError: There is no such alignment, or `pggan[align]` is missing.
    """
    path = Path(path)
    if align not in ALIGN:
        raise UsageError(f"unknown alignment {align!r}; choose one of: {', '.join(ALIGN)}")
    check_small_file(path, MAX_FILE_BYTES, "a picture")
    try:
        image, _ = read_image(path.read_bytes(), model.channels)
    except BadImage as error:
        raise DataError(f"{path} cannot be read as a picture ({error}); convert it to PNG") from None
    if align == "none":
        return InputPicture(path.name, fit_square(image, model.resolution))
    if not (faces := all_face_points(image)):
        raise DataError(f"{path} shows no face that can be found; cut it out yourself, and leave --align out")
    try:
        face = cut_face(image, corners(faces[0]), face_template(model), model.resolution)
    except BadImage as error:
        raise DataError(f"{path}: {error}; cut the face out yourself, and leave --align out") from None
    return InputPicture(path.name, face, len(faces))


def fit_square(image: Images, side: int) -> Images:
    """Cuts the largest square out of the middle of an image (H, W, C), resized to `side` pixels (Lanczos)."""
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = image[top : top + edge, left : left + edge]
    if edge == side:
        return square
    resized: Images = np.asarray(to_pil(square).resize((side, side), Image.Resampling.LANCZOS))
    return bound_by_alpha(resized.reshape(side, side, image.shape[2]))


def image_tensor(image: Images, model: Model) -> Tensor:
    """Returns an 8-bit image (H, W, C) as the generator makes it: (C, H, W) in [-1, 1], on the model's device."""
    values = torch.from_numpy(np.array(image)).to(model.device).float()
    return values.permute(2, 0, 1) / 127.5 - 1


def read_mask(path: str | Path, model: Model) -> NDArray[np.float32]:
    """Reads a picture as a mask (R, R): 0 where it is black, 1 where it is white. Errors are `read_picture`'s."""
    path = Path(path)
    check_small_file(path, MAX_FILE_BYTES, "a picture")
    try:
        image, _ = read_image(path.read_bytes(), 1)
    except BadImage as error:
        raise DataError(f"{path} cannot be read as a mask ({error}); give left, right, top, bottom, middle") from None
    return np.asarray(fit_square(image, model.resolution)[..., 0] / 255, np.float32)
