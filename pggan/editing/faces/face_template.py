"""Cuts faces out of photographs as a model frames its own: its pictures tell where eyes and mouth belong."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.aligned import align_face
from pggan.data.sources.landmarks import order_left_to_right
from pggan.editing.faces.face_points import Points, corners, face_points
from pggan.generation.grid import Images
from pggan.generation.model import Model

# Seeds whose faces are looked at, and the share of them that has to show one.
SEEDS, LEAST_SHARE = 24, 0.5
# Eyes and mouth corners whose square by `crop_square` is the whole picture, in sides of it.
_WHOLE = np.array([[0.375, 0.475], [0.625, 0.475], [0.4, 0.725], [0.6, 0.725]])
_TEMPLATES: WeakKeyDictionary[Model, Points | None] = WeakKeyDictionary()


def face_template(model: Model) -> Points | None:
    """Returns where a model's faces have eyes and mouth corners (4, 2), in sides of the picture: medians over seeds.

    None where most of its pictures show no face that can be found; computed once for a model in memory.

    Raises `UsageError` where the extra is missing.
    """
    if model not in _TEMPLATES:
        found = [face_points(image) for image in model.seed_images(range(SEEDS))]
        faces = [(corners(points) + 0.5) / model.resolution for points in found if points is not None]
        _TEMPLATES[model] = np.median(faces, axis=0) if len(faces) >= LEAST_SHARE * SEEDS else None
    return _TEMPLATES[model]


def cut_face(picture: Images, points: NDArray[np.float64], template: Points | None, side: int) -> Images:
    """Cuts a face out upright, (side, side, C).

    Args:
        picture: The photograph (H, W, C).
        points: Its eyes and mouth corners (4, 2).
        template: Where they belong, see `face_template`; None: as Karras et al. 2018 cut CelebA's.
        side: Of the result, in pixels.

    Raises:
        BadImage: The points make no square, or one mostly outside the picture.
    """
    return align_face(picture, points if template is None else _moved(points, template), side)


def _moved(points: NDArray[np.float64], template: Points) -> Points:
    """Returns points that `align_face` makes the square of in which the given ones lie nearest to the template."""
    ordered = np.array(order_left_to_right(np.asarray(points, np.float64)))
    a, b = template[:, 0] + 1j * template[:, 1], ordered[:, 0] + 1j * ordered[:, 1]
    a_mean, b_mean = a.mean(), b.mean()
    turn = (np.conj(a - a_mean) @ (b - b_mean)) / (np.conj(a - a_mean) @ (a - a_mean))  # least squares: scale and angle
    whole = turn * (_WHOLE[:, 0] + 1j * _WHOLE[:, 1] - a_mean) + b_mean
    return np.stack([whole.real, whole.imag], axis=1)
