"""Upright square face crops from landmarks, after Karras et al. 2018 ("Progressive Growing of GANs"), appendix C.

Coordinates are the picture's: x to the right, y down, a whole number the centre of a pixel. Landmarks are those of the
picture as it is shown: readers turn pictures by their EXIF orientation before anything is cropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFilter

from pggan.data.label_columns import LabelColumn
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.landmarks import Landmarks, order_left_to_right

NOTE = "aligned by landmarks"


# The paper only says that pictures were padded by reflection and the padding "dissolved" by a Gaussian blur; all the
# numbers below are ours, in units of the crop's side. A stronger blur fades in between each pair of distances from
# the picture, so that no seam shows at its edge; then comes the median colour, before reflections tell.
_BLURS = ((0.01, 0.0, 0.03), (0.02, 0.03, 0.08), (0.04, 0.08, 0.16))  # (standard deviation, from, to)
_MEDIAN = (0.1, 0.4)
# Ours too: a crop that shows less of its picture than this is no face any more. It also bounds the crop's side.
_MIN_INSIDE = 0.2
_FARTHEST = 1e7  # pixels


class CropSquare(NamedTuple):
    """`x_axis` points to the crop's right, `y_axis` down it (unit vectors); `side` in pixels of the picture."""

    centre: NDArray[np.float64]
    x_axis: NDArray[np.float64]
    y_axis: NDArray[np.float64]
    side: float


def crop_square(points: ArrayLike) -> CropSquare:
    """The oriented square of appendix C for points (4, 2): left eye, right eye, left and right mouth corner.

    With y down, eyes to mouth (`down`) is the negative of the paper's y', and our quarter turn (x, y) -> (-y, x)
    takes "right" to "down". Raises `BadImage` where the points make no square.
    """
    ordered = np.asarray(points, np.float64)
    if not (np.abs(ordered) <= _FARTHEST).all():
        raise BadImage("landmarks are far outside any picture")
    e0, e1, m0, m1 = order_left_to_right(ordered)
    across, down = e1 - e0, (m0 + m1) / 2 - (e0 + e1) / 2
    side = max(4.0 * math.hypot(*across), 3.6 * math.hypot(*down))
    if side < 1:
        raise BadImage("landmarks all lie on one spot")
    # never nought: in order, `across` and the turned `down` are no more than a right angle apart
    x_axis = across + np.array([down[1], -down[0]])
    x_axis /= math.hypot(*x_axis)
    return CropSquare((e0 + e1) / 2 + 0.1 * down, x_axis, np.array([-x_axis[1], x_axis[0]]), side)


def align_face(image: NDArray[np.uint8], points: ArrayLike, side: int) -> NDArray[np.uint8]:
    """The face of `points` (4, 2) upright: uint8 (side, side, C) out of a picture uint8 (H, W, C), C 1 or 3.

    What lies outside the picture is its reflection, dissolved. Work and memory beside the picture's own go by `side`.
    Raises `BadImage` where the points make no square, or one that lies mostly outside.
    """
    square = crop_square(points)
    height, width, channels = image.shape
    share = float((_outside(square, width, height, 64) == 0).mean())
    if share < _MIN_INSIDE:
        raise BadImage(f"only {share:.0%} of the crop lies in the picture; are the landmarks this picture's?")
    crop = _resampled(image, square, side).reshape(side, side, channels)
    distance = _outside(square, width, height, side)
    return _dissolved(crop, distance) if distance.any() else crop


def _outside(square: CropSquare, width: int, height: int, side: int) -> NDArray[np.float32]:
    """How far each pixel of a crop (side, side) is from the picture, in sides of the square; 0 inside."""
    steps = ((np.arange(side) + 0.5) / side - 0.5) * square.side
    distances = []
    for axis, length in enumerate((width, height)):
        start = square.centre[axis] + 0.5
        at = start + steps * square.x_axis[axis] + (steps * square.y_axis[axis])[:, None]
        distances.append(np.maximum(np.maximum(-at, at - length), 0).astype(np.float32))
    return np.hypot(*distances) / np.float32(square.side)


