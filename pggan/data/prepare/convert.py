"""Converts images to records: read, fit to a square, downscale to 4x4, encode; in worker processes and in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, UnwantedImage
from pggan.data.sources.image_io import fit_to_square, fitted_side
from pggan.data.store.codecs import encode
from pggan.data.store.pyramid import pyramid

TOO_SMALL, NOT_SQUARE, BAD = "too small", "not square", "bad"


class ConversionResult(NamedTuple):
    """One image converted or left out."""

    name: str
    records: dict[int, bytes] | None  # by resolution; None: left out
    labels: tuple[int, ...] = ()  # a class number per column
    notes: tuple[str, ...] = ()  # the conversions applied
    kind: str = ""  # if left out: TOO_SMALL, NOT_SQUARE or BAD
    reason: str = ""  # if left out: details
    group: int = 0  # of images that show the same, from 1; 0: none


@dataclass(frozen=True)
class Converter:
    """Converts references to records; one instance lives in each worker process."""

    reader: Reader
    max_res: int
    channels: int = 3
    fit: str = "crop"
    upscale: bool = False
    quality: int = 95
    codecs: dict[int, str] = field(default_factory=dict)  # by resolution

    def __call__(self, ref: Ref) -> ConversionResult:
        try:
            image = self.reader.read(ref, self.channels)
            return self._convert(ref, image)
        except UnwantedImage as unwanted:
            kind, _, details = str(unwanted).partition(": ")
            return ConversionResult(ref.name, None, kind=kind, reason=details or kind)
        except BadImage as bad:
            return ConversionResult(ref.name, None, kind=BAD, reason=str(bad))
        except MemoryError:
            return ConversionResult(ref.name, None, kind=BAD, reason="too large for the memory")

    def _convert(self, ref: Ref, decoded: DecodedImage) -> ConversionResult:
        image, notes = decoded.image, decoded.notes
        height, width = image.shape[:2]
        if height != width:
            if self.fit == "reject":
                return ConversionResult(ref.name, None, kind=NOT_SQUARE, reason=f"{width}x{height} (--fit reject)")
            notes = (*notes, "cropped to a square" if self.fit == "crop" else "padded to a square")
        side = fitted_side(width, height, self.fit)
        if self.fit == "frame" and height == width != side:
            notes = (*notes, "padded to a power of two")
        if side < self.max_res and not self.upscale:
            return ConversionResult(ref.name, None, kind=TOO_SMALL, reason=f"{width}x{height}")
        # a box-filtered source's lower levels are 2x2 means of its full size, so that ours have to be those, too
        use_pyramid = self.reader.box_filtered and height == width and width & (width - 1) == 0
        if side != self.max_res and not use_pyramid:
            notes = (*notes, "resized down" if side > self.max_res else "enlarged")
        if not (use_pyramid and side > self.max_res):
            image = fit_to_square(image, self.max_res, self.fit)
        levels = pyramid(image)
        records = {level: encode(levels[level], codec, self.quality) for level, codec in self.codecs.items()}
        return ConversionResult(ref.name, records, decoded.labels, notes, group=decoded.group)
