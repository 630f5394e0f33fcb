"""Videos: frames can be decoded again, a failure leaves no file, memory does not grow with the length."""

from __future__ import annotations

import tracemalloc

import av
import numpy as np
import pytest
from PIL import Image

import pggan
from pggan.generation.video import VideoOptions, interpolate, write_video
from pggan.utils.errors import DataError, UsageError
from tests.helpers.model_files import saved


def moving(count, width=32, height=24, channels=3):
    """A bright square that moves to the right over a dark ground."""
    for i in range(count):
        frame = np.full((height, width, channels), 20, np.uint8)
        frame[8:16, i % (width - 8) : i % (width - 8) + 8] = 230
        yield frame


def decoded(path):
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    frames = []
    with Image.open(path) as picture:
        for i in range(picture.n_frames):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB")))
    return frames


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoded_frames_are_those_that_were_encoded(tmp_path, ending, channels):
    path = tmp_path / f"video{ending}"
    assert write_video(path, moving(12, channels=channels), 10) == 12
    frames = decoded(path)
    assert len(frames) == 12
    for frame, original in zip(frames, moving(12)):
        assert np.abs(frame.astype(int) - original).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".webp"])
def test_a_name_with_a_colon_is_a_file_too(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    assert write_video(f"12:30{ending}", moving(3), 10) == 3
    assert len(decoded(tmp_path / f"12:30{ending}")) == 3


def test_mp4_plays_in_browsers(tmp_path):
    path = tmp_path / "video.mp4"
    write_video(path, moving(10, width=33, height=17), 12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (34, 18)  # yuv420p has even sides
        assert float(stream.average_rate) == 12.5
        assert stream.frames == 10
        assert stream.codec_context.colorspace == 6  # SMPTE 170M, as converted
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")  # starts before it is whole


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_animations_repeat_for_ever_at_their_rate(tmp_path, ending):
    path = tmp_path / f"video{ending}"
    write_video(path, moving(5), 20)
    with Image.open(path) as picture:
        picture.seek(1)
        picture.load()
        assert picture.info["loop"] == 0
        assert picture.info["duration"] == 50


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".webp"])
def test_a_failure_leaves_no_file(tmp_path, ending):
    path = tmp_path / f"video{ending}"
    path.write_bytes(b"before")

    def breaks():
        yield from moving(3)
        raise RuntimeError("the generator broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_video(path, breaks(), 10)
    with pytest.raises(DataError, match="no frames"):
        write_video(path, iter(()), 10)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "name,fps,match",
    [("a.avi", 10, "does not end in one of .mp4"), ("a.gif", 60, "give less"), ("a.mp4", 0, "0 frames a second")],
)
def test_unknown_formats_and_impossible_frame_rates_are_refused(tmp_path, name, fps, match):
    with pytest.raises(UsageError, match=match):
        write_video(tmp_path / name, moving(2), fps)
    assert not list(tmp_path.iterdir())


def test_an_interpolation_loops_and_shows_a_grid(tmp_path):
    model = pggan.load(saved(tmp_path / "m.safetensors"), device="cpu")
    about = interpolate(model, tmp_path / "v.mp4", VideoOptions(seconds=2, fps=20, grid=(3, 2), scale=2))
    assert (about["frames"], about["width"], about["height"]) == (40, 96, 64)
    frames = [f.astype(int) for f in decoded(tmp_path / "v.mp4")]
    steps = [np.abs(a - b).mean() for a, b in zip(frames, [*frames[1:], frames[0]])]
    assert steps[-1] < 2 * np.median(steps) + 1  # the seam is a step like the others
    assert np.abs(frames[0] - frames[20]).mean() > 2 * np.median(steps)


def test_a_walk_between_seeds_shows_their_images_with_their_classes(tmp_path):
    model = pggan.load(saved(tmp_path / "c.safetensors", labels=3), device="cpu")
    walk = VideoOptions(seconds=1, fps=10, seeds=(1, 2), loop=False, scale=4)
    interpolate(model, tmp_path / "v.webp", walk)
    frames = decoded(tmp_path / "v.webp")
    for frame, seed in ((frames[0], 1), (frames[-1], 2)):
        picture = model.generate([seed])[0].repeat(4, 0).repeat(4, 1)
        assert np.abs(frame.astype(int) - picture).mean() < 20
    with pytest.raises(UsageError, match="kind0, kind1, kind2"):
        interpolate(model, tmp_path / "w.webp", VideoOptions(seconds=1, fps=10, label="kind9"))
    assert not (tmp_path / "w.webp").exists()


@pytest.mark.long
@pytest.mark.parametrize("ending", [".mp4", ".gif", ".webp"])
def test_memory_does_not_grow_with_the_length(tmp_path, ending):
    def peak(count):
        tracemalloc.start()
        write_video(tmp_path / f"v{ending}", moving(count), 30)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(5)
    assert peak(400) < peak(40) + 200_000  # 360 frames more are 830 kB
