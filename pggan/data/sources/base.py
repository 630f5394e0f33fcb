"""The contract of a source of pictures: cheap references, and a reader that turns one into a picture anywhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import LabelColumn


class DecodedImage(NamedTuple):
    """`image` uint8 (H, W, C) in full size; `labels` one class number a column; `notes`: what was converted."""

    image: NDArray[np.uint8]
    labels: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class Ref(NamedTuple):
    """A picture not read yet: its name for people, and what the reader needs (small, picklable)."""

    name: str
    payload: Any


class BadImage(Exception):  # noqa: N818 (a report more than an error)
    """A picture that cannot be used; the message says why. One of them does not stop the rest."""


def reason(error: BaseException) -> str:
    """A library's error as a part of one line."""
    return " ".join(str(error).split())[:120] or type(error).__name__


class Reader(ABC):
    """Reads references; picklable, so that worker processes can. Opens what it needs on first use.

    `box_filtered`: the pictures come from a store of all resolutions, whose lower ones are 2x2 means of them; so are ours.
    """

    box_filtered = False

    @abstractmethod
    def read(self, ref: Ref, channels: int) -> DecodedImage:
        """The picture with 1 or 3 channels. Raises `BadImage`."""

    @abstractmethod
    def size(self, ref: Ref) -> tuple[int, int]:
        """Width and height, without decoding the picture where possible. Raises `BadImage`."""


class Source(ABC):
    """A collection of pictures. One file per format; `sniff` tells whether a SOURCE argument is of this kind."""

    # whether this source's pictures come in any size that is asked for, so that none is too small
    scalable = False

    @staticmethod
    @abstractmethod
    def sniff(spec: str) -> bool: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def refs(self) -> Iterable[Ref]:
        """Every picture, in a fixed order."""

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        """Up to `count` of the first `among` references, spread over them."""
        step = max(1, -(-among // count))
        return islice(self.refs(), 0, among, step)

    @abstractmethod
    def reader(self, resolution: int, seed: int) -> Reader:
        """A reader; `resolution` and `seed` matter to sources that draw their pictures."""

    @property
    def label_columns(self) -> tuple[LabelColumn, ...]:
        return ()

    def read_companion(self, name: str) -> bytes | None:
        """A file of this name beside the pictures, such as a list of labels, if there is one."""
        return None

    @property
    def channels(self) -> int | None:
        """1 (grey) or 3 where all pictures have as many, None where they differ or nobody knows."""
        return None

    @property
    def attribution(self) -> str | None:
        """Whom the pictures' licence asks to name, if anyone."""
        return None

    def __iter__(self) -> Iterator[DecodedImage | BadImage]:
        """Pictures in colour at full size (256 for drawn ones); a report in the place of one that cannot be read."""
        reader = self.reader(256, 0)
        for ref in self.refs():
            try:
                yield reader.read(ref, 3)
            except BadImage as bad:
                yield bad
