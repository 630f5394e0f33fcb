"""The channels that pictures may have, and what transparency means: the one place that decides both.

Inside the program an RGBA picture is premultiplied: its colours are multiplied by alpha, so that a transparent pixel
is 0 in all four channels, and means, resizing and losses see no colour that nobody sees. Alpha is straight in the files
that other programs read, and in what `Model.generate` returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.uint8]

KINDS = {1: "grey", 3: "RGB", 4: "RGBA"}
LISTED = "1 (grey), 3 (RGB) or 4 (RGBA)"
RGBA = 4
# Codecs of a store that hold transparency.
ALPHA_CODECS = ("raw", "png", "webp")

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)


def kind_of_channels(channels: int) -> str:
    """Returns the name of a number of channels."""
    return KINDS.get(channels, f"{channels} channels")


def parse_colour(text: str) -> Colour:
    """Parses a colour: a name of CSS, or `#rrggbb`. Raises `UsageError` for another text."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text.strip())[:3]
    except ValueError:
        raise UsageError(f"{text!r} is no colour; give a name or #rrggbb, as white or #204060") from None
    return red, green, blue


def premultiply(image: Images) -> Images:
    """Multiplies the colours of straight RGBA (..., 4) by alpha."""
    import numpy as np

    out = image.astype(np.uint16)
    out[..., :3] = (out[..., :3] * out[..., 3:] + 127) // 255
    return out.astype(np.uint8)


def straight(image: Images) -> Images:
    """Divides the colours of premultiplied RGBA (..., 4) by alpha; `premultiply` undoes it exactly. Others stay."""
    import numpy as np

    if image.shape[-1] != RGBA:
        return image
    out, alpha = image.astype(np.uint32), image[..., 3:].astype(np.uint32)
    # a network's colours may exceed its alpha by a little
    out[..., :3] = np.where(alpha > 0, np.minimum((out[..., :3] * 510 + alpha) // np.maximum(2 * alpha, 1), 255), 0)
    return out.astype(np.uint8)


def bound_by_alpha(image: Images) -> Images:
    """Returns premultiplied RGBA (..., 4) with no colour above alpha, where resampling overshot. Others stay."""
    import numpy as np

    if image.shape[-1] != RGBA:
        return image
    return np.concatenate([np.minimum(image[..., :3], image[..., 3:]), image[..., 3:]], axis=-1)


def over(image: Images, background: Colour = WHITE, axis: int = -1) -> Images:
    """Composites premultiplied RGBA over a colour: RGB. Pictures of other channels stay as they are.

    Args:
        image: uint8, any shape with the channels at `axis`.
        background: The colour.
        axis: Of the channels.
    """
    import numpy as np

    if image.shape[axis] != RGBA:
        return image
    values = np.moveaxis(image, axis, -1).astype(np.uint16)
    rest = np.array(background, np.uint16) * (255 - values[..., 3:])
    composite = np.minimum(values[..., :3] + (rest + 127) // 255, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(composite, -1, axis))
