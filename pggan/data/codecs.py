"""How a picture of one resolution is kept: raw bytes, or compressed by Pillow."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CODECS = ("raw", "png", "webp", "jpeg")

# Up to here raw bytes are the default: nothing to decode while the network is fast, and little to save.
LAST_RAW = 64


def default_codec(resolution: int) -> str:
    """Raw to 64x64, lossless WebP above: on portraits it is a third smaller than PNG and as fast to write and read."""
    return "raw" if resolution <= LAST_RAW else "webp"


def encode(image: NDArray[np.uint8], codec: str, quality: int) -> bytes:
    """Bytes of a picture (C, R, R), C 1 or 3. `quality` is JPEG's, 1 to 100."""
    if codec == "raw":
        return image.tobytes()
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    out = io.BytesIO()
    if codec == "png":
        picture.save(out, "PNG", compress_level=1)
    elif codec == "webp":
        # the fastest lossless setting: slower ones save a tenth of the size at five times the time
        picture.convert("RGB").save(out, "WEBP", lossless=True, method=0, quality=0)
    else:
        # no chroma subsampling: small pictures are trained on
        picture.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def decode(data: bytes, codec: str, channels: int, resolution: int) -> NDArray[np.uint8]:
    """The picture (C, R, R) of `encode`'s bytes. Raises `ValueError` where they are damaged or of another size."""
    if codec == "raw":
        return np.frombuffer(data, np.uint8).reshape(channels, resolution, resolution)
    try:
        with Image.open(io.BytesIO(data), formats=[codec.upper()]) as picture:
            found = np.asarray(picture.convert("L" if channels == 1 else "RGB") if codec != "webp" else picture)
    except Exception as error:  # noqa: BLE001 (Pillow raises a dozen kinds for damaged data)
        raise ValueError(f"damaged {codec} record ({error})") from None
    if found.ndim == 2:
        found = found[:, :, None]
    found = found[:, :, :channels].transpose(2, 0, 1)
    if found.shape != (channels, resolution, resolution):
        raise ValueError(f"a record of shape {found.shape} where ({channels}, {resolution}, {resolution}) belongs")
    return found
