"""Video encoding frame by frame, and interpolation videos: walks through a model's latent space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import WHITE, Colour, over
from pggan.generation.grid import Images, enlarge, grid_image
from pggan.generation.latent_walks import LoopWalk, SeedWalk
from pggan.generation.marking.video_mark import add_mark
from pggan.generation.marking.xmp import synthetic_mark
from pggan.generation.model import Model
from pggan.generation.video_formats import VideoFormat, check_fps, check_size, video_format
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import DataError, UsageError

Advance = Callable[[int], None]
# Smaller images are enlarged by a whole factor to at least this side.
SMALLEST_SIDE = 256
# Constant quality of H.264 (lower is better) and quality of WebP (higher is better).
H264_CRF, WEBP_QUALITY = "16", "90"


def write_video(path: str | Path, frames: Iterable[Images], fps: float, background: Colour = WHITE) -> int:
    """Writes a video with the synthetic mark, holding no more frames in memory than the encoder needs.

    Args:
        path: File ending in .mp4 (H.264), .gif or .webp; it appears when it is complete.
        frames: uint8 (H, W, C), all of one size.
        fps: Frames a second.
        background: Colour behind RGBA frames.

    Returns:
        The number of frames.

    Raises:
        UsageError: The format is unknown, or cannot hold the size or rate.
        DataError: There are no frames.
    """
    path = Path(path)
    container = video_format(path)
    check_fps(container, fps)
    if path.is_dir():
        raise UsageError(f"{path} is a directory; give a file name ending in {container.ending}")
    path.parent.mkdir(parents=True, exist_ok=True)
    counts: list[int] = []
    opaque = (over(image, background) for image in frames)

    def write(temporary: Path) -> None:
        counts.append(_encode(temporary, container, opaque, fps))
        if (mark := synthetic_mark()) is not None:
            add_mark(temporary, container.ending, mark)

    replace_atomically(path, write)
    return counts[0]


def _encode(path: Path, container: VideoFormat, frames: Iterable[Images], fps: float) -> int:
    import av

    rate = Fraction(fps).limit_denominator(1000)
    # faststart: the index comes first, so that a browser plays the file while it loads; loop 0: for ever
    options = {"movflags": "faststart"} if container.ending == ".mp4" else {"loop": "0"}
    count = 0
    # an absolute name: FFmpeg would take what is before a colon, as in 12:30.mp4, for a protocol
    with av.open(str(path.absolute()), "w", format=container.muxer, options=options) as file:
        stream: Any = None
        palettes: _PaletteFilter | None = None
        for image in frames:
            rgb = _to_rgb(image, container)
            if stream is None:
                stream = _add_stream(file, container, rgb, rate)
                palettes = _PaletteFilter(rgb, rate) if container.ending == ".gif" else None
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = count, 1 / rate
            count += 1
            for filtered in palettes.push(frame) if palettes else [frame]:
                file.mux(stream.encode(filtered))
        if stream is None:
            raise DataError("there are no frames to make a video of")
        for filtered in palettes.push(None) if palettes else []:
            file.mux(stream.encode(filtered))
        file.mux(stream.encode(None))
    return count


def _to_rgb(image: Images, container: VideoFormat) -> Images:
    """Returns an image with 3 channels, and with even sides where the format needs them (the border repeated)."""
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    if container.even and (image.shape[0] % 2 or image.shape[1] % 2):
        image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)


def _add_stream(file: Any, container: VideoFormat, image: Images, rate: Fraction) -> Any:
    height, width = image.shape[:2]
    check_size(container, width, height)
    stream = file.add_stream(container.encoder, rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, container.pixels
    stream.codec_context.time_base = 1 / rate
    if container.ending == ".mp4":
        # the conversion to YUV is that of BT.601; without this tag players assume another one for large videos
        colours = "colorprim=bt709:transfer=bt709:colormatrix=smpte170m"
        stream.options = {"crf": H264_CRF, "preset": "medium", "x264-params": colours}
    elif container.ending == ".webp":
        stream.options = {"quality": WEBP_QUALITY}
    return stream


class _PaletteFilter:
    """Reduces each frame to its own best 256 colours (FFmpeg's palettegen and paletteuse), for GIF."""

    def __init__(self, image: Images, rate: Fraction) -> None:
        import av
        import av.filter

        height, width = image.shape[:2]
        graph = av.filter.Graph()
        pixels = av.VideoFormat("rgb24", width, height)
        source = graph.add_buffer(width=width, height=height, format=pixels, time_base=1 / rate)
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
        """Takes a frame (None: the end) and yields the frames that are ready."""
        self._source.push(frame)
        while True:
            try:
                yield self._sink.pull()
            except self._empty:
                return


@dataclass(frozen=True)
class VideoOptions:
    """What an interpolation video shows."""

    seconds: float = 8.0
    fps: float = 30.0
    grid: tuple[int, int] = (1, 1)  # columns and rows of walks side by side
    seed: int = 0  # of a smooth random loop, where `seeds` is empty
    seeds: tuple[int, ...] = ()  # a walk from seed to seed
    loop: bool = True  # of a walk between seeds: back to the first one
    method: str = "slerp"  # of a walk between seeds
    label: int | str | None = None  # class throughout; None: each seed's or cell's own, blended
    scale: int | None = None  # enlargement; None: to 256 pixels a side at least
    background: Colour = WHITE  # behind RGBA pictures

    @property
    def frames(self) -> int:
        return max(1, round(self.seconds * self.fps))


def interpolate(
    model: Model, path: str | Path, options: VideoOptions, advance: Advance = lambda frames: None
) -> dict[str, Any]:
    """Writes a video of a walk through a model's latent space.

    Of a conditional model without `options.label`, every seed has its own class, blended between two of them, and every
    cell of a random loop has the class of its number.

    Args:
        model: The model.
        path: File ending in .mp4, .gif or .webp.
        options: What the video shows.
        advance: Is called with the number of frames computed since the last call.

    Returns:
        File, frames, width, height, fps and seconds.

    Raises:
        UsageError: See `write_video`, or the model lacks the label.
    """
    frames = _interpolation_frames(model, options, advance)
    return write_grid_video(
        path, frames, options.grid, model.resolution, options.scale, options.fps, options.background
    )


def write_grid_video(
    path: str | Path, frames: Iterable[Images], grid: tuple[int, int], resolution: int, scale: int | None, fps: float,
    background: Colour = WHITE,
) -> dict[str, Any]:  # fmt: skip
    """Writes a video whose frames are grids of enlarged images.

    Args:
        path: File ending in .mp4, .gif or .webp.
        frames: The images of each frame, (rows * columns, R, R, C).
        grid: Columns and rows.
        resolution: R.
        scale: Enlargement; None: to 256 pixels a side at least.
        fps: Frames a second.
        background: Colour behind RGBA images.

    Returns:
        File, frames, width, height, fps and seconds.

    Raises:
        UsageError: See `write_video`.
    """
    factor = scale or max(1, -(-SMALLEST_SIDE // resolution))
    width, height = (tiles * resolution * factor for tiles in grid)
    check_size(video_format(path), width, height)  # before any frame is computed
    count = write_video(path, (grid_image(enlarge(images, factor), *grid) for images in frames), fps, background)
    return {"file": str(path), "frames": count, "width": width, "height": height, "fps": fps, "seconds": count / fps}


def _interpolation_frames(model: Model, options: VideoOptions, advance: Advance) -> Iterator[Images]:
    """Yields the images of each frame of a walk, (cells, R, R, C), computed in batches."""
    cells = options.grid[0] * options.grid[1]
    walk: LoopWalk | SeedWalk
    if options.seeds:
        walk = SeedWalk(options.frames, cells, model.latent_size, options.seeds, options.loop, options.method)
    else:
        walk = LoopWalk(options.frames, cells, model.latent_size, options.fps, options.seed)
    frames_at_once = max(1, model.batch_size() // cells)
    for start in range(0, options.frames, frames_at_once):
        numbers = range(start, min(start + frames_at_once, options.frames))
        latents = np.concatenate([_latents_with_codes(model, options, walk, number) for number in numbers])
        images = model.images_in_batches(latents, _label_vectors(model, options, walk, numbers))
        yield from np.split(images, len(numbers))
        advance(len(numbers))


def _latents_with_codes(
    model: Model, options: VideoOptions, walk: LoopWalk | SeedWalk, number: int
) -> NDArray[np.float32]:
    """Returns a frame's latents and codes: the seeds' codes, blended; in a random loop each cell's own."""
    latents = walk.latents(number)
    if not model.codes.size:
        return latents
    if isinstance(walk, SeedWalk):
        codes = walk.blend(model.codes.of_seeds(options.seeds), number, "linear")
    else:
        codes = model.codes.of_seeds(range(len(latents)))
    return np.concatenate([latents, codes], axis=1)


def _label_vectors(
    model: Model, options: VideoOptions, walk: LoopWalk | SeedWalk, numbers: range
) -> NDArray[np.float32] | None:
    """Returns the label vectors of all cells of the frames `numbers`, None for a model without labels."""
    if not model.label_size:
        model.seed_labels([0], options.label)  # refuses a label that the model cannot take
        return None
    if isinstance(walk, SeedWalk):
        vectors = model.labels.vectors(model.seed_entries(options.seeds, options.label))
        return np.concatenate([walk.blend(vectors, number, "linear") for number in numbers])
    vectors = model.labels.vectors(model.labels.of_cells(walk.cells, options.label))
    return np.tile(vectors, (len(numbers), 1))
