"""Which video file a name asks for, and what that format allows. Torch-free: told before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pggan.utils.errors import UsageError


@dataclass(frozen=True)
class VideoFormat:
    """A container with its encoder. `max_side` in pixels, `max_area` in pixels, `max_fps` in frames a second."""

    ending: str
    muxer: str
    encoder: str
    pixels: str
    max_side: int
    max_area: int
    max_fps: float
    even: bool = False


FORMATS = {
    kind.ending: kind
    for kind in (
        # level 6.2, the highest of H.264 (table A-1): 139264 macroblocks; chroma of half the size needs even sides
        VideoFormat(".mp4", "mp4", "libx264", "yuv420p", 16384, 139264 * 256, 120, even=True),
        # delays are whole hundredths of a second, and browsers take less than two of them for ten
        VideoFormat(".gif", "gif", "gif", "pal8", 65535, 1 << 26, 50),
        VideoFormat(".webp", "webp", "libwebp", "yuv420p", 16383, 1 << 26, 120),
    )
}


def video_format(path: str | Path) -> VideoFormat:
    """The format by file ending (.mp4, .gif, .webp); raises `UsageError` for another one."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise UsageError(f"{path} does not end in one of {', '.join(FORMATS)}, which choose the video format")
    return FORMATS[ending]


def check_fps(kind: VideoFormat, fps: float) -> None:
    """Raises `UsageError` for a frame rate that the format cannot hold."""
    if not 0 < fps <= kind.max_fps:
        raise UsageError(f"{fps:g} frames a second do not go into {kind.ending} (up to {kind.max_fps:g}); give less")


def check_size(kind: VideoFormat, width: int, height: int) -> None:
    """Raises `UsageError` for frames that the format cannot hold."""
    if max(width, height) > kind.max_side or width * height > kind.max_area:
        raise UsageError(
            f"frames of {width}x{height} are too large for {kind.ending} (up to {kind.max_side} pixels a side and "
            f"{kind.max_area} in all); use a smaller --grid or --scale"
        )
