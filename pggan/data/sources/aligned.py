"""Upright square face crops from landmarks, after Karras et al. 2018 ("Progressive Growing of GANs"), appendix C.

Coordinates are pixels of the image: x to the right, y down, integers at pixel centres. Landmarks refer to the image
as shown: readers apply the EXIF orientation before the crop.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFilter

from pggan.config.content.channels import bound_by_alpha
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source, WrappedSource
from pggan.data.sources.distinct_names import check_distinct, distinct
from pggan.data.sources.face_table import FaceTable, is_face_table
from pggan.data.sources.image_io import to_pil
from pggan.data.sources.landmarks import Landmarks, order_left_to_right
from pggan.data.sources.list_text import read_list
from pggan.utils.errors import DataError
from pggan.utils.untrusted import reading

NOTE = "aligned by landmarks"


# The paper only says that images were padded by reflection and the padding "dissolved" by a Gaussian blur; all numbers
# below are ours, in units of the crop's side. Each blur fades in between two distances from the image, so that no seam
# shows at its edge; farther out the median colour fades in, before reflections become recognisable.
_BLURS = ((0.01, 0.0, 0.03), (0.02, 0.03, 0.08), (0.04, 0.08, 0.16))  # (standard deviation, from, to)
_MEDIAN = (0.1, 0.4)  # (from, to)
# Also ours: a crop with a smaller share of the image shows no face any more. This also bounds the crop's side.
_MIN_INSIDE = 0.2
_MAX_COORDINATE = 1e7  # pixels


class CropSquare(NamedTuple):
    """An oriented square in an image."""

    centre: NDArray[np.float64]  # (x, y)
    x_axis: NDArray[np.float64]  # unit vector to the crop's right
    y_axis: NDArray[np.float64]  # unit vector down the crop
    side: float  # pixels of the image


def crop_square(points: ArrayLike) -> CropSquare:
    """Returns the square of appendix C for points (4, 2): left eye, right eye, left and right mouth corner.

    With y down, eyes to mouth (`down`) is the negative of the paper's y', and the quarter turn (x, y) -> (-y, x)
    maps "right" to "down". Raises `BadImage` if the points make no square.
    """
    coordinates = np.asarray(points, np.float64)
    if not (np.abs(coordinates) <= _MAX_COORDINATE).all():
        raise BadImage("landmarks are far outside any picture")
    e0, e1, m0, m1 = order_left_to_right(coordinates)
    across, down = e1 - e0, (m0 + m1) / 2 - (e0 + e1) / 2
    side = max(4.0 * math.hypot(*across), 3.6 * math.hypot(*down))
    if side < 1:
        raise BadImage("landmarks all lie on one spot")
    # not zero: after the ordering, `across` and the turned `down` are at most a right angle apart
    x_axis = across + np.array([down[1], -down[0]])
    x_axis /= math.hypot(*x_axis)
    return CropSquare((e0 + e1) / 2 + 0.1 * down, x_axis, np.array([-x_axis[1], x_axis[0]]), side)


def align_face(image: NDArray[np.uint8], points: ArrayLike, side: int) -> NDArray[np.uint8]:
    """Crops a face upright, to uint8 (side, side, C). Outside the image it is padded by a dissolved reflection.

    Time and memory depend on `side`, not on the size of the square in the image.

    Args:
        image: uint8 (H, W, C), C 1 or 3.
        points: Landmarks (4, 2), see `crop_square`.
        side: Of the crop, in pixels.

    Raises:
        BadImage: The points make no square, or one mostly outside the image.
    """
    square = crop_square(points)
    height, width, channels = image.shape
    share = float((_distance_outside(square, width, height, 64) == 0).mean())
    if share < _MIN_INSIDE:
        raise BadImage(f"only {share:.0%} of the crop lies in the picture; are the landmarks this picture's?")
    crop = resample_square(image, square, side).reshape(side, side, channels)
    distance = _distance_outside(square, width, height, side)
    return _dissolve(crop, distance) if distance.any() else crop


def _distance_outside(square: CropSquare, width: int, height: int, side: int) -> NDArray[np.float32]:
    """Returns each crop pixel's distance from the image (side, side), in sides of the square; 0 inside."""
    steps = ((np.arange(side) + 0.5) / side - 0.5) * square.side
    distances = []
    for axis, length in enumerate((width, height)):
        start = square.centre[axis] + 0.5
        at = start + steps * square.x_axis[axis] + (steps * square.y_axis[axis])[:, None]
        distances.append(np.maximum(np.maximum(-at, at - length), 0).astype(np.float32))
    return np.hypot(*distances) / np.float32(square.side)


