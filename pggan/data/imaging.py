"""Pictures as people have them to plain 8-bit arrays: modes, orientation, shape and size."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pggan.data.sources.base import BadPicture

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
FORMATS = ["PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF"]  # MPO: a JPEG with a second view, as some phones write

# Refused above: a picture of this many pixels is a mistake or an attack, and would take gigabytes to decode.
MAX_PIXELS = 1 << 27
MAX_FILE_BYTES = 1 << 30


def is_picture_name(name: str) -> bool:
    """By its ending; hidden files and a Mac's archive litter are none."""
    parts = name.replace("\\", "/").split("/")
    dot = parts[-1].rfind(".")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return dot > 0 and not hidden and parts[-1][dot:].lower() in EXTENSIONS


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts `img2` before `img10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def read_size(data: bytes) -> tuple[int, int]:
    """Width and height as shown (EXIF orientation applied), from the header. Raises `BadPicture`."""
    picture = _open(data)
    turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return picture.size[::-1] if turned else picture.size


def read_picture(data: bytes, channels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """A file's bytes as uint8 (H, W, channels), and what had to be converted. Raises `BadPicture`."""
    picture = _open(data)
    notes: list[str] = []
    try:
        if picture.getexif().get(0x0112, 1) not in (0, 1):
            notes.append("turned by EXIF orientation")
            picture = ImageOps.exif_transpose(picture)
        plain = _plain(picture, notes)
        wanted = "L" if channels == 1 else "RGB"
        if plain.mode != wanted:
            notes.append("grey to colour" if wanted == "RGB" else "colour to grey")
            plain = plain.convert(wanted)
        array = np.asarray(plain)
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        raise BadPicture(_reason(error)) from None
    return array.reshape(*array.shape[:2], channels), tuple(notes)


def _open(data: bytes) -> Image.Image:
    if len(data) > MAX_FILE_BYTES:
        raise BadPicture(f"a file of {len(data) >> 20} MiB; the limit is {MAX_FILE_BYTES >> 20}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise BadPicture(_reason(error)) from None
    if picture.width * picture.height > MAX_PIXELS:
        raise BadPicture(f"{picture.width}x{picture.height} pixels; the limit is {MAX_PIXELS >> 20} million")
    return picture


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return "absurdly many pixels"
    return " ".join(str(error).split())[:120] or type(error).__name__


def _plain(picture: Image.Image, notes: list[str]) -> Image.Image:
    """Any mode to "L" or "RGB" of 8 bits; transparency is shown over white. Animations give their first frame."""
    mode = picture.mode
    if mode in ("L", "RGB") and "transparency" not in picture.info:
        return picture
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        notes.append("transparency over white")
        rgba = picture.convert("RGBA")
        shown = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return shown.convert("L" if mode in ("L", "LA", "La") else "RGB")
    if mode == "1":
        notes.append("1-bit")
        return picture.convert("L")
    if mode.startswith("I") or mode == "F":
        notes.append("16-bit" if mode.startswith("I") else "floating point")
        return Image.fromarray(_to_8_bits(np.asarray(picture)))
    notes.append({"P": "palette", "CMYK": "CMYK"}.get(mode, mode))
    return picture.convert("RGB")


def _to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """16-bit integers by their whole range, floating point from 0..1 (or 0..255 if any value is above 1)."""
    if values.dtype.kind == "f":
        top = 1.0 if np.nanmax(values, initial=0) <= 1 else 255.0
    else:
        top = 65535.0
    scaled = np.nan_to_num(values.astype(np.float64)) * (255.0 / top)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def fit(image: NDArray[np.uint8], side: int, how: str) -> NDArray[np.uint8]:
    """A picture (H, W, C) as a square of `side`: cropped at the centre or padded with its border, then resized.

    Raises `BadPicture` where it is not square and `how` is "reject".
    """
    height, width = image.shape[:2]
    if height != width:
        if how == "reject":
            raise BadPicture(f"{width}x{height} is not square (--fit reject)")
        image = _pad(image) if how == "pad" else _crop(image)
    if image.shape[0] == side:
        return image
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    resized = np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))
    return resized.reshape(side, side, image.shape[2])


def _crop(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _pad(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = max(height, width)
    rows, columns = side - height, side - width
    around = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(image, around, mode="edge")
