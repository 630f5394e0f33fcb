"""What sources share whose pictures are arrays, with numbers instead of file names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import MAX_CLASSES, LabelColumn, order_classes
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source, reason
from pggan.data.sources.image_io import MAX_PIXELS, convert_channels
from pggan.utils.errors import DataError

CHANNELS = (1, 3, 4)
PICTURES = "pictures are uint8 from 0 to 255: (N, H, W, C), (N, C, H, W) or (N, H, W)"
# What arrays of labels are called beside one of pictures, in this order.
LABEL_NAMES = ("labels", "label", "y", "y_train", "train_labels", "classes", "attributes")
# Class numbers of labels made for this purpose, and bytes of the labels of any set.
_MOST_NUMBERS, MOST_LABEL_BYTES = 100_000, 1 << 28
# Label columns, and class numbers (N, columns) or none.
Labels = tuple[tuple[LabelColumn, ...], NDArray[np.int32] | None]
NO_LABELS: Labels = ((), None)


class IndexedReader(Reader):
    """Reads pictures by number; a reference's payload is the number and the labels."""

    @abstractmethod
    def image(self, index: int) -> NDArray[np.uint8]:
        """A picture (H, W, C). Raises `BadImage`."""

    @abstractmethod
    def shape(self, index: int) -> tuple[int, int]:
        """Width and height."""

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        index, labels = ref.payload
        image, notes = convert_channels(self.image(index), channels)
        return DecodedImage(image, labels, notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        return self.shape(ref.payload[0])


class InlineArrayReader(Reader):
    """A reference's payload is the picture's array itself, and the labels."""

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        array, labels = ref.payload
        image, notes = convert_channels(channels_last(array), channels)
        return DecodedImage(image, labels, notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        height, width = channels_last(ref.payload[0]).shape[:2]
        return width, height


class IndexedSource(Source):
    """Pictures 0 to count - 1, with an array of class numbers (N, columns) or none."""

    def __init__(self, count: int, columns: tuple[LabelColumn, ...] = (), labels: NDArray[Any] | None = None) -> None:
        self._count, self._columns, self._classes = count, columns, labels

    def __len__(self) -> int:
        return self._count

    def refs(self) -> Iterable[Ref]:
        return (Ref(f"picture {i}", (i, self.classes(i))) for i in range(self._count))

    def classes(self, index: int) -> tuple[int, ...]:
        return () if self._classes is None else tuple(map(int, self._classes[index]))

    @property
    def label_columns(self) -> tuple[LabelColumn, ...]:
        return self._columns


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Height, width and channels of an array of one picture, None where it is none, or far too large for one."""
    if len(shape) == 2:
        form = (shape[0], shape[1], 1)
    elif len(shape) == 3 and _channels_first(shape):
        form = (shape[1], shape[2], shape[0])
    elif len(shape) == 3 and shape[2] in CHANNELS:
        form = (shape[0], shape[1], shape[2])
    else:
        return None
    return form if 0 < form[0] * form[1] <= MAX_PIXELS else None


def stacked_image_shape(shape: tuple[int, ...], dtype: Any) -> tuple[int, int, int] | None:
    """Height, width and channels in an array of many pictures, None where it is none."""
    if dtype != np.uint8 or len(shape) not in (3, 4) or not shape[0]:
        return None
    one = len(shape) == 3 and (shape[0] in CHANNELS[1:] or shape[2] in CHANNELS)  # in colour, not many grey ones
    return None if one else image_shape(shape[1:])


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Where both ends could be the channels: the first, unless the picture is square the other way alone."""
    if shape[0] in CHANNELS and shape[2] in CHANNELS:
        return shape[1] == shape[2] or shape[0] != shape[1]
    return shape[0] in CHANNELS


def channels_last(array: NDArray[Any]) -> NDArray[np.uint8]:
    """An array of one picture as (H, W, C): from (H, W), (C, H, W), (H, W, C), or one of those in a batch of one.

    Channels are the axis of length 1, 3 or 4. Raises `BadImage`.
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


def load_array(path: Path, mapped: bool) -> NDArray[Any]:
    """The array of an .npy file, whatever its ending; nothing pickled is loaded. Raises `OSError` or `ValueError`."""
    try:
        if mapped:
            with np.errstate(over="raise"):
                return np.lib.format.open_memmap(path, mode="r")
        with open(path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 (NumPy raises a dozen kinds for damaged headers)
        raise ValueError(reason(error)) from None


def load_labels(path: Path, count: int) -> Labels:
    """Columns and class numbers of an .npy file, whatever its ending. Raises `DataError`."""
    try:
        values = load_array(path, mapped=False)
    except ValueError as error:
        raise DataError(f"{path} is not a whole array of labels ({error}); make it again, or remove it") from None
    return label_array(values, count, str(path))


def own_labels(values: NDArray[Any], count: int) -> Labels:
    """As `label_array`, of an array among the pictures' own file; none where it holds something else than labels."""
    try:
        return label_array(values, count, "")
    except DataError:
        return NO_LABELS


def label_array(values: NDArray[Any], count: int, where: str) -> Labels:
    """Label columns and class numbers (N, columns) of an array of labels.

    (N,): class numbers or names; (N, K) with at most one 1 a row: one column of K classes; any other (N, K) of zeros
    and ones, or of -1 and 1: K columns of yes and no; of other whole numbers: K columns of those. Raises `DataError`
    for something else.
    """
    if values.ndim not in (1, 2) or len(values) != count:
        raise DataError(f"{where}: labels of shape {values.shape} do not fit {count} pictures; mend or remove them")
    if values.ndim == 2 and values.shape[1] == 0:
        return NO_LABELS
    if values.ndim == 1 or values.shape[1] == 1:
        column, numbers = _classes(values.reshape(count), "class", where)
        return (column,), numbers[:, None]
    if values.dtype.kind in "biuf" and np.isin(values, (0, 1)).all():
        ones = values.sum(axis=1)
        if (ones <= 1).all():
            hot = np.where(ones == 1, values.argmax(axis=1), -1).astype(np.int32)
            return (LabelColumn("class", tuple(map(str, range(values.shape[1])))),), hot[:, None]
        values = values.astype(bool)
    elif values.dtype.kind in "if" and np.isin(values, (-1, 1)).all():
        values = values > 0
    found = [_classes(values[:, i], f"attribute{i}", where) for i in range(values.shape[1])]
    return tuple(column for column, _ in found), np.stack([numbers for _, numbers in found], axis=1)


def _classes(values: NDArray[Any], name: str, where: str) -> tuple[LabelColumn, NDArray[np.int32]]:
    kind = values.dtype.kind
    if kind == "b":
        return LabelColumn(name, ("no", "yes")), values.astype(np.int32)
    if kind in "iu" or (kind == "f" and (np.isfinite(values) & (values == np.rint(values))).all()):
        if values.min() < -1 or values.max() > _MOST_NUMBERS:
            raise DataError(f"{where}: class numbers run from 0 up to {_MOST_NUMBERS} at most (-1: unknown)")
        return LabelColumn(name, tuple(map(str, range(int(values.max()) + 1)))), values.astype(np.int32)
    if kind in "US":
        texts = np.char.decode(values, "utf-8", "replace") if kind == "S" else values
        classes = order_classes(set(texts.tolist()) - {""})
        if 0 < len(classes) <= MAX_CLASSES:
            numbers = {text: number for number, text in enumerate(classes)}
            return LabelColumn(name, classes), np.array([numbers.get(text, -1) for text in texts.tolist()], np.int32)
    raise DataError(f"{where}: labels of {str(values.dtype)[:40]} are neither class numbers nor names of a few classes")
