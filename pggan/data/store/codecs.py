"""How a picture of one resolution is kept: raw bytes, or compressed by Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pggan.config.train import level_of
from pggan.utils.errors import UsageError
from pggan.utils.formatting import one_line

CODECS = ("raw", "png", "webp", "jpeg")

# Up to here raw bytes are the default: nothing to decode while the network is fast, and little to save.
LAST_RAW = 64

# By codec: from bytes and channels to a picture (C, H, W). Set by `decoders.use_torchvision`; else Pillow decodes.
FASTER: dict[str, Callable[[bytes, int], NDArray[np.uint8]]] = {}


def default_codec(resolution: int, channels: int) -> str:
    """Raw to 64x64; above, lossless WebP for colour and PNG for grey.

    On colour portraits WebP is a third smaller than PNG and as fast to write and read; on grey ones PNG is a quarter
    smaller and written twice as fast.
    """
    return "raw" if resolution <= LAST_RAW else "webp" if channels == 3 else "png"


def choose_codecs(wanted: str | None, resolutions: Iterable[int], channels: int = 3) -> dict[int, str]:
    """The codec of each resolution. `wanted` None: the default; a codec: that one above 64x64; else pairs such as
    `256:webp,1024:jpeg`, each from its resolution up to the next one named. Raises `UsageError`.
    """
    chosen = {side: default_codec(side, channels) for side in resolutions}
    if wanted is None:
        return chosen
    if ":" not in wanted:
        codec = _known(wanted)
        return {side: codec if side > LAST_RAW else "raw" for side in chosen}
    named: dict[int, str] = {}
    for pair in wanted.split(","):
        side, _, codec = pair.partition(":")
        if not side.strip().isdecimal():
            raise UsageError(f"--codec {wanted!r}: {pair!r} is not RESOLUTION:CODEC, such as 256:webp")
        named[_resolution(int(side))] = _known(codec)
    for resolution in chosen:
        below = [start for start in named if start <= resolution]
        if below:
            chosen[resolution] = named[max(below)]
    return chosen


def _known(codec: str) -> str:
    if codec.strip() not in CODECS:
        raise UsageError(f"--codec {codec.strip()!r} is none of {', '.join(CODECS)}")
    return codec.strip()


def _resolution(side: int) -> int:
    try:
        level_of(side)
    except UsageError as error:
        raise UsageError(f"--codec: {error}") from None
    return side


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
        # WebP keeps grey as three equal channels; to make grey of them would take time
        stored = 3 if codec == "webp" else channels
        found = (FASTER.get(codec) or _by_pillow(codec))(data, stored)[:channels]
    except Exception as error:  # noqa: BLE001 (the decoders raise a dozen kinds for damaged data)
        raise ValueError(f"damaged {codec} record ({one_line(error)})") from None
    if found.shape != (channels, resolution, resolution):
        raise ValueError(f"a record of shape {found.shape} where ({channels}, {resolution}, {resolution}) belongs")
    return found


def _by_pillow(codec: str) -> Callable[[bytes, int], NDArray[np.uint8]]:
    def decoded(data: bytes, channels: int) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(data), formats=[codec.upper()]) as picture:
            found = np.asarray(picture if codec == "webp" else picture.convert("L" if channels == 1 else "RGB"))
        return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)

    return decoded