def _resampled(image: NDArray[np.uint8], square: CropSquare, side: int) -> NDArray[np.uint8]:
    """The square at the wanted side, without aliasing: the picture is first reduced to twice the resolution, then
    turned on a grid of up to twice the side whose cells are averaged."""
    scale = min(1.0, 2 * side / square.side)
    half = square.side / 2 * (np.abs(square.x_axis) + np.abs(square.y_axis))
    centre = square.centre + 0.5
    near, far = centre - half, centre + half
    margin = 4 / scale  # for the filters
    columns, rows = (_span(near[i] - margin, far[i] + margin, image.shape[1 - i]) for i in (0, 1))
    part = image[slice(*rows), slice(*columns)]
    start, extent = np.array([columns[0], rows[0]]), np.array(part.shape[1::-1])
    if scale < 1:
        small = np.maximum(1, np.rint(extent * scale)).astype(int)
        picture = _picture(part).resize((int(small[0]), int(small[1])), Image.Resampling.LANCZOS, reducing_gap=3.0)
        part = np.asarray(picture).reshape(small[1], small[0], -1)
        scales = small / extent
    else:
        scales = np.ones(2)
    near, far = (near - start) * scales, (far - start) * scales
    first, last = np.floor(near).astype(int) - 3, np.ceil(far).astype(int) + 3
    for i in (0, 1):
        part = np.take(part, _reflected(first[i], last[i], part.shape[1 - i]), axis=1 - i)
    fine = 2 if square.side > side else 1
    step = square.side / (fine * side)
    corner = (square.centre + 0.5 - (square.x_axis + square.y_axis) * square.side / 2 - start) * scales - first
    (a, d), (b, e) = square.x_axis * step * scales, square.y_axis * step * scales
    matrix = (a, b, corner[0], d, e, corner[1])
    size = (fine * side, fine * side)
    turned = _picture(part).transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.asarray(turned.reduce(fine) if fine > 1 else turned)


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))


def _span(near: float, far: float, length: int) -> tuple[int, int]:
    """The stretch of 0..length that near..far shows, as it is or reflected."""
    first, last = math.floor(near), math.ceil(far)
    return max(0, min(first, 2 * length - last)), min(length, max(last, -first))


def _reflected(first: int, last: int, length: int) -> NDArray[np.int64]:
    """Where first..last lie in 0..length with both ends for mirrors."""
    index = np.arange(first, last) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _dissolved(crop: NDArray[np.uint8], distance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The crop (side, side, C) with what is `distance` outside the picture blurred and, far out, of one colour."""
    outside = distance > 0
    far_off = distance[outside, None]
    median = np.median(crop[distance <= distance.min()], axis=0).astype(np.float32)
    picture, mixed = _picture(crop), crop[outside].astype(np.float32)
    for deviation, near, far in _BLURS:
        blur = ImageFilter.GaussianBlur(deviation * crop.shape[0])
        blurred = np.asarray(picture.filter(blur)).reshape(crop.shape)[outside]
        mixed += (blurred - mixed) * _ramp(far_off, near, far)
    mixed += (median - mixed) * _ramp(far_off, *_MEDIAN)
    dissolved = crop.copy()
    dissolved[outside] = np.clip(np.rint(mixed), 0, 255)
    return dissolved


def _ramp(distance: NDArray[np.float32], near: float, far: float) -> NDArray[np.float32]:
    """0 up to `near`, 1 from `far` on, smooth between."""
    part = np.clip((distance - near) / (far - near), 0, 1)
    return part * part * (3 - 2 * part)


class AlignedReader(Reader):
    """Faces out of another reader's pictures, which that reader has turned upright by EXIF: landmarks are of these.

    A crop has the wanted resolution, or the side of its square in the picture where that is smaller.
    """

    def __init__(self, inner: Reader, landmarks: Landmarks, resolution: int) -> None:
        self._inner, self._landmarks, self._resolution = inner, landmarks, resolution

    def _points(self, ref: Ref) -> NDArray[np.float64]:
        points = self._landmarks.get(ref.name)
        if points is None:
            raise BadImage("no landmarks of it in the file")
        return points

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        points = self._points(ref)
        side = min(self._resolution, self.size(ref)[0])
        picture = self._inner.read(ref, channels)
        return picture._replace(image=align_face(picture.image, points, side), notes=(*picture.notes, NOTE))

    def size(self, ref: Ref) -> tuple[int, int]:
        side = round(crop_square(self._points(ref)).side)
        return side, side


class AlignedSource(Source):
    """Another source's pictures as aligned faces, by a file of landmarks. Raises `DataError`."""

    def __init__(self, inner: Source, path_of_landmarks: str) -> None:
        self._inner, self._landmarks = inner, Landmarks.read(path_of_landmarks)

    @staticmethod
    def sniff(spec: str) -> bool:
        return False

    def __len__(self) -> int:
        return len(self._inner)

    def refs(self) -> Iterable[Ref]:
        return self._inner.refs()

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return self._inner.sample(count, among)

    def reader(self, resolution: int, seed: int) -> Reader:
        return AlignedReader(self._inner.reader(resolution, seed), self._landmarks, resolution)

    @property
    def label_columns(self) -> tuple[LabelColumn, ...]:
        return self._inner.label_columns

    @property
    def attribution(self) -> str | None:
        return self._inner.attribution
