"""HEIC and AVIF, which phones save: read where a package reads them. Their sizes are known before they are decoded."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import BinaryIO, cast

from PIL import Image

from pggan.utils.file_kind import AVIF, HEIC
from pggan.utils.formatting import one_line

# Endings of files, by what they are.
ENDINGS = {".heic": HEIC, ".heif": HEIC, ".hif": HEIC, ".avif": AVIF}
# What reads them where nothing does.
REMEDIES = {HEIC: "pip install 'pggan[photos]'", AVIF: "pip install --upgrade pillow"}
_SRGB_PRIMARIES = (1, 2)  # BT.709's, and unspecified
_HDR_TRANSFERS = (16, 18)  # PQ and HLG


@cache
def reads(kind: str) -> bool:
    """Whether HEIC or AVIF is read: the first by the extra `pggan[photos]`, the second by Pillow from 11.3 on."""
    try:
        if kind == HEIC:
            import pillow_heif

            return bool(pillow_heif.__version__)
        from PIL.AvifImagePlugin import SUPPORTED

        return SUPPORTED
    except ImportError:
        return False


def open_phone_image(data: bytes, kind: str) -> Image.Image:
    """Opens a HEIC or AVIF picture, which is not decoded yet; of several in a file the primary one.

    Turns and mirrors of the container are applied by its decoder, which leaves no orientation in the EXIF of a HEIC.
    Raises `ValueError` where nothing reads it, or it is damaged.
    """
    if not reads(kind):
        raise ValueError(f"{kind}; {REMEDIES[kind]} reads it")
    try:
        return _plugin(kind)(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001 (their errors of damaged files do not say what the file is)
        raise ValueError(f"{kind} that is damaged: {one_line(error)}") from None


def _plugin(kind: str) -> Callable[[BinaryIO], Image.Image]:
    if kind == HEIC:
        from pillow_heif import HeifImageFile

        return cast("Callable[[BinaryIO], Image.Image]", HeifImageFile)
    from PIL.AvifImagePlugin import AvifImageFile

    return AvifImageFile


def bits_of_heif(image: Image.Image) -> int:
    """Returns the bits per channel of a HEIC, which is decoded to 8."""
    return int(image.info.get("bit_depth", 8))


def has_other_colours(image: Image.Image) -> bool:
    """Whether a HEIC names colours other than sRGB's by number, without a profile that could be converted."""
    named = image.info.get("nclx_profile") or {}
    primaries, transfer = named.get("color_primaries", 2), named.get("transfer_characteristics", 2)
    return primaries not in _SRGB_PRIMARIES or transfer in _HDR_TRANSFERS
