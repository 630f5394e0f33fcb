"""Scores of faces by their landmarks: how far they are turned and tilted, how they smile, how open their eyes are."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pggan.data.sources.image_io import to_pil
from pggan.editing.faces.face_points import Points, face_points
from pggan.generation.grid import Images

# Cut of an eye: its sides in distances between the eyes, and its pixels.
EYE_WIDE, EYE_HIGH, EYE_PIXELS = 0.5, 0.4, (40, 32)


def yaw(points: Points, image: Images) -> float:
    """Returns how far the nose is to the right of the line from between the eyes to the mouth, in eye distances."""
    return float(_upright(points)[2, 0])


def roll(points: Points, image: Images) -> float:
    """Returns the tilt of the line through the eyes in degrees, clockwise."""
    across = points[1] - points[0]
    return math.degrees(math.atan2(across[1], across[0]))


def smile(points: Points, image: Images) -> float:
    """Returns the width of the mouth in distances between the eyes."""
    upright = _upright(points)
    return float(upright[4, 0] - upright[3, 0])


def eyes(points: Points, image: Images) -> float:
    """Returns how high what is dark within the eyes is: the standard deviation of its rows, in eye distances.

    A closed eye is a thin line. The mean of both eyes.
    """
    return float(np.mean([_opening(points, at, image) for at in (0, 1)]))


# A score of an image (H, W, C) by its landmarks, by name.
FACE_SCORES: dict[str, Callable[[Points, Images], float]] = {"yaw": yaw, "roll": roll, "smile": smile, "eyes": eyes}


def score_faces(images: Images, names: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """Returns scores (N,) by name of images (N, H, W, C), NaN where an image shows no face.

    Raises `UsageError` where the extra `pggan[align]` is missing.
    """
    rows = []
    for image in images:
        points = face_points(image)
        rows.append([math.nan if points is None else FACE_SCORES[name](points, image) for name in names])
    return {name: np.array([row[at] for row in rows]) for at, name in enumerate(names)}


def _upright(points: Points) -> Points:
    """Returns landmarks with the eyes level, about the line between eyes and mouth, in distances between the eyes.

    x is the distance from that line, so that a face which is only tilted or shifted has the same.
    """
    middle, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    distance = max(math.hypot(*(points[1] - points[0])), 1e-9)
    down = (mouth - middle) / max(math.hypot(*(mouth - middle)), 1e-9)
    across = np.array([down[1], -down[0]])
    return np.stack([(points - middle) @ across, (points - middle) @ down], axis=1) / distance


def _opening(points: Points, at: int, image: Images) -> float:
    distance = math.hypot(*(points[1] - points[0]))
    (c, s), (x, y) = (points[1] - points[0]) / max(distance, 1e-9), points[at] + 0.5
    wide, high = EYE_WIDE * distance / EYE_PIXELS[0], EYE_HIGH * distance / EYE_PIXELS[1]
    left, top = -EYE_PIXELS[0] / 2, -EYE_PIXELS[1] / 2
    matrix = (
        c * wide, -s * high, x + c * wide * left - s * high * top,
        s * wide, c * high, y + s * wide * left + c * high * top,
    )  # fmt: skip
    cut = to_pil(image).convert("L").transform(EYE_PIXELS, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    values = np.asarray(cut, np.float64)
    dark = np.maximum(np.quantile(values, 0.6) - values, 0).sum(axis=1)
    rows = (np.arange(EYE_PIXELS[1]) + 0.5) * EYE_HIGH / EYE_PIXELS[1]
    if not dark.any():
        return 0.0
    middle = (rows @ dark) / dark.sum()
    return float(np.sqrt(((rows - middle) ** 2 @ dark) / dark.sum()))
