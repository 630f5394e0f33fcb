"""References to records: read, fitted, halved down to 4x4 and encoded, in worker processes and in order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pggan.data.sources.base import BadPicture, Picture, Reader, Ref
from pggan.data.sources.image_io import fit, fitted_side
from pggan.data.store.codecs import encode
from pggan.data.store.pyramid import pyramid
from pggan.utils.process_pool import ordered_map

TOO_SMALL, NOT_SQUARE, BAD = "too small", "not square", "bad"


class Converted(NamedTuple):
    """A picture's records by resolution; or None, and the kind (TOO_SMALL, NOT_SQUARE, BAD) and reason of that."""

    name: str
    records: dict[int, bytes] | None
    labels: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Converter:
    """Turns a reference into records; what a worker process holds."""

    reader: Reader
    max_res: int
    channels: int = 3
    fit: str = "crop"
    upscale: bool = False
    quality: int = 95
    codecs: dict[int, str] = field(default_factory=dict)

    def __call__(self, ref: Ref) -> Converted:
        try:
            picture = self.reader.read(ref, self.channels)
            return self._fitted(ref, picture)
        except BadPicture as bad:
            return Converted(ref.name, None, kind=BAD, reason=str(bad))
        except MemoryError:
            return Converted(ref.name, None, kind=BAD, reason="too large for the memory")

    def _fitted(self, ref: Ref, picture: Picture) -> Converted:
        height, width = picture.image.shape[:2]
        notes = picture.notes
        if height != width:
            if self.fit == "reject":
                return Converted(ref.name, None, kind=NOT_SQUARE, reason=f"{width}x{height} (--fit reject)")
            notes = (*notes, "cropped to a square" if self.fit == "crop" else "padded to a square")
        side = fitted_side(width, height, self.fit)
        if self.fit == "frame" and height == width != side:
            notes = (*notes, "padded to a power of two")
        if side < self.max_res and not self.upscale:
            return Converted(ref.name, None, kind=TOO_SMALL, reason=f"{width}x{height}")
        whole = self.reader.boxed and height == width and width & (width - 1) == 0
        if side != self.max_res and not whole:
            notes = (*notes, "resized down" if side > self.max_res else "enlarged")
        levels = pyramid(picture.image if whole and side > self.max_res else fit(picture.image, self.max_res, self.fit))
        records = {at: encode(levels[at], codec, self.quality) for at, codec in self.codecs.items()}
        return Converted(ref.name, records, picture.labels, notes)


def converted(converter: Converter, refs: Iterator[Ref], workers: int) -> Generator[Converted, None, None]:
    """Results in the order of `refs`, made here or in worker processes, with a bounded number on their way.

    Raises `DataError` where a worker dies.
    """
    return ordered_map(converter, refs, workers)
