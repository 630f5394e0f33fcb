"""Decodes image files to plain 8-bit arrays (colour modes, EXIF orientation) and fits them to squares."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pggan.config.content.channels import RGBA, bound_by_alpha, premultiply
from pggan.data.image_header import check_scans, without_text
from pggan.data.sources.base import BadImage
from pggan.data.sources.image_file import no_warnings, open_image, orientation_of, reason_of
from pggan.data.sources.passed_over import has_image_ending, is_passed_folder
from pggan.data.sources.phone_formats import bits_of_heif, has_other_colours
from pggan.utils.limits import MAX_FILE_BYTES, MAX_PIXELS

# Noted of a TIFF with several pages, where a source does not look for them.
FIRST_PAGE = "first page of several"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_image_name(name: str) -> bool:
    """Whether a path has the ending of an image. Not of hidden files, nor in folders that are passed over."""
    parts = name.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") and part.strip(".") for part in parts)
    return has_image_ending(parts[-1]) and not hidden and not any(map(is_passed_folder, parts[:-1]))


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Returns width and height as shown (EXIF orientation applied), from the header. Raises `BadImage`."""
    try:
        pil_image = open_image(file)
    except BadImage:
        file.seek(0)
        if (smaller := without_text(file.read(MAX_FILE_BYTES))) is None:
            raise
        pil_image = open_image(io.BytesIO(smaller))
    # Pillow applies the orientation of TIFFs itself
    transposed = pil_image.format != "TIFF" and orientation_of(pil_image) in (5, 6, 7, 8)
    return pil_image.size[::-1] if transposed else pil_image.size


