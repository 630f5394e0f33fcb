"""Videos as streams: frames go to the encoder as they are made, and a file takes its name when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pggan.generation.images import enlarge, grid_image
from pggan.generation.latent_walks import LoopWalk, SeedWalk
from pggan.generation.video_formats import VideoFormat, check_fps, check_size, video_format
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import DataError, UsageError

if TYPE_CHECKING:
    from pggan.generation.model import Model

Frames = Iterable[NDArray[np.uint8]]
# Smaller pictures are shown enlarged, by whole factors, to at least this side.
SMALLEST_SIDE = 256
# Constant quality of H.264 (lower is better) and quality of WebP (higher is better).
H264_CRF, WEBP_QUALITY = "16", "90"


def write_video(path: str | Path, frames: Frames, fps: float) -> int:
    """Writes frames, uint8 (H, W, 3 or 1), all of one size, as .mp4 (H.264), .gif or .webp; returns their number.

    Nothing but the encoder's own window is kept in memory. Raises `UsageError` for an ending, size or rate that does
    not go, `DataError` without frames; a failure leaves no file.
    """
    path = Path(path)
    kind = video_format(path)
    check_fps(kind, fps)
    if path.is_dir():
        raise UsageError(f"{path} is a directory; give a file name ending in {kind.ending}")
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        count = _encode(temporary, kind, frames, fps)

    replace_atomically(path, write)
    return count


def _encode(path: Path, kind: VideoFormat, frames: Frames, fps: float) -> int:
    import av

    rate = Fraction(fps).limit_denominator(1000)
    options = {} if kind.ending == ".mp4" else {"loop": "0"}
    if kind.ending == ".mp4":
        options["movflags"] = "faststart"
    count = 0
    with av.open(str(path), "w", format=kind.muxer, options=options) as container:
        stream: Any = None
        palettes: _Palettes | None = None
        for picture in frames:
            shown = _prepared(picture, kind)
            if stream is None:
                stream = _stream(container, kind, shown, rate)
                palettes = _Palettes(shown, rate) if kind.ending == ".gif" else None
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = count, 1 / rate
            count += 1
            for ready in palettes.push(frame) if palettes else [frame]:
                container.mux(stream.encode(ready))
        if stream is None:
            raise DataError("there are no frames to make a video of")
        for ready in palettes.push(None) if palettes else []:
            container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    return count


def _prepared(picture: NDArray[np.uint8], kind: VideoFormat) -> NDArray[np.uint8]:
    """RGB, with even sides where the format needs them (the border repeated)."""
    if picture.shape[2] == 1:
        picture = picture.repeat(3, axis=2)
    if kind.even and (picture.shape[0] % 2 or picture.shape[1] % 2):
        picture = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)


def _stream(container: Any, kind: VideoFormat, picture: NDArray[np.uint8], rate: Fraction) -> Any:
    height, width = picture.shape[:2]
    check_size(kind, width, height)
    stream = container.add_stream(kind.encoder, rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, kind.pixels
    stream.codec_context.time_base = 1 / rate
    if kind.ending == ".mp4":
        # the conversion to YUV is that of BT.601: untagged, players take another one for large pictures
        colours = "colorprim=bt709:transfer=bt709:colormatrix=smpte170m"
        stream.options = {"crf": H264_CRF, "preset": "medium", "x264-params": colours}
    elif kind.ending == ".webp":
        stream.options = {"quality": WEBP_QUALITY}
    return stream


class _Palettes:
    """Gives each frame its own best 256 colours, one frame at a time."""

    def __init__(self, picture: NDArray[np.uint8], rate: Fraction) -> None:
        import av
        import av.filter

        height, width = picture.shape[:2]
        graph = av.filter.Graph()
        colours = av.VideoFormat("rgb24", width, height)
        source = graph.add_buffer(width=width, height=height, format=colours, time_base=1 / rate)
        split, sink = graph.add("split"), graph.add("buffersink")
        palette = graph.add("palettegen", "stats_mode=single")
        apply = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=5")
        source.link_to(split)
        split.link_to(apply, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(apply, 0, 1)
        apply.link_to(sink)
        graph.configure()
        self._graph, self._source, self._sink = graph, source, sink
        self._empty = (av.error.BlockingIOError, av.error.EOFError)

    def push(self, frame: Any) -> Iterator[Any]:
        """Takes a frame (None: the end) and yields those that are ready."""
        self._source.push(frame)
        while True:
            try:
                yield self._sink.pull()
            except self._empty:
                return


@dataclass(frozen=True)
class VideoOptions:
    """What a video shows. `seeds` empty: a smooth random loop decided by `seed`; else from seed to seed."""

    seconds: float = 8.0
    fps: float = 30.0
    grid: tuple[int, int] = (1, 1)
    seed: int = 0
    seeds: tuple[int, ...] = ()
    loop: bool = True
    method: str = "slerp"
    label: int | str | None = None
    scale: int | None = None

    @property
    def frames(self) -> int:
        return max(1, round(self.seconds * self.fps))


def interpolate(
    model: Model, path: str | Path, walk: VideoOptions, on_frames: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Writes a video of a walk through a model's latents; returns its frames, size and duration.

    In a conditional model `walk.label` holds throughout; without it each seed has its own class, blended on the way,
    and each cell of a random loop that of its own number. Raises as `write_video`.
    """
    kind = video_format(path)
    check_fps(kind, walk.fps)
    factor = walk.scale or max(1, -(-SMALLEST_SIDE // model.resolution))
    width, height = (tiles * model.resolution * factor for tiles in walk.grid)
    check_size(kind, width, height)
    count = write_video(path, frames(model, walk, factor, on_frames), walk.fps)
    return {
        "file": str(path),
        "frames": count,
        "width": width,
        "height": height,
        "fps": walk.fps,
        "seconds": count / walk.fps,
    }


def frames(
    model: Model, walk: VideoOptions, factor: int, on_frames: Callable[[int], None] = lambda done: None
) -> Iterator[NDArray[np.uint8]]:
    """The frames of a walk, (rows * R * factor, columns * R * factor, C), made in batches."""
    columns, rows = walk.grid
    cells = columns * rows
    path: LoopWalk | SeedWalk
    if walk.seeds:
        path = SeedWalk(walk.frames, cells, model.latent_size, walk.seeds, walk.loop, walk.method)
    else:
        path = LoopWalk(walk.frames, cells, model.latent_size, walk.fps, walk.seed)
    size = model.batch_size()
    together = max(1, size // cells)
    for start in range(0, walk.frames, together):
        numbers = range(start, min(start + together, walk.frames))
        latents = np.concatenate([_coded(model, walk, path, number) for number in numbers])
        labels = _labels(model, walk, path, numbers)
        pictures = np.concatenate(
            [
                model.pictures(latents[at : at + size], None if labels is None else labels[at : at + size])
                for at in range(0, len(latents), size)
            ]
        )
        for at in range(len(numbers)):
            yield grid_image(enlarge(pictures[at * cells : (at + 1) * cells], factor), columns, rows)
        on_frames(len(numbers))


def _coded(model: Model, walk: VideoOptions, path: LoopWalk | SeedWalk, number: int) -> NDArray[np.float32]:
    """The latents of a frame with their codes: a seed's own, blended on the way; a cell's own in a random loop."""
    latents = path.latents(number)
    if not model.codes.size:
        return latents
    if isinstance(path, SeedWalk):
        codes = path.blend(model.codes.of_seeds(walk.seeds), number, "linear")
    else:
        codes = model.codes.of_seeds(range(len(latents)))
    return np.concatenate([latents, codes], axis=1)


def _labels(model: Model, walk: VideoOptions, path: LoopWalk | SeedWalk, numbers: range) -> NDArray[np.float32] | None:
    if not model.label_size:
        model.seed_labels([0], walk.label)  # refuses a label that the model cannot take
        return None
    if isinstance(path, SeedWalk):
        own = model.labels.vectors(model.seed_classes(walk.seeds, walk.label))
        return np.concatenate([path.blend(own, number, "linear") for number in numbers])
    own = model.labels.vectors(model.labels.of_cells(walk.grid[0] * walk.grid[1], walk.label))
    return np.tile(own, (len(numbers), 1))
