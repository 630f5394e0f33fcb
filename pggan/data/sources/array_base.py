"""Base of the sources whose images are arrays, known by number instead of file name; and their arrays of labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import KINDS, RGBA
from pggan.data.label_columns import MAX_CLASSES, NO_YES, LabelColumn, has_numbers, order_classes
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.file_base import explain_damage
from pggan.data.sources.image_io import convert_channels
from pggan.data.sources.npy_format import read_file
from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_LIST_BYTES, MAX_PIXELS

CHANNELS = tuple(KINDS)
EXPECTED_ARRAY = "pictures are uint8 from 0 to 255: (N, H, W, C), (N, C, H, W) or (N, H, W)"
# Largest class number; most bytes of an array of labels, and of the class numbers that it becomes (4 bytes each).
_MAX_CLASS_NUMBER, MAX_LABEL_BYTES = 100_000, MAX_LIST_BYTES
# Label columns, and class numbers (N, columns) or None.
Labels = tuple[tuple[LabelColumn, ...], NDArray[np.int32] | None]
NO_LABELS: Labels = ((), None)


class ArrayReader(Reader):
    """Reads images that are arrays. A reference's payload: (content, labels); the content is the array itself."""

    def image(self, content: Any) -> NDArray[np.uint8]:
        """Returns an image (H, W, C). Raises `BadImage`."""
        return channels_last(content)

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        content, labels = ref.payload
        image = self.image(content)
        # a copy of what is shared with others: a view of a whole file
        image = image if image.flags.writeable else image.copy()
        return DecodedImage(*convert_channels(image, channels), labels)

    def size(self, ref: Ref) -> tuple[int, int]:
        height, width = self.image(ref.payload[0]).shape[:2]
        return width, height


class IndexedReader(ArrayReader):
    """Reads images by number, all of `image_size` (width, height). A reference's payload: (number, labels)."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        self.image_size = image_size

    def size(self, ref: Ref) -> tuple[int, int]:
        return self.image_size


class IndexedSource(Source):
    """Images 0 to count - 1.

    Args:
        count: Number of images.
        columns: Label columns.
        classes: Class numbers (N, columns), or None.
        channels: Of all images' arrays, 1, 3 or 4; None if they differ or it is unknown.
    """

    def __init__(
        self,
        count: int,
        columns: tuple[LabelColumn, ...] = (),
        classes: NDArray[Any] | None = None,
        channels: int | None = None,
    ) -> None:
        self._count, self.label_columns, self._classes = count, columns, classes
        self.transparent = channels == RGBA
        self.channels = 3 if self.transparent else channels

    def __len__(self) -> int:
        return self._count

    def refs(self) -> Iterable[Ref]:
        return (Ref(f"picture {i}", (i, self.classes(i))) for i in range(self._count))

    def classes(self, index: int) -> tuple[int, ...]:
        """Returns an image's class numbers."""
        return () if self._classes is None else tuple(map(int, self._classes[index]))


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Returns height, width and channels of an array of one image; None if it is none or above MAX_PIXELS."""
    if len(shape) == 2:
        height, width, channels = shape[0], shape[1], 1
    elif len(shape) == 3 and _channels_first(shape):
        channels, height, width = shape
    elif len(shape) == 3 and shape[2] in CHANNELS:
        height, width, channels = shape
    else:
        return None
    return (height, width, channels) if 0 < height * width <= MAX_PIXELS else None


def stacked_image_shape(shape: tuple[int, ...], dtype: Any) -> tuple[int, int, int] | None:
    """Returns height, width and channels of the images in an array of many, None if it is none."""
    if dtype != np.uint8 or len(shape) not in (3, 4) or not shape[0]:
        return None
    one_in_colour = len(shape) == 3 and (shape[0] in CHANNELS[1:] or shape[2] in CHANNELS)
    return None if one_in_colour else image_shape(shape[1:])


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the first axis is the channels.

    If both ends could be, it is the first, unless only channels last makes a square image.
    """
    if shape[0] in CHANNELS and shape[2] in CHANNELS:
        return shape[1] == shape[2] or shape[0] != shape[1]
    return shape[0] in CHANNELS


