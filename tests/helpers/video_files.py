"""Videos for the tests: lossless, unless another codec is named."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np


def write_video(path, pictures, fps=5, repeat=1, codec="ffv1", pixels="bgr0", options=None, kind=None, **settings):
    """A video of these pictures, each shown for `repeat` frames. `kind`: of an open file, its format."""
    width, height = pictures[0].size
    with av.open(path if kind else str(path), "w", format=kind) as file:
        stream = file.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.options = width, height, pixels, options or {}
        for name, value in settings.items():
            if callable(getattr(stream, name)):
                getattr(stream, name)(value)
            else:
                setattr(stream.codec_context, name, value)
        for number in range(len(pictures) * repeat):
            frame = av.VideoFrame.from_ndarray(np.asarray(pictures[number // repeat]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path
