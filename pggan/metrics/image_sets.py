"""Image sets: images by number from a store, from any source that prepare-data reads, or made by a generator."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import RGBA, WHITE, Colour, over
from pggan.config.resolution import level_of
from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage
from pggan.data.sources.fingerprint import fingerprint
from pggan.data.sources.lmdb import StoreSource
from pggan.data.store.lmdb_environment import FILE
from pggan.data.store.pyramid import pyramid
from pggan.data.store.store import Store
from pggan.utils.errors import DataError

Images = NDArray[np.uint8]
# Images whose colours decide whether a source is grey.
CHANNEL_SAMPLES = 32


class ImageSet(Protocol):
    """Square images of one size, by number."""

    name: str  # for messages
    resolution: int  # side in pixels
    channels: int  # 1, 3 or 4: RGBA, premultiplied

    def __len__(self) -> int: ...

    def read(self, numbers: Sequence[int]) -> Images:
        """Returns uint8 (N, C, R, R). Raises `DataError` for an image that cannot be read."""
        ...

    @property
    def place(self) -> Path | None:
        """Where the images are stored; None for images that are in no file."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """JSON values that change when the images do: part of the key of cached states."""
        ...


def open_images(spec: str, resolution: int | None = None) -> ImageSet:
    """Opens a data store or anything that prepare-data reads, at its own resolution or a smaller one.

    Raises `DataError` for no images, or none of that size, `UsageError` for a resolution that does not exist.
    """
    if resolution is not None:
        level_of(resolution)
    return StoreImages(Store(spec), resolution) if StoreSource.sniff(spec) else SourceImages(spec, resolution)


def match_channels(one: ImageSet, other: ImageSet) -> None:
    """Reads a source that is grey in colour where the other images are: prepare-data stores it so, too."""
    for grey, colour in ((one, other), (other, one)):
        if isinstance(grey, SourceImages) and grey.channels == 1 and colour.channels == 3:
            grey.channels = 3


class StoreImages:
    """The images of a store at one of its resolutions; None: the largest. Raises `DataError` for one it lacks."""

    def __init__(self, store: Store, resolution: int | None = None) -> None:
        self.store, self.name = store, str(store.path)
        self.resolution = store.max_resolution if resolution is None else resolution
        self.channels = store.channels
        self.place: Path | None = store.path
        store.read(self.resolution, [])  # raises for a resolution it lacks, and lists the others

    def __len__(self) -> int:
        return len(self.store)

    def read(self, numbers: Sequence[int]) -> Images:
        return self.store.read(self.resolution, numbers)

    @property
    def identity(self) -> dict[str, Any]:
        manifest = self.store.manifest
        size = os.path.getsize(self.store.path / FILE)
        digest = manifest.digests.get(f"{self.resolution}x{self.resolution}", "")
        return {"created": manifest.created, "count": manifest.count, "bytes": size, "digest": digest}


class SourceImages:
    """The images of a source, all squares of one size, a power of two. 2x2 means make a smaller `resolution`."""

    def __init__(self, spec: str, resolution: int | None = None) -> None:
        self.name = spec
        self.place = Path(spec) if os.path.exists(spec) else None
        source = open_source(spec)
        self._address = source.address or spec
        refs = source.refs()
        self._refs = list(islice(refs, 1))
        self._reader = source.reader(resolution or 256, 0)
        if not self._refs:
            raise DataError(f"{spec} holds no pictures")
        first = self._read_image(0, 3)
        self.resolution = first.shape[0] if resolution is None else resolution
        self._check_size(first, 0)  # before all of a stream is read
        self._refs += refs
        self.channels = 4 if source.transparent else source.channels or self._detect_channels()

    def __len__(self) -> int:
        return len(self._refs)

    def read(self, numbers: Sequence[int]) -> Images:
        out = np.empty((len(numbers), self.channels, self.resolution, self.resolution), np.uint8)
        for row, number in enumerate(numbers):
            image = self._read_image(number, self.channels)
            self._check_size(image, number)
            has_size = image.shape[0] == self.resolution
            out[row] = image.transpose(2, 0, 1) if has_size else pyramid(image)[self.resolution]
        return out

    @property
    def identity(self) -> dict[str, Any]:
        return {"source": fingerprint(self._address), "count": len(self), "channels": self.channels}

    def _detect_channels(self) -> int:
        """Returns 4 where samples from all over the source are transparent, 1 where all of them are grey, else 3."""
        channels = 1
        for ref in self._refs[:: max(1, len(self._refs) // CHANNEL_SAMPLES)]:
            try:
                notes = self._reader.read(ref, 3).notes
            except BadImage:
                continue
            if "transparency over white" in notes:
                return RGBA
            if "grey to colour" not in notes:
                channels = 3
        return channels

    def _read_image(self, number: int, channels: int) -> Images:
        ref = self._refs[number]
        try:
            record = self._reader.read(ref, channels)
        except BadImage as error:
            raise DataError(f"{self.name}: {ref.name} cannot be read ({error}); take it out") from None
        if channels == 1 and any("colour to grey" in note for note in record.notes):
            raise DataError(
                f"{self.name}: {ref.name} is in colour, others are grey; make a store of them (pggan prepare-data)"
            )
        return record.image

    def _check_size(self, image: Images, number: int) -> None:
        height, width = image.shape[:2]
        if height == width and not height & (height - 1) and height >= self.resolution:
            return
        side = self.resolution
        is_small = height == width and height < side
        expected = f"{side}x{side}" if is_small else "a square with a power of two as its side"
        raise DataError(
            f"{self.name}: {self._refs[number].name} is {width}x{height}, not {expected}; "
            "make a store of the pictures first (pggan prepare-data), or give --res"
        )


class CompositedImages:
    """RGBA images over a colour, as RGB ones."""

    channels = 3

    def __init__(self, images: ImageSet, background: Colour) -> None:
        self.images, self.background = images, background
        self.name, self.resolution, self.place = images.name, images.resolution, images.place

    def __len__(self) -> int:
        return len(self.images)

    def read(self, numbers: Sequence[int]) -> Images:
        return over(self.images.read(numbers), self.background, axis=1)

    @property
    def identity(self) -> dict[str, Any]:
        return {**self.images.identity, "background": list(self.background)}


def opaque(images: ImageSet, background: Colour = WHITE) -> ImageSet:
    """Returns RGBA images composited over a colour, as metrics look at them; others stay as they are."""
    return CompositedImages(images, background) if images.channels == RGBA else images


class GeneratedImages:
    """Images made on demand: image i is that of seed `seed + i`."""

    place = None

    def __init__(
        self,
        generate: Callable[[Sequence[int]], Images], resolution: int, channels: int, seed: int = 0,
        name: str = "generated",
    ) -> None:  # fmt: skip
        """Wraps a generator.

        Args:
            generate: Makes uint8 images (N, H, W, C) of seeds; RGBA premultiplied.
            resolution: Their side in pixels.
            channels: Their channels.
            seed: Seed of image 0.
            name: The set's name in messages.
        """
        self._generate, self.resolution, self.channels = generate, resolution, channels
        self.seed, self.name = seed, name

    def __len__(self) -> int:
        return 2**32 - self.seed

    def read(self, numbers: Sequence[int]) -> Images:
        images = self._generate([self.seed + number for number in numbers])
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "seed": self.seed}