def read_image(data: bytes, channels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decodes a file's bytes to uint8 (H, W, channels), RGBA premultiplied; also returns the conversions applied.

    Raises `BadImage`.
    """
    try:
        pil_image = open_image(io.BytesIO(data))
        return _decode(pil_image, data, channels)
    except BadImage:
        # only what Pillow refuses to hold: text and profiles may also say how the picture is turned
        if (smaller := without_text(data)) is None:
            raise
        return _decode(open_image(io.BytesIO(smaller)), smaller, channels)


def read_page(file: BinaryIO, channels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decodes the first page of a TIFF as `read_image` does; that there are others is no conversion here."""
    image, notes = _decode(open_image(file), b"", channels)
    return image, tuple(note for note in notes if note != FIRST_PAGE)


def _decode(pil_image: Image.Image, data: bytes, channels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decodes an image of a file's bytes, which only PNG and JPEG need here; see `read_image`."""
    notes = [FIRST_PAGE] if pil_image.format == "TIFF" and getattr(pil_image, "is_animated", False) else []
    try:
        with no_warnings():
            if pil_image.format in ("JPEG", "MPO"):
                check_scans(data)
            upright = _to_srgb(_upright(pil_image, notes), notes)
            array = _to_array(upright, _bits(pil_image, data), channels, notes)
        return array, tuple(notes)
    except Exception as error:  # noqa: BLE001 (Pillow raises a dozen kinds for damaged files)
        raise BadImage(reason_of(error)) from None


def convert_channels(image: NDArray[np.uint8], channels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Converts an array (H, W, 1, 3 or straight 4) to 1, 3 or premultiplied 4 channels.

    Also returns the conversions applied.
    """
    if image.shape[2] == channels:
        return premultiply(image) if channels == RGBA else image, ()
    notes: list[str] = []
    pil_image = Image.fromarray(image) if image.shape[2] == RGBA else to_pil(image)
    return _to_array(pil_image, 8, channels, notes), tuple(notes)


def to_pil(image: NDArray[np.uint8]) -> Image.Image:
    """Converts an array (H, W, C), RGBA premultiplied, to Pillow's image."""
    if image.shape[2] == RGBA:
        return Image.frombytes("RGBa", image.shape[1::-1], np.ascontiguousarray(image).tobytes())
    return Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))


def _to_array(pil_image: Image.Image, bits: int, channels: int, notes: list[str]) -> NDArray[np.uint8]:
    """Converts any mode to an array (H, W, channels); `bits` are those of a channel in the file."""
    if channels == RGBA:
        return premultiply(np.asarray(_to_rgba(pil_image, bits, notes)))
    array = np.asarray(_to_mode(_to_8_bits(pil_image, bits, notes), channels, notes))
    return array.reshape(*array.shape[:2], channels)


def _to_rgba(pil_image: Image.Image, bits: int, notes: list[str]) -> Image.Image:
    """Converts any mode to straight "RGBA"; pictures without transparency are opaque."""
    if _has_transparency(pil_image):
        notes += [f"{bits}-bit"] if bits > 8 else []
        return _with_alpha(pil_image)
    notes.append("opaque all over")
    return _to_mode(_to_8_bits(pil_image, bits, notes), 3, notes).convert("RGBA")


def _with_alpha(pil_image: Image.Image) -> Image.Image:
    """Converts an image with transparency to "RGBA"."""
    if not pil_image.mode.startswith("I"):
        return pil_image.convert("RGBA")
    # Pillow would clip it, and its one transparent grey has 16 bits
    values = np.asarray(pil_image)
    alpha = np.where(values == pil_image.info["transparency"], 0, 255).astype(np.uint8)
    bands = [Image.fromarray(band) for band in (_integer_to_8_bits(values), alpha)]
    return Image.merge("LA", bands).convert("RGBA")


def _has_transparency(pil_image: Image.Image) -> bool:
    return pil_image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in pil_image.info


def _to_mode(pil_image: Image.Image, channels: int, notes: list[str]) -> Image.Image:
    """Converts between "L" (1 channel) and "RGB" (3)."""
    mode = "L" if channels == 1 else "RGB"
    if pil_image.mode == mode:
        return pil_image
    notes.append("grey to colour" if mode == "RGB" else "colour to grey")
    return pil_image.convert(mode)


def _upright(pil_image: Image.Image, notes: list[str]) -> Image.Image:
    """Decodes the first frame and applies the EXIF orientation."""
    if orientation_of(pil_image) in _TURNS:
        notes.append("turned by EXIF orientation")
    pil_image.load()
    # read again: decoding a TIFF applies the orientation and removes the tag
    turn = _TURNS.get(orientation_of(pil_image))
    return pil_image if turn is None else pil_image.transpose(turn)


def _to_srgb(pil_image: Image.Image, notes: list[str]) -> Image.Image:
    """Converts colours of another ICC profile to sRGB, as screens and other pictures have them: Display P3, Adobe RGB.

    A profile that cannot be read, or is of other colours than the picture, is passed over, and noted.
    """
    profile = pil_image.info.get("icc_profile")
    if not profile and has_other_colours(pil_image):
        notes.append("colour profile passed over")
    if not profile or pil_image.mode not in ("RGB", "RGBA", "CMYK", "P", "PA"):
        return pil_image
    original = pil_image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return pil_image
        if pil_image.mode in ("P", "PA"):
            pil_image = pil_image.convert("RGBA" if _has_transparency(pil_image) else "RGB")
        colours = pil_image.convert("RGB") if pil_image.mode == "RGBA" else pil_image
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(colours, source, srgb, ImageCms.Intent.PERCEPTUAL, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        notes.append("colour profile passed over")
        return original
    assert converted is not None, "only in place there is none"
    notes.append("colour profile to sRGB")
    if pil_image.mode == "RGBA":
        converted.putalpha(pil_image.getchannel("A"))
    return converted


def _bits(pil_image: Image.Image, data: bytes) -> int:
    """Returns the bits per channel in the file: Pillow reduces 16-bit colour to 8 bits silently."""
    if pil_image.format == "PNG":
        return data[24]
    if pil_image.format == "TIFF":
        return max(pil_image.tag_v2.get(258, (8,)))  # type: ignore[attr-defined]
    return bits_of_heif(pil_image) if pil_image.format == "HEIF" else 8


def _to_8_bits(pil_image: Image.Image, bits: int, notes: list[str]) -> Image.Image:
    """Converts any mode to "L" or "RGB" of 8 bits; transparency is composited over white."""
    mode = pil_image.mode
    if mode == "F":
        notes.append("floating point")
        return Image.fromarray(_float_to_8_bits(np.asarray(pil_image)))
    if bits > 8:
        notes.append(f"{bits}-bit")
        _note_dark(pil_image, bits, notes)
    if mode.startswith("I") and not _has_transparency(pil_image):
        return Image.fromarray(_integer_to_8_bits(np.asarray(pil_image)))
    if _has_transparency(pil_image):
        rgba = _with_alpha(pil_image)
        opaque = np.asarray(rgba)[:, :, 3].min() == 255
        notes.append("alpha channel dropped, opaque all over" if opaque else "transparency over white")
        composite = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return composite.convert("L" if mode in ("L", "LA", "La") or mode.startswith("I") else "RGB")
    if mode in ("L", "RGB"):
        return pil_image
    if mode == "1":
        notes.append("1-bit")
        return pil_image.convert("L")
    notes.append({"P": "palette"}.get(mode, mode))
    return pil_image.convert("RGB")


def _note_dark(pil_image: Image.Image, bits: int, notes: list[str]) -> None:
    """Adds a note where no colour reaches 1/16 of the range, as in 12-bit data that a program saved in 16 bits."""
    if pil_image.mode.startswith("I"):
        top = np.asarray(pil_image).max(initial=0)
        limit = 1 << ((16 if top <= 65535 else bits) - 4)  # the range from which `_integer_to_8_bits` rescales
    else:  # 8 bits already
        colour = pil_image.convert("L" if pil_image.mode in ("L", "LA", "La") else "RGB")
        top, limit = np.asarray(colour).max(initial=0), 16
    if top < limit:
        notes.append(f"{bits}-bit, all of it below 1/16 of the range, nearly black")


def _integer_to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Rescales from the whole range of 16 bits, or of 32 bits if any value needs them; never clips."""
    if values.dtype.itemsize > 2 and values.max(initial=0) > 65535:
        return np.rint(values.astype(np.uint32) * (255.0 / 0xFFFFFFFF)).astype(np.uint8)
    return np.rint(np.maximum(values, 0) * (255.0 / 65535.0)).astype(np.uint8)


def _float_to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Rescales from 0..1 (highlights may exceed it), or from 0..255 or 0..65535 if the largest value suggests that."""
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    largest = values.max(initial=0)
    top = 1.0 if largest <= 4 else 255.0 if largest <= 300 else 65535.0
    return np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8)


def fitted_side(width: int, height: int, how: str) -> int:
    """Returns the side of the square that `fit_to_square` makes before it resizes, in pixels. `how`: as there."""
    if how == "frame":
        return 1 << (max(width, height) - 1).bit_length()
    return max(width, height) if how == "pad" else min(width, height)


def fit_to_square(image: NDArray[np.uint8], side: int, how: str) -> NDArray[np.uint8]:
    """Makes an image (H, W, C) square and resizes it to (side, side, C).

    Args:
        image: uint8.
        side: In pixels.
        how: "crop" at the centre, "pad" with the border's pixels, "frame": pad to a power of two, also square images,
            or "reject" non-square images.

    Raises:
        BadImage: The image is not square and `how` is "reject", or its square is above MAX_PIXELS.
    """
    height, width = image.shape[:2]
    if height != width and how == "reject":
        raise BadImage(f"{width}x{height} is not square (--fit reject)")
    square_side = fitted_side(width, height, how)
    if square_side**2 > MAX_PIXELS:
        raise BadImage(
            f"padded to {square_side}x{square_side}; the limit is {MAX_PIXELS // 10**6} million pixels, or --fit crop"
        )
    if (height, width) != (square_side, square_side):
        image = _crop(image) if how == "crop" else _pad(image, square_side)
    if image.shape[0] == side:
        return image
    resized = np.asarray(to_pil(image).resize((side, side), Image.Resampling.LANCZOS))
    return bound_by_alpha(resized.reshape(side, side, image.shape[2]))


def _crop(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _pad(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    rows, columns = side - height, side - width
    around = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(image, around, mode="edge")
