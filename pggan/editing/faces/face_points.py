"""Landmarks of the largest face in a picture, by the detector of the extra `pggan[align]`."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pggan.config.content.channels import over
from pggan.data.sources.image_io import to_pil
from pggan.generation.grid import Images
from pggan.utils.errors import UsageError

# Smaller pictures are enlarged to this side: the detector knows faces of some size only.
LEAST_SIDE = 256
EXTRA = "faces are found by the extra align: pip install 'pggan[align]'"

# (5, 2): eyes, nose, corners of the mouth, left ones first as seen; pixels, integers at pixel centres
Points = NDArray[np.float64]


@cache
def _detector() -> Any:
    try:
        return importlib.import_module("pggan.data.photos.face_detection").FaceDetector()
    except ImportError:
        raise UsageError(EXTRA) from None


def why_no_faces() -> str:
    """Returns why no faces can be found here; empty: they can."""
    try:
        _detector()
    except UsageError:
        return EXTRA
    return ""


def all_face_points(picture: Images) -> list[Points]:
    """Returns the landmarks of every face of a picture (H, W, C), the largest face first.

    Raises `UsageError` where the extra is missing.
    """
    picture = over(picture)  # RGBA over white
    height, width = picture.shape[:2]
    factor = max(1.0, LEAST_SIDE / min(height, width))
    if factor > 1:
        size = round(factor * width), round(factor * height)
        enlarged = np.asarray(to_pil(picture).resize(size, Image.Resampling.BICUBIC))
        picture = enlarged.reshape(size[1], size[0], -1)
    scale = np.array([width / picture.shape[1], height / picture.shape[0]])
    return [(np.asarray(face.landmarks, np.float64) + 0.5) * scale - 0.5 for face in _detector().faces(picture)]


def face_points(picture: Images) -> Points | None:
    """Returns the landmarks (5, 2) of the largest face of a picture (H, W, C), None where there is none.

    Raises `UsageError` where the extra is missing.
    """
    return next(iter(all_face_points(picture)), None)


def corners(points: Points) -> Points:
    """Returns eyes and corners of the mouth (4, 2), as `align_face` takes them."""
    return points[[0, 1, 3, 4]]
