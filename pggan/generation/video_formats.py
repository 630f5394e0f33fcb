"""Video formats by file ending, and their limits (torch-free: checked before anything heavy is imported)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pggan.utils.errors import UsageError


@dataclass(frozen=True)
class VideoFormat:
    """A container with its encoder, and what it can hold."""

    ending: str  # of the file name
    muxer: str  # FFmpeg's name of the container
    encoder: str  # FFmpeg's name of the codec
    pixels: str  # FFmpeg's name of the pixel format
    max_side: int  # pixels
    max_area: int  # pixels
    max_fps: float  # frames a second
    even: bool = False  # whether width and height have to be even


FORMATS = {
    container.ending: container
    for container in (
        # level 6.2, the highest of H.264 (table A-1), allows 139264 macroblocks; halved chroma needs even sides
        VideoFormat(".mp4", "mp4", "libx264", "yuv420p", 16384, 139264 * 256, 120, even=True),
        # delays are whole hundredths of a second, and browsers replace delays below two of them by ten
        VideoFormat(".gif", "gif", "gif", "pal8", 65535, 1 << 26, 50),
        VideoFormat(".webp", "webp", "libwebp", "yuv420p", 16383, 1 << 26, 120),
    )
}


def video_format(path: str | Path) -> VideoFormat:
    """Returns the format of a file name (.mp4, .gif, .webp); raises `UsageError` for another ending."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise UsageError(f"{path} does not end in one of {', '.join(FORMATS)}, which choose the video format")
    return FORMATS[ending]


def check_fps(container: VideoFormat, fps: float) -> None:
    """Raises `UsageError` for a frame rate that the format cannot hold."""
    if not 0 < fps <= container.max_fps:
        raise UsageError(
            f"{fps:g} frames a second do not go into {container.ending} (up to {container.max_fps:g}); give less"
        )


def check_size(container: VideoFormat, width: int, height: int) -> None:
    """Raises `UsageError` for frames that the format cannot hold."""
    if max(width, height) > container.max_side or width * height > container.max_area:
        raise UsageError(
            f"frames of {width}x{height} are too large for {container.ending} (up to {container.max_side} pixels a "
            f"side and {container.max_area} in all); use a smaller --grid or --scale"
        )