def resample_square(image: NDArray[np.uint8], square: CropSquare, side: int) -> NDArray[np.uint8]:
    """Returns the square as (side, side, C) without aliasing; outside the image its reflection.

    The image is first reduced to twice the final resolution, then rotated onto a grid of up to twice the side, whose
    cells are averaged.
    """
    scale = min(1.0, 2 * side / square.side)
    half = square.side / 2 * (np.abs(square.x_axis) + np.abs(square.y_axis))
    centre = square.centre + 0.5
    near, far = centre - half, centre + half
    margin = 4 / scale  # reach of the filters
    columns, rows = (_visible(near[i] - margin, far[i] + margin, image.shape[1 - i]) for i in (0, 1))
    part = image[slice(*rows), slice(*columns)]
    start, extent = np.array([columns[0], rows[0]]), np.array(part.shape[1::-1])
    if scale < 1:
        small = np.maximum(1, np.rint(extent * scale)).astype(int)
        reduced = to_pil(part).resize((int(small[0]), int(small[1])), Image.Resampling.LANCZOS, reducing_gap=3.0)
        part = np.asarray(reduced).reshape(small[1], small[0], -1)
        scales = small / extent
    else:
        scales = np.ones(2)
    near, far = (near - start) * scales, (far - start) * scales
    first, last = np.floor(near).astype(int) - 3, np.ceil(far).astype(int) + 3
    for i in (0, 1):
        part = np.take(part, _reflected_indices(first[i], last[i], part.shape[1 - i]), axis=1 - i)
    fine = 2 if square.side > side else 1
    step = square.side / (fine * side)
    corner = (square.centre + 0.5 - (square.x_axis + square.y_axis) * square.side / 2 - start) * scales - first
    (a, d), (b, e) = square.x_axis * step * scales, square.y_axis * step * scales
    matrix = (a, b, corner[0], d, e, corner[1])
    size = (fine * side, fine * side)
    rotated = to_pil(part).transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.asarray(rotated.reduce(fine) if fine > 1 else rotated)


def _visible(near: float, far: float, length: int) -> tuple[int, int]:
    """Returns the range of 0..length that near..far shows, directly or reflected."""
    first, last = math.floor(near), math.ceil(far)
    return max(0, min(first, 2 * length - last)), min(length, max(last, -first))


