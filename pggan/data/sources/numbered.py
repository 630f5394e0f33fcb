"""What sources share whose pictures have numbers instead of file names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.imaging import as_channels
from pggan.data.sources.base import BadPicture, Picture, Reader, Ref, Source
from pggan.errors import DataError
from pggan.labels import LabelColumn

CHANNELS = (1, 3, 4)
# Label columns, and class numbers (N, columns) or none.
Labels = tuple[tuple[LabelColumn, ...], NDArray[np.int32] | None]
NO_LABELS: Labels = ((), None)


class NumberedReader(Reader):
    """Reads pictures by number; a reference's payload is the number and the labels."""

    @abstractmethod
    def image(self, index: int) -> NDArray[np.uint8]:
        """A picture (H, W, C). Raises `BadPicture`."""

    @abstractmethod
    def shape(self, index: int) -> tuple[int, int]:
        """Width and height."""

    def read(self, ref: Ref, channels: int) -> Picture:
        index, labels = ref.payload
        image, notes = as_channels(self.image(index), channels)
        return Picture(image, labels, notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        return self.shape(ref.payload[0])


class NumberedSource(Source):
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


def channels_last(array: NDArray[Any]) -> NDArray[np.uint8]:
    """An array of one picture as (H, W, C): from (H, W), (C, H, W), (H, W, C), or one of those in a batch of one.

    Channels are the axis of length 1, 3 or 4; the first where both ends could be it. Raises `BadPicture`.
    """
    if array.dtype != np.uint8:
        raise BadPicture(f"an array of {array.dtype}; pictures are uint8 from 0 to 255")
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim == 3 and array.shape[0] in CHANNELS:
        return array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] in CHANNELS:
        return array
    raise BadPicture(f"an array of shape {array.shape}, which is no picture")


def label_array(values: NDArray[Any], count: int, where: str) -> Labels:
    """Label columns and class numbers (N, columns) of an array of labels.

    (N,): class numbers or names; (N, K) with at most one 1 a row: one column of K classes; any other (N, K) of zeros
    and ones: K columns of yes and no. Raises `DataError` for something else.
    """
    if len(values) != count or values.ndim not in (1, 2):
        raise DataError(f"{where}: labels of shape {values.shape} do not fit {count} pictures")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.shape[1] == 0:
        return (), np.zeros((count, 0), np.int32)
    if values.ndim == 1:
        return _classes(values, where)
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{where}: labels of several columns have to be zeros and ones")
    ones = values.sum(axis=1)
    if (ones <= 1).all():
        numbers = np.where(ones == 1, values.argmax(axis=1), -1).astype(np.int32)
        return (LabelColumn("class", tuple(map(str, range(values.shape[1])))),), numbers[:, None]
    columns = tuple(LabelColumn(f"attribute{i}", ("no", "yes")) for i in range(values.shape[1]))
    return columns, values.astype(np.int32)


def _classes(values: NDArray[Any], where: str) -> Labels:
    if values.dtype.kind in "iu" or (values.dtype.kind == "f" and (values == np.rint(values)).all()):
        numbers = values.astype(np.int64)
        most = int(numbers.max(initial=-1))
        if numbers.min(initial=0) < -1 or most > 100_000:
            raise DataError(f"{where}: class numbers run from 0 up to 100000 at most (-1: unknown)")
        return (LabelColumn("class", tuple(map(str, range(most + 1)))),), numbers.astype(np.int32)[:, None]
    if values.dtype.kind in "US":
        names, numbers = np.unique(values.astype(str), return_inverse=True)
        return (LabelColumn("class", tuple(map(str, names))),), numbers.astype(np.int32)[:, None]
    raise DataError(f"{where}: labels of {values.dtype} are neither class numbers nor names")
