"""Videos: a file, or a folder of them, as pictures at even distances in time; a scene that stands still gives one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.array_choice import join_remarks
from pggan.data.sources.base import SAME_SCENE, BadImage, DecodedImage, Reader, Ref, UnwantedImage
from pggan.data.sources.file_base import NamedFilesSource, walk_once
from pggan.data.sources.image_io import convert_channels, is_image_name
from pggan.data.sources.phone_formats import ENDINGS
from pggan.data.sources.video_file import (
    MIN_EVERY,
    VIDEO_ENDINGS,
    Video,
    clock,
    demuxer_of,
    read_frames,
    reason_of,
    scan_video,
    thumbnail,
    to_image,
)
from pggan.utils.errors import DataError, UsageError
from pggan.utils.file_kind import head_of
from pggan.utils.formatting import printable

# Seconds between pictures, unless --every says otherwise.
EVERY = 1.0
# A picture that differs less from the last one taken shows the same scene: root of the mean square of the differences
# of 32x32 means in grey, of 255.
SAME_BELOW = 4.0
# Images in a folder without videos before which it is taken for a folder of images.
_LOOKED_AT = 1000
# Pictures that are decoded for a sample.
_SAMPLE = 8
_SHOWN = 3


class VideoImage(NamedTuple):
    """A decoded picture: the payload of its reference."""

    data: bytes  # RGB
    width: int
    height: int
    notes: tuple[str, ...]


class VideoReader(Reader):
    """A reference's payload: the `VideoImage`; why there is none; None for one of the same scene."""

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        content = self._content(ref)
        image = np.frombuffer(content.data, np.uint8).reshape(content.height, content.width, 3)
        converted, notes = convert_channels(image, channels)
        return DecodedImage(converted, (*content.notes, *notes))

    def size(self, ref: Ref) -> tuple[int, int]:
        content = self._content(ref)
        return content.width, content.height

    @staticmethod
    def _content(ref: Ref) -> VideoImage:
        if ref.payload is None:
            raise UnwantedImage(SAME_SCENE)
        if isinstance(ref.payload, str):
            raise BadImage(ref.payload)
        content: VideoImage = ref.payload
        return content


class VideoSource(NamedFilesSource):
    """Videos in natural order of their names. They are decoded here, one picture after the other; workers do the rest.

    Raises `DataError` for a single file that is no video; in a folder it is one bad image.
    """

    streamed = True
    choices = ("every",)

    def __init__(self, spec: str, every: float | None = None) -> None:
        every = EVERY if every is None else every
        if not (math.isfinite(every) and every >= MIN_EVERY):
            raise UsageError(f"--every {every:g} is not from {MIN_EVERY:g} seconds")
        self._root = spec if os.path.isdir(spec) else os.path.dirname(spec)
        names, images = _videos_in(spec) if os.path.isdir(spec) else ([os.path.basename(spec)], 0)
        super().__init__(spec, names)
        if images:
            self.remark = f"passed over {images} pictures among the videos: their folder alone is a SOURCE of its own"
        self._videos: dict[str, Video | str] = {}  # by name; or why it cannot be read
        for name in self._names:
            try:
                self._videos[name] = scan_video(os.path.join(self._root, name), every)
            except Exception as error:  # noqa: BLE001 (PyAV raises a dozen kinds)
                if not os.path.isdir(spec):
                    raise DataError(
                        f"{spec} is not a whole video ({reason_of(error)}); copy or save it again"
                    ) from None
                self._videos[name] = f"not a whole video ({reason_of(error)})"
        self.remark = join_remarks(self.remark, self._cut_remark())

    def _cut_remark(self) -> str | None:
        cut = [name for name, video in self._videos.items() if isinstance(video, Video) and video.cut]
        more = f" and {len(cut) - _SHOWN} more" if len(cut) > _SHOWN else ""
        listed = ", ".join(map(printable, cut[:_SHOWN]))
        return f"videos that end before their headers say, perhaps cut short: {listed}{more}" if cut else None

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isdir(spec):
            videos, images = _videos_in(spec)
            return len(videos) > images
        return os.path.isfile(spec) and (
            spec.lower().endswith(VIDEO_ENDINGS) or demuxer_of(head_of(Path(spec))) is not None
        )

    def __len__(self) -> int:
        return sum(1 if isinstance(video, str) else len(video.times) for video in self._videos.values())

    def refs(self) -> Iterable[Ref]:
        for name, video in self._videos.items():
            yield from _refs(name, video)

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        """Returns the first pictures of up to `count` videos: the rest would have to be decoded."""
        videos = list(self._videos.items())[: min(count, among)]
        each = max(1, min(_SAMPLE, count, among) // len(videos))
        for name, video in videos:
            for number, ref in enumerate(_refs(name, video), 1):
                yield ref
                if number == each:
                    break

    def image_names(self) -> Iterable[str]:
        for name, video in self._videos.items():
            yield from [name] if isinstance(video, str) else (_name(name, video, i) for i in range(len(video.times)))

    def reader(self, resolution: int, seed: int) -> Reader:
        return VideoReader()


def _refs(name: str, video: Video | str) -> Iterator[Ref]:
    """Decodes a video, and compares each picture with the last one taken."""
    if isinstance(video, str):
        yield Ref(name, video)
        return
    last: NDArray[np.float32] | None = None
    for number, frame, stream in read_frames(video):
        content: VideoImage | str | None
        try:
            small = thumbnail(frame) if frame is not None else None
            if small is None:
                content = "damaged, cannot be decoded"
            elif last is not None and float(np.sqrt(np.mean((small - last) ** 2))) < SAME_BELOW:
                content = None
            else:
                image, notes = to_image(frame, stream)
                content, last = VideoImage(image.tobytes(), image.shape[1], image.shape[0], notes), small
        except Exception as error:  # noqa: BLE001 (PyAV raises a dozen kinds)
            content = f"cannot be converted ({reason_of(error)})"
        yield Ref(_name(name, video, number), content)
        del content  # while the next one is decoded


def _name(name: str, video: Video, number: int) -> str:
    return f"{name}@{clock(video.seconds(number))}"


def _videos_in(folder: str) -> tuple[list[str], int]:
    """Returns the paths of the videos in a folder, and how many images there are, read or not.

    Images of folders without videos are counted up to a few.
    """
    videos: list[str] = []
    images = 0
    for place, files in walk_once(folder):
        for name in files:
            path = os.path.relpath(os.path.join(place, name), folder)
            if name.lower().endswith(VIDEO_ENDINGS) and not name.startswith("."):
                videos.append(path)
            images += is_image_name(path) or os.path.splitext(name)[1].lower() in ENDINGS
        if images > _LOOKED_AT > len(videos):
            break
    return videos, images
