"""The contract of an image source: cheap references, and a picklable reader that decodes them in any process."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import LabelColumn
from pggan.utils.errors import DataError

# Why a picture of a video is left out.
SAME_SCENE = "still the scene of the picture before"
# Most images of a streamed source that are read for a sample.
_MAX_STREAMED_SAMPLE = 256


class DecodedImage(NamedTuple):
    """An image in full size."""

    image: NDArray[np.uint8]  # (H, W, C)
    notes: tuple[str, ...] = ()  # the conversions applied, such as "16-bit"
    labels: tuple[int, ...] = ()  # an entry per column (see label_columns.py), -1 unknown
    group: int = 0  # of images that show the same, from 1; 0: none


class Ref(NamedTuple):
    """A reference to an image that is not read yet."""

    name: str  # for people
    payload: Any  # what the reader needs; small and picklable


def bytes_carried(payload: Any) -> int:
    """Returns the bytes that a reference's payload holds, or that its `nbytes` says reading it will bring."""
    if (size := getattr(payload, "nbytes", None)) is not None:
        return int(size)
    if isinstance(payload, bytes):
        return len(payload)
    return sum(map(bytes_carried, payload)) if isinstance(payload, tuple) else 0


class BadImage(Exception):  # noqa: N818 (a report more than an error)
    """An image that cannot be used; the message says why. The other images are used all the same."""


class UnwantedImage(BadImage):
    """An image that is left out on purpose, and counted by its own reason."""


def has_magic(path: str | Path, *magics: bytes) -> bool:
    """Whether `path` is a file that begins with one of these, of at most 8 bytes each."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(8).startswith(magics)


class Reader(ABC):
    """Reads references. Picklable for worker processes; opens its files on first use."""

    # whether the source also holds lower resolutions, which are 2x2 means; ours are then made the same way
    box_filtered = False
    _opened: Any = None  # the open file, which is not pickled

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}

    @abstractmethod
    def read(self, ref: Ref, channels: int) -> DecodedImage:
        """Decodes the image with 1, 3 or (premultiplied RGBA) 4 channels. Raises `BadImage`."""

    @abstractmethod
    def size(self, ref: Ref) -> tuple[int, int]:
        """Returns width and height, without decoding the image if possible. Raises `BadImage`."""


class Source(ABC):
    """A collection of images; one file per format."""

    scalable = False  # whether the images come in any requested size, so that none is too small
    streamed = False  # whether the images can only be read one after the other
    label_columns: tuple[LabelColumn, ...] = ()
    channels: int | None = None  # that a store has by default: 1 if all images are grey; None: unknown, 3
    transparent = False  # whether the images are known to have alpha, which the default leaves out
    attribution: str | None = None  # whom the licence of the images asks to name
    address: str | None = None  # where on the network they are from, with the revision
    choices: tuple[str, ...] = ()  # options of `open_source` that it takes, such as "dataset"
    remark: str | None = None  # one line for people: what is passed over of a SOURCE that holds more

    @staticmethod
    @abstractmethod
    def sniff(spec: str) -> bool:
        """Whether a SOURCE argument is of this format."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def refs(self) -> Iterable[Ref]:
        """Returns references to all images, in a fixed order."""

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        """Returns up to `count` of the first `among` references, evenly spread; if streamed, the very first ones."""
        if self.streamed:
            return islice(self.refs(), min(count, among, _MAX_STREAMED_SAMPLE))
        step = max(1, -(-among // count))
        return islice(self.refs(), 0, among, step)

    @abstractmethod
    def reader(self, resolution: int, seed: int) -> Reader:
        """Returns a reader; `resolution` and `seed` matter only to sources that draw their images."""

    def with_numbers(self, names: tuple[str, ...]) -> Source:
        """Returns the source with these label columns as numbers instead of classes.

        Raises `DataError` for a column that is not there, or has a class that is no number.
        """
        return NumberedSource(self, names)

    def read_companion(self, name: str) -> bytes | None:
        """Returns a file of this name beside the images, one of `lists`, None if there is none."""
        return None

    def lists(self) -> Sequence[str]:
        """Returns the paths of files beside the images that may be lists of labels; `../` begins those above."""
        return ()

    def image_names(self) -> Iterable[str] | None:
        """Returns the names of all images, None where that would mean to read them."""
        return None if self.streamed else (ref.name for ref in self.refs())

    def __iter__(self) -> Iterator[DecodedImage | BadImage]:
        """Yields all images in RGB at full size (drawn ones: 256x256), or the `BadImage` of an unreadable one."""
        reader = self.reader(256, 0)
        for ref in self.refs():
            try:
                yield reader.read(ref, 3)
            except BadImage as bad:
                yield bad


class WrappedSource(Source):
    """Another source (`inner`) whose images or labels a subclass changes; it is not opened by a SOURCE argument."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self.label_columns, self.attribution = inner.label_columns, inner.attribution
        self.remark, self.address, self.channels = inner.remark, inner.address, inner.channels
        self.streamed, self.path = inner.streamed, getattr(inner, "path", "")

    @staticmethod
    def sniff(spec: str) -> bool:
        return False

    def __len__(self) -> int:
        return len(self.inner)

    def refs(self) -> Iterable[Ref]:
        return self.inner.refs()

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return self.inner.sample(count, among)

    def image_names(self) -> Iterable[str] | None:
        return self.inner.image_names()


class NumberedReader(Reader):
    """Another reader's images with the classes of some columns as numbers: entries by class, one table a column."""

    def __init__(self, inner: Reader, tables: list[list[int] | None]) -> None:
        self.inner, self.tables, self.box_filtered = inner, tables, inner.box_filtered

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        decoded = self.inner.read(ref, channels)
        labels = (n if table is None or n < 0 else table[n] for n, table in zip(decoded.labels, self.tables))
        return decoded._replace(labels=tuple(labels))

    def size(self, ref: Ref) -> tuple[int, int]:
        return self.inner.size(ref)


class NumberedSource(WrappedSource):
    """Another source whose classes are the numbers of some columns, such as ages in whole years."""

    def __init__(self, inner: Source, names: tuple[str, ...]) -> None:
        super().__init__(inner)
        self.scalable = inner.scalable
        known = {column.name for column in inner.label_columns}
        for name in names:
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise DataError(f"--numbers {name}: the pictures have no such label; they have: {listed}")
        self._tables: list[list[int] | None] = []
        columns = []
        for column in inner.label_columns:
            numbers, table = _numbers_of(column) if column.name in names else (column, None)
            columns.append(numbers)
            self._tables.append(table)
        self.label_columns = tuple(columns)

    def reader(self, resolution: int, seed: int) -> Reader:
        return NumberedReader(self.inner.reader(resolution, seed), self._tables)


def _numbers_of(column: LabelColumn) -> tuple[LabelColumn, list[int]]:
    """Returns a column of classes as one of numbers, and the entry of each class."""
    try:
        values = np.array([float(name) for name in column.classes])
    except ValueError as error:
        raise DataError(f"--numbers {column.name}: a class of it is no number ({error}); leave it out") from None
    numbers = LabelColumn.of_values(column.name, values)
    return numbers, numbers.entries(values).tolist()
