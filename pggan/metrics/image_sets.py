"""Pictures by number, wherever they are: in a store, in any source that can be prepared, or made by a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pggan.config.resolution import level_of
from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage
from pggan.data.sources.fingerprint import fingerprint
from pggan.data.store.pyramid import pyramid
from pggan.data.store.store import FILE, Store, is_store
from pggan.utils.errors import DataError

Images = NDArray[np.uint8]
# Pictures whose colours are looked at before all are read.
LOOKED_AT = 32


class Pictures(Protocol):
    """Square pictures of one size. `place`: where they lie, if anywhere; `identity`: changes when they do."""

    name: str
    resolution: int
    channels: int

    def __len__(self) -> int: ...

    def read(self, numbers: Sequence[int]) -> Images:
        """uint8 (N, C, R, R). Raises `DataError` for one that cannot be read."""
        ...

    @property
    def place(self) -> Path | None: ...

    @property
    def identity(self) -> dict[str, Any]: ...


def open_pictures(spec: str, resolution: int | None = None) -> Pictures:
    """A data store or anything that prepare-data reads, at its own resolution or a smaller one.

    Raises `DataError` where there are none, or none of that size, `UsageError` for a size that there is not.
    """
    if resolution is not None:
        level_of(resolution)
    return StorePictures(Store(spec), resolution) if is_store(spec) else SourcePictures(spec, resolution)


class StorePictures:
    """Those of a store at one of its resolutions; None: the largest. Raises `DataError` for one it lacks."""

    def __init__(self, store: Store, resolution: int | None = None) -> None:
        self.store, self.name = store, str(store.path)
        self.resolution = resolution or store.max_resolution
        self.channels = store.channels
        store.read(self.resolution, [])  # says which there are

    def __len__(self) -> int:
        return len(self.store)

    def read(self, numbers: Sequence[int]) -> Images:
        return self.store.read(self.resolution, numbers)

    @property
    def place(self) -> Path | None:
        return self.store.path

    @property
    def identity(self) -> dict[str, Any]:
        manifest = self.store.manifest
        size = os.path.getsize(self.store.path / FILE)
        digest = manifest.digests.get(f"{self.resolution}x{self.resolution}", "")
        return {"created": manifest.created, "count": manifest.count, "bytes": size, "digest": digest}


class SourcePictures:
    """Those of a source. All have one square size, a power of two; a smaller `resolution` is made by 2x2 means."""

    def __init__(self, spec: str, resolution: int | None = None) -> None:
        self.name = spec
        source = open_source(spec)
        self._refs = list(source.refs())
        self._reader = source.reader(resolution or 256, 0)
        if not self._refs:
            raise DataError(f"{spec} holds no pictures")
        first = self._image(0, 3)
        self.channels = source.channels or self._found_channels()
        self.resolution = resolution or first.shape[0]
        self._checked(first, 0)

    def __len__(self) -> int:
        return len(self._refs)

    def read(self, numbers: Sequence[int]) -> Images:
        out = np.empty((len(numbers), self.channels, self.resolution, self.resolution), np.uint8)
        for at, number in enumerate(numbers):
            image = self._image(number, self.channels)
            self._checked(image, number)
            same = image.shape[0] == self.resolution
            out[at] = image.transpose(2, 0, 1) if same else pyramid(image)[self.resolution]
        return out

    @property
    def place(self) -> Path | None:
        return Path(self.name) if os.path.exists(self.name) else None

    @property
    def identity(self) -> dict[str, Any]:
        return {"source": fingerprint(self.name), "count": len(self)}

    def _found_channels(self) -> int:
        """1 where pictures from all over the source are grey."""
        for ref in self._refs[:: max(1, len(self._refs) // LOOKED_AT)]:
            try:
                if not any("grey to colour" in note for note in self._reader.read(ref, 3).notes):
                    return 3
            except BadImage:
                continue
        return 1

    def _image(self, number: int, channels: int) -> Images:
        ref = self._refs[number]
        try:
            found = self._reader.read(ref, channels)
        except BadImage as bad:
            raise DataError(f"{self.name}: {ref.name} cannot be read ({bad}); take it out") from None
        if channels == 1 and any("colour to grey" in note for note in found.notes):
            raise DataError(
                f"{self.name}: {ref.name} is in colour, others are grey; make a store of them (pggan prepare-data)"
            )
        return found.image

    def _checked(self, image: Images, number: int) -> None:
        height, width = image.shape[:2]
        if height != width or height & (height - 1) or height < self.resolution:
            side = self.resolution
            wanted = (
                f"{side}x{side}" if height == width and height < side else "a square with a power of two as its side"
            )
            raise DataError(
                f"{self.name}: {self._refs[number].name} is {width}x{height}, not {wanted}; "
                "make a store of the pictures first (pggan prepare-data), or give --res"
            )


class Generated:
    """Pictures made on demand: number i is that of seed `seed + i`. `generate` gives uint8 (N, H, W, C) of seeds."""

    place = None

    def __init__(
        self,
        generate: Callable[[Sequence[int]], Images],
        resolution: int,
        channels: int,
        seed: int = 0,
        name: str = "generated",
    ) -> None:
        self._generate, self.resolution, self.channels = generate, resolution, channels
        self.seed, self.name = seed, name

    def __len__(self) -> int:
        return 2**32 - self.seed

    def read(self, numbers: Sequence[int]) -> Images:
        made = self._generate([self.seed + number for number in numbers])
        return np.ascontiguousarray(made.transpose(0, 3, 1, 2))

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "seed": self.seed}
