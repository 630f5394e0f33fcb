"""Opens image files of every format that is read; sizes, tiles and scans are bounded before anything is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from PIL import Image

from pggan.data.image_header import read_header
from pggan.data.sources.base import BadImage
from pggan.data.sources.phone_formats import open_phone_image
from pggan.utils.file_kind import AVIF, HEAD, HEIC, kind_of
from pggan.utils.formatting import one_line
from pggan.utils.limits import MAX_FILE_BYTES, MAX_PIXELS

FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "TIFF"]  # MPO, of phones, opens as JPEG

# Bytes of a WebP that hold its size.
_WEBP_HEAD = 32
# Pixels of a tile of a TIFF that may be larger than the picture.
_LARGE_TILE = 1 << 22
_ORIENTATION_TAG = 0x0112


def open_image(file: BinaryIO) -> Image.Image:
    """Opens an image, which is not decoded yet. Raises `BadImage`."""
    kind = None
    try:
        head = file.read(HEAD)
        file.seek(0)
        kind = kind_of(head)
        if head[8:12] == b"WEBP":  # Pillow allocates its canvas before it tells the size
            _check_pixels(*read_header(head[:_WEBP_HEAD], "webp")[:2])
        with no_warnings():
            if kind in (HEIC, AVIF):
                pil_image = open_phone_image(_read_bounded(file), kind)
            else:
                pil_image = Image.open(file, formats=FORMATS)
        _check_pixels(*pil_image.size)
        if pil_image.format == "TIFF":
            _check_tiles(pil_image)
        return pil_image
    except Exception as error:  # noqa: BLE001
        unknown = isinstance(error, Image.UnidentifiedImageError) and kind
        raise BadImage(f"not a picture that can be read: it is {kind}" if unknown else reason_of(error)) from None


def _read_bounded(file: BinaryIO) -> bytes:
    data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"a file above the limit of {MAX_FILE_BYTES >> 20} MiB")
    return data


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels; the limit is {MAX_PIXELS // 10**6} million")


def _check_tiles(tiff: Any) -> None:
    """Raises `ValueError` for a TIFF with tiles much larger than itself, which are decoded whole."""
    width, height = (int(tiff.tag_v2.get(tag, 0)) for tag in (322, 323))
    if width * height > max(_LARGE_TILE, 4 * tiff.width * tiff.height):
        raise ValueError(f"tiles of {width}x{height} pixels for {tiff.width}x{tiff.height}")


@contextmanager
def no_warnings() -> Iterator[None]:
    """Silences Pillow, which warns of large and of odd pictures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reason_of(error: Exception) -> str:
    """Says in one line why an image cannot be read."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return f"absurdly many pixels; the limit is {MAX_PIXELS // 10**6} million"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    return one_line(error)


def orientation_of(pil_image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 where there is none."""
    try:
        return int(pil_image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 (an image with damaged EXIF is still usable)
        return 1
