"""Codecs of stored images: raw bytes, or PNG, WebP or JPEG through Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pggan.config.content.channels import ALPHA_CODECS, RGBA
from pggan.config.train import level_of
from pggan.data.image_header import ImageHeader, check_scans, read_header
from pggan.utils.errors import UsageError
from pggan.utils.formatting import one_line
from pggan.utils.limits import MAX_RECORD_EXTRA, MAX_RECORD_RATIO

CODECS = ("raw", "png", "webp", "jpeg")

# Largest resolution stored raw by default: nothing to decode while the network is fast, and little to save.
MAX_RAW = 64

# Decoders by codec that replace Pillow's: (bytes, channels) -> uint8 (C, H, W). `decoders.use_torchvision` sets them.
FAST_DECODERS: dict[str, Callable[[bytes, int], NDArray[np.uint8]]] = {}


def default_codec(resolution: int, channels: int) -> str:
    """Returns raw up to 64x64; above, lossless WebP for RGB and RGBA, and PNG for grey.

    On RGB portraits WebP is a third smaller than PNG and as fast to write and read; on grey ones PNG is a quarter
    smaller and written twice as fast.
    """
    return "raw" if resolution <= MAX_RAW else "png" if channels == 1 else "webp"


def choose_codecs(requested: str | None, resolutions: Iterable[int], channels: int = 3) -> dict[int, str]:
    """Returns the codec of each resolution.

    Args:
        requested: None for the defaults; a codec for all resolutions above 64x64; or pairs such as
            `256:webp,1024:jpeg`, each valid from its resolution up to that of the next pair.
        resolutions: Those of the store.
        channels: 1, 3 or 4.

    Raises:
        UsageError: `requested` names no codec or resolution, or one without transparency for RGBA.
    """
    chosen = _chosen_codecs(requested, resolutions, channels)
    if channels == RGBA and (lossy := set(chosen.values()) - set(ALPHA_CODECS)):
        raise UsageError(f"--codec {lossy.pop()} holds no transparency; give one of {', '.join(ALPHA_CODECS)}")
    return chosen


def _chosen_codecs(requested: str | None, resolutions: Iterable[int], channels: int) -> dict[int, str]:
    """Returns the codec of each resolution, see `choose_codecs`."""
    codecs = {side: default_codec(side, channels) for side in resolutions}
    if requested is None:
        return codecs
    if ":" not in requested:
        codec = _known(requested)
        return {side: codec if side > MAX_RAW else "raw" for side in codecs}
    starts: dict[int, str] = {}
    for pair in requested.split(","):
        side, _, codec = pair.partition(":")
        if not side.strip().isdecimal():
            raise UsageError(f"--codec {requested!r}: {pair!r} is not RESOLUTION:CODEC, such as 256:webp")
        check_resolution(int(side), "--codec")
        starts[int(side)] = _known(codec)
    for resolution in codecs:
        lower = [start for start in starts if start <= resolution]
        if lower:
            codecs[resolution] = starts[max(lower)]
    return codecs


def _known(codec: str) -> str:
    if codec.strip() not in CODECS:
        raise UsageError(f"--codec {codec.strip()!r} is none of {', '.join(CODECS)}")
    return codec.strip()


def check_resolution(side: int, option: str) -> None:
    """Raises `UsageError` that names the option if a side is no resolution."""
    try:
        level_of(side)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def encode(image: NDArray[np.uint8], codec: str, quality: int) -> bytes:
    """Encodes an image.

    Args:
        image: uint8 (C, R, R), C 1, 3 or 4.
        codec: One of CODECS.
        quality: Of JPEG, 1 to 100.
    """
    if codec == "raw":
        return image.tobytes()
    pil_image = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    out = io.BytesIO()
    if codec == "png":
        pil_image.save(out, "PNG", compress_level=1)
    elif codec == "webp":
        # the fastest lossless setting: slower ones save a tenth of the size and take five times as long
        mode = "RGBA" if len(image) == RGBA else "RGB"
        pil_image.convert(mode).save(out, "WEBP", lossless=True, method=0, quality=0, exact=True)
    else:
        # no chroma subsampling: training also reads the small levels
        pil_image.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def decode(data: bytes, codec: str, channels: int, resolution: int) -> NDArray[np.uint8]:
    """Decodes bytes of `encode` to uint8 (C, R, R). Whatever else they hold is refused before it is decoded.

    Args:
        data: The record.
        codec: One of CODECS.
        channels: C, 1, 3 or 4.
        resolution: R.

    Raises:
        ValueError: The data are damaged, or of another shape.
    """
    if codec == "raw":
        return np.frombuffer(data, np.uint8).reshape(channels, resolution, resolution)
    # WebP stores grey as three equal channels; decoding them and taking one is faster than converting
    stored_channels = max(channels, 3) if codec == "webp" else channels
    try:
        check_record(data, codec, ImageHeader(resolution, resolution, stored_channels))
        decoder = FAST_DECODERS.get(codec) or partial(_decode_with_pillow, codec)
        image = decoder(data, stored_channels)[:channels]
    except Exception as error:  # noqa: BLE001 (the decoders raise a dozen kinds for damaged data)
        raise ValueError(f"damaged {codec} record ({one_line(error)})") from None
    if image.shape != (channels, resolution, resolution):
        raise ValueError(f"a record of shape {image.shape} where ({channels}, {resolution}, {resolution}) belongs")
    return image


def max_record_bytes(channels: int, resolution: int) -> int:
    """Returns the largest size of a record, in bytes."""
    return MAX_RECORD_RATIO * channels * resolution**2 + MAX_RECORD_EXTRA


def check_record(data: bytes, codec: str, expected: ImageHeader) -> None:
    """Raises `ValueError` unless an encoded record's header is the expected one, and its work is bounded."""
    if len(data) > max_record_bytes(expected.channels, expected.width):
        raise ValueError(f"{len(data)} bytes are too many")
    header = read_header(data, codec)
    # a WebP of RGBA that is opaque all over is stored without alpha
    if header != expected and not (codec == "webp" and header == expected._replace(channels=3)):
        raise ValueError(f"it holds {_shape(header)} where {_shape(expected)} belong")
    if codec == "jpeg":
        check_scans(data)


def _shape(header: ImageHeader) -> str:
    return f"{header.width}x{header.height} pixels of {header.channels} channels, {header.bits} bits"


def _decode_with_pillow(codec: str, data: bytes, channels: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=[codec.upper()]) as pil_image:
        pixels = np.asarray(pil_image.convert({1: "L", 3: "RGB", RGBA: "RGBA"}[channels]))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