def _reflected_indices(first: int, last: int, length: int) -> NDArray[np.int64]:
    """Maps first..last to 0..length, reflecting at both ends."""
    index = np.arange(first, last) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _dissolve(crop: NDArray[np.uint8], distance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blurs the pixels outside the image, and fades those far out to the median colour.

    `crop`: (side, side, C); `distance`: (side, side), of each pixel from the image, in sides of the crop.
    """
    outside = distance > 0
    outside_distance = distance[outside, None]
    median = np.median(crop[distance <= distance.min()], axis=0).astype(np.float32)
    pil_crop, mixed = to_pil(crop), crop[outside].astype(np.float32)
    for deviation, near, far in _BLURS:
        blur = ImageFilter.GaussianBlur(deviation * crop.shape[0])
        blurred = np.asarray(pil_crop.filter(blur)).reshape(crop.shape)[outside]
        mixed += (blurred - mixed) * _ramp(outside_distance, near, far)
    mixed += (median - mixed) * _ramp(outside_distance, *_MEDIAN)
    dissolved = crop.copy()
    dissolved[outside] = np.clip(np.rint(mixed), 0, 255)
    return dissolved


def _ramp(distance: NDArray[np.float32], near: float, far: float) -> NDArray[np.float32]:
    """Returns 0 up to `near`, 1 from `far` on, and a smooth step between."""
    part = np.clip((distance - near) / (far - near), 0, 1)
    return part * part * (3 - 2 * part)


def face_points(landmarks: Landmarks | FaceTable, name: str, number: int) -> NDArray[np.float64]:
    """Returns eyes and mouth corners (4, 2) of an image's face, from 0. Raises `BadImage` where it has none."""
    points = landmarks.points(name)
    if not points:
        raise landmarks.why_none(name)
    return points[number]


class AlignedReader(Reader):
    """Crops faces from another reader's images, to `resolution` or to the side of their square if that is smaller.

    A reference is `AlignedSource`'s: an image of the other reader, and which of its faces.
    """

    def __init__(self, inner: Reader, landmarks: Landmarks | FaceTable, resolution: int) -> None:
        self._inner, self._landmarks, self._resolution = inner, landmarks, resolution

    def _points(self, ref: Ref) -> NDArray[np.float64]:
        inner, number = ref.payload
        return face_points(self._landmarks, inner.name, number)

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        points = self._points(ref)
        side = min(self._resolution, self.size(ref)[0])
        decoded = self._inner.read(ref.payload[0], channels)
        image = bound_by_alpha(align_face(decoded.image, points, side))
        group = self._landmarks.group(ref.payload[0].name)
        return decoded._replace(image=image, notes=(*decoded.notes, NOTE), group=group)

    def size(self, ref: Ref) -> tuple[int, int]:
        side = round(crop_square(self._points(ref)).side)
        return side, side


def _read_landmarks(path: str, source: Source) -> Landmarks | FaceTable:
    """Reads a file of landmarks or faces, for a source's images where their names are known. Raises `DataError`."""
    table: Landmarks | FaceTable
    with reading(f"--align {path}", DataError, "mend it, or give another"):
        data = read_list(path)
        table = FaceTable.read(path, data) if is_face_table(data) else Landmarks.read(path, data)
    names = check_distinct(source)
    return table if names is None else table.matched(names, getattr(source, "path", ""))


class AlignedSource(WrappedSource):
    """Another source's images as aligned faces: one for every face of the table that is used.

    An image without one stays, so that the preparation counts it and says why.

    Args:
        inner: The images.
        landmarks: A file of landmarks or faces, or a table of faces. Raises `DataError` for an invalid file.
    """

    def __init__(self, inner: Source, landmarks: str | FaceTable | Landmarks) -> None:
        super().__init__(inner)
        if isinstance(landmarks, str):
            landmarks = _read_landmarks(landmarks, inner)
        self.landmarks: Landmarks | FaceTable = landmarks
        self.selection = ""  # how `without` chose

    def __len__(self) -> int:
        return len(self.inner) + self.landmarks.more

    def points(self, ref: Ref) -> NDArray[np.float64]:
        """Returns eyes and mouth corners (4, 2) of a face. Raises `BadImage` where its image has none."""
        inner, number = ref.payload
        return face_points(self.landmarks, inner.name, number)

    def without(self, faces: Collection[tuple[str, int]], reason: str, selection: str) -> AlignedSource:
        """Returns the source without some faces.

        Args:
            faces: Names of images, and which of their faces, from 0.
            reason: Why, by which they are counted.
            selection: How they were chosen, for people.
        """
        smaller = AlignedSource(self.inner, self.landmarks.without(faces, reason))
        smaller.selection = selection
        smaller.remark = "; ".join(filter(None, (self.remark, selection)))
        return smaller

    def refs(self) -> Iterator[Ref]:
        for ref in distinct(self.inner.refs()):
            for number in range(max(1, len(self.landmarks.points(ref.name)))):
                yield Ref(f"{ref.name}#{number + 1}" if number else ref.name, (ref, number))

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return (Ref(ref.name, (ref, 0)) for ref in self.inner.sample(count, min(among, len(self.inner))))

    def reader(self, resolution: int, seed: int) -> Reader:
        return AlignedReader(self.inner.reader(resolution, seed), self.landmarks, resolution)
