"""Reads videos: which pictures there are, one for every stretch of some seconds, and the pictures as they are shown.

PyAV gets an open file and the name of its format, so that FFmpeg can follow no address that a file holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.utils.file_kind import AVIF, HEAD, HEIC, kind_of
from pggan.utils.formatting import one_line
from pggan.utils.limits import MAX_PIXELS, MAX_VIDEO_IMAGES

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
# The least stretch, in seconds.
MIN_EVERY = 0.01
# From this gap between pictures, in seconds, the key frame before the next one is sought; shorter gaps are decoded.
_SEEK_FROM = 10.0
# A header may promise this much more than there is, in seconds: sound may end later than the pictures.
_CUT_FROM = 2.0
_BUFFER = 1 << 18
# Boxes that begin a file of QuickTime or MP4.
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_HDR = {16: "HDR (PQ)", 18: "HDR (HLG)"}  # by transfer characteristics
_HD = 576  # lines; videos of more are in BT.709 where they do not say


class Video(NamedTuple):
    """A video and its pictures."""

    path: str
    times: list[int]  # of each picture, in units of `unit`; ascending
    start: int
    unit: Fraction  # seconds
    cut: bool  # whether it ends before its header says

    def seconds(self, number: int) -> float:
        """Returns when a picture is shown, in seconds from the beginning."""
        return float((self.times[number] - self.start) * self.unit)


def demuxer_of(head: bytes) -> str | None:
    """Returns FFmpeg's name of a video's format, by its first bytes; None: no video that is read."""
    if head[4:8] in _BOXES:
        return None if kind_of(head) in (HEIC, AVIF) else "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


@contextmanager
def _opened(path: str) -> Iterator[tuple[Any, Any]]:
    """Opens a video's container and its stream of pictures. Raises `ValueError` for a file that is none."""
    import av

    if not os.path.isfile(path):  # a pipe would wait for its writer
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        demuxer = demuxer_of(head := file.read(HEAD))
        if demuxer is None:
            raise ValueError(f"it is {kind_of(head) or 'no MP4, MOV, WebM, MKV or AVI'}")
        file.seek(0)
        with av.open(file, format=demuxer, buffer_size=_BUFFER) as container:
            streams = [stream for stream in container.streams.video if not _is_cover(stream)]
            if not streams:
                raise ValueError("it holds no moving pictures, only sound" if container.streams else "it holds nothing")
            stream = streams[0]
            if stream.codec_context is None:
                raise ValueError("its codec is not read")
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width}x{height} pixels; the limit is {MAX_PIXELS // 10**6} million")
            for other in container.streams:
                if other.index != stream.index:
                    with suppress(AttributeError):  # PyAV before it knew `discard`
                        other.discard = type(other.discard).all  # sound that a cut lost would end the file
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # what its frames say is bounded, too
            yield container, stream


def _is_cover(stream: Any) -> bool:
    """Whether a stream is the cover of an album, where PyAV tells it."""
    return "attached_pic" in str(getattr(stream, "disposition", "")).lower()


def scan_video(path: str, every: float) -> Video:
    """Finds the pictures of a video, the first of each stretch of `every` seconds, without decoding it.

    Raises `ValueError` or `OSError` for a file that is no whole video.
    """
    with _opened(path) as (container, stream):
        unit = Fraction(stream.time_base)
        step = Fraction(str(every)) / unit
        first: dict[int, int] = {}  # by stretch
        start = last = None
        for packet in container.demux(stream):
            time = packet.dts if packet.pts is None else packet.pts
            if time is None or not packet.size or packet.is_discard:
                continue
            start = time if start is None else start  # a key frame; those that are shown before it belong to none
            stretch = max(0, int((time - start) // step))
            first[stretch] = min(time, first.get(stretch, time))
            last = time if last is None else max(last, time)
            if len(first) > MAX_VIDEO_IMAGES:
                raise ValueError(f"more than {MAX_VIDEO_IMAGES} pictures; give a larger --every")
        if start is None or last is None:
            raise ValueError("it holds no pictures")
        promised = stream.duration * unit if stream.duration else Fraction(container.duration or 0, 1_000_000)
        cut = promised - (last - start) * unit > max(_CUT_FROM, promised / 20)
    return Video(path, sorted(first.values()), start, unit, cut)


def read_frames(video: Video) -> Iterator[tuple[int, Any, Any]]:
    """Yields number, frame (None: it cannot be decoded) and stream of every picture of a video, in order."""
    number = -1
    with suppress(Exception):  # whatever a damaged file raises: the rest of it is lost
        for number, frame, stream in _decoded(video):
            yield number, frame, stream
    for missing in range(number + 1, len(video.times)):
        yield missing, None, None


def _decoded(video: Video) -> Iterator[tuple[int, Any, Any]]:
    """Yields what `read_frames` does, up to the last picture that can be decoded."""
    times, number = video.times, 0
    with _opened(video.path) as (container, stream):
        while number < len(times):
            begin = number
            for frame in _frames(container, stream):
                if frame.pts < times[number]:
                    continue
                while number + 1 < len(times) and times[number + 1] <= frame.pts:
                    yield number, None, stream  # its own frame is damaged
                    number += 1
                yield number, frame, stream
                number += 1
                if number == len(times):
                    return
                if (times[number] - frame.pts) * video.unit > _SEEK_FROM:
                    container.seek(times[number], stream=stream)  # to the key frame before it
                    break
            if number == begin:
                return


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decodes what can be decoded."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
        except av.error.FFmpegError:  # the rest of the file is lost
            return
        with suppress(av.error.FFmpegError):  # a damaged part
            for frame in packet.decode():
                if frame.pts is not None and not frame.is_corrupt:
                    yield frame


def thumbnail(frame: Any) -> NDArray[np.float32]:
    """Returns a frame in grey, 32x32."""
    small = frame.reformat(width=32, height=32, format="gray", interpolation="AREA")
    return np.asarray(small.to_ndarray(), np.float32)


def to_image(frame: Any, stream: Any) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Returns a frame as it is shown, uint8 (H, W, 3), and the conversions applied."""
    notes = []
    width, height = frame.width, frame.height
    ratio = Fraction(stream.sample_aspect_ratio or 1)
    if ratio != 1 and Fraction(1, 8) < ratio < 8:
        notes.append("pixels made square")
        width, height = (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))
    if (bits := frame.format.components[0].bits) > 8:
        notes.append(f"{bits}-bit")
    if hdr := _HDR.get(int(getattr(frame, "color_trc", 0) or 0)):
        notes.append(f"{hdr} shown as it is")
    if frame.interlaced_frame:
        notes.append("interlaced")
    # PyAV 14 converts only where the two differ, else as from BT.601; for RGB the second one is none
    colours = {"src_colorspace": _colorspace(frame), "dst_colorspace": "ITU601"}
    rgb = frame.reformat(width, height, "rgb24", **colours).to_ndarray()
    image = _turned(rgb, frame)
    return image, (*notes, *(("turned as the video says",) if image is not rgb else ()))


def _colorspace(frame: Any) -> str:
    """Returns what the frame's colours are coded by: what it says, else BT.709 for HD and BT.601 for others."""
    from av.video.reformatter import Colorspace

    bt2020 = "BT2020" if hasattr(Colorspace, "BT2020") else "ITU709"
    known = {1: "ITU709", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: bt2020, 10: bt2020}
    return known.get(int(frame.colorspace), "ITU709" if frame.height > _HD else "ITU601")


def _turned(image: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """Applies the turn and mirror of a frame's display matrix, which maps (x, y) to (ax + cy, bx + dy)."""
    data = next((bytes(side) for side in frame.side_data if side.type.name == "DISPLAYMATRIX"), b"")
    if len(data) != 36:
        return image
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].astype(np.float64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    image = image[:, ::-1] if a < 0 else image
    return image[::-1] if d < 0 else image


def clock(seconds: float) -> str:
    """Returns a time as it stands in names: 00-01-05.20."""
    hundredths = int(seconds * 100 + 1e-6)
    return f"{hundredths // 360_000:02}-{hundredths // 6000 % 60:02}-{hundredths // 100 % 60:02}.{hundredths % 100:02}"


def reason_of(error: Exception) -> str:
    """Says in one line why a file cannot be read as a video."""
    return getattr(error, "strerror", None) or one_line(error)