def channels_last(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns one image as (H, W, C), from (H, W), (C, H, W), (H, W, C) or a batch of one of these.

    The channels are the axis of length 1, 3 or 4. Raises `BadImage` for other arrays.
    """
    if array.dtype != np.uint8:
        raise BadImage(f"an array of {str(array.dtype)[:40]}; pictures are uint8 from 0 to 255")
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if image_shape(array.shape) is None:
        raise BadImage(f"an array of shape {array.shape}, which is no picture")
    if array.ndim == 2:
        return array[:, :, None]
    return array.transpose(1, 2, 0) if _channels_first(array.shape) else array


def load_labels(path: Path, count: int) -> Labels:
    """Loads the labels of `count` images from an .npy file; no labels if it does not exist. Raises `DataError`."""
    if not path.is_file():
        return NO_LABELS
    with explain_damage(f"{path} is not a whole array of labels", "make it again, or remove it"):
        values = read_file(path, MAX_LABEL_BYTES)
    return label_array(values, count, str(path))


def embedded_labels(values: NDArray[Any], count: int) -> Labels:
    """As `label_array`, for an array in the images' own file; no labels if it holds something else, as measurements."""
    try:
        labels = label_array(values, count, "")
    except DataError:
        return NO_LABELS
    return NO_LABELS if has_numbers(labels[0]) else labels


def label_array(values: NDArray[Any], count: int, where: str) -> Labels:
    """Returns the label columns and class numbers (N, columns) of an array of labels.

    (N,) or (N, 1): class numbers or names. (N, K) with at most one 1 per row: one column of K classes, one-hot. Other
    (N, K) of 0 and 1, or of -1 and 1: K columns of no and yes. Other (N, K) of whole numbers: K columns of classes.
    Columns of fractions are numbers; those of -1 and 1 alone are no and yes.

    Args:
        values: The array.
        count: Number of images, N.
        where: The array's place, for messages.

    Raises:
        DataError: The array holds something else.
    """
    if values.ndim not in (1, 2) or len(values) != count:
        raise DataError(f"{where}: labels of shape {values.shape} do not fit {count} pictures; mend or remove them")
    if values.ndim == 2 and values.shape[1] == 0:
        return NO_LABELS
    if values.size > MAX_LABEL_BYTES // 4:
        raise DataError(f"{where}: {values.size} labels are absurdly many; mend or remove them")
    if values.ndim == 1 or values.shape[1] == 1:
        column, numbers = _column(values.reshape(count), "class", where)
        return (column,), numbers[:, None]
    if values.dtype.kind in "biuf" and np.isin(values, (0, 1)).all():
        ones = values.sum(axis=1)
        if (ones <= 1).all() and values.shape[1] <= _MAX_CLASS_NUMBER:
            classes = np.where(ones == 1, values.argmax(axis=1), -1).astype(np.int32)
            return (LabelColumn("class", tuple(map(str, range(values.shape[1])))),), classes[:, None]
        values = values.astype(bool)
    elif values.dtype.kind in "if" and np.isin(values, (-1, 1)).all():
        values = values > 0
    if values.shape[1] > MAX_CLASSES:
        raise DataError(f"{where}: {values.shape[1]} columns of labels; the limit is {MAX_CLASSES}; remove some")
    columns = [_column(values[:, i], f"attribute{i}", where) for i in range(values.shape[1])]
    return tuple(column for column, _ in columns), np.stack([numbers for _, numbers in columns], axis=1)


def _are_signs(values: NDArray[Any]) -> bool:
    """Whether numbers (N,) are -1 and 1, both of them, or not known."""
    known = values[np.isfinite(values)]
    return bool(np.isin(known, (-1, 1)).all() and len(np.unique(known)) == 2)


def _column(values: NDArray[Any], name: str, where: str) -> tuple[LabelColumn, NDArray[np.int32]]:
    """Returns one column and its class numbers (N,). Raises `DataError`."""
    kind = values.dtype.kind
    if kind == "b":
        return LabelColumn(name, NO_YES), values.astype(np.int32)
    if kind in "if" and _are_signs(values):
        return LabelColumn(name, NO_YES), np.where(np.isfinite(values), values > 0, -1).astype(np.int32)
    if kind == "f" and (values[np.isfinite(values)] % 1).any():
        measures = values.astype(np.float64)
        column = LabelColumn.of_values(name, measures)
        return column, column.entries(measures)
    if kind == "f":
        values = np.where(np.isnan(values), -1, values)  # nan: unknown
    if kind in "iu" or (kind == "f" and (np.isfinite(values) & (values == np.rint(values))).all()):
        if values.min() < -1 or values.max() > _MAX_CLASS_NUMBER:
            raise DataError(f"{where}: class numbers run from 0 up to {_MAX_CLASS_NUMBER} at most (-1: unknown)")
        return LabelColumn(name, tuple(map(str, range(int(values.max()) + 1)))), values.astype(np.int32)
    if kind in "USO":
        texts = [text.decode("utf-8", "replace") if kind == "S" else text for text in values]
        classes = order_classes(set(texts) - {""})
        if 0 < len(classes) <= MAX_CLASSES:
            numbers = {text: number for number, text in enumerate(classes)}
            return LabelColumn(name, classes), np.array([numbers.get(text, -1) for text in texts], np.int32)
    raise DataError(f"{where}: labels of {str(values.dtype)[:40]} are neither class numbers nor names of a few classes")
