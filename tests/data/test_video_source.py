"""Videos as a source: which pictures, their times, turns and colours; scenes that stand still; damaged files."""

import os
import random
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.sources.base import SAME_SCENE, BadImage, UnwantedImage
from pggan.data.sources.face_table import FaceRow, FaceTable
from pggan.data.store.store import Store
from pggan.utils.errors import DataError, UsageError
from tests.helpers.fuzzing import mutate, refused
from tests.helpers.image_files import SHOWN, portrait, write_folder
from tests.helpers.label_sources import packed
from tests.helpers.source_files import read_all, stored
from tests.helpers.video_files import write_video

EXACT = {"codec": "ffv1", "pixels": "bgr0"}  # lossless, in Matroska
KINDS = {
    "a.mp4": {"codec": "libx264", "pixels": "yuv444p", "options": {"crf": "10"}},
    "b.mov": {"codec": "libx264", "pixels": "yuv444p", "options": {"crf": "10"}},
    "c.webm": {"codec": "libvpx-vp9", "pixels": "yuv444p", "options": {"crf": "8", "b": "0"}},
    "d.mkv": EXACT,
    "e.avi": {"codec": "mpeg4", "pixels": "yuv420p", "options": {"bf": "2", "qmin": "1", "qmax": "2"}},
}


def write_sound(path):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def names_of(source):
    names = [ref.name for ref in source.refs()]
    assert names == list(source.image_names())
    return names


@pytest.mark.parametrize("name", KINDS)
def test_one_picture_for_every_stretch(tmp_path, name):
    pictures = [portrait(i, 64) for i in range(7)]
    path = write_video(tmp_path / name, pictures, repeat=5, **KINDS[name])  # each for a second
    source = open_source(str(path))
    assert names_of(source) == [f"{name}@00-00-0{i}.00" for i in range(7)]
    images = read_all(source)
    assert len(images) == 7
    for image, picture in zip(images, pictures, strict=True):
        difference = np.abs(image.image.astype(int) - np.asarray(picture)).mean()
        assert difference == 0 if name == "d.mkv" else difference < 6


def test_times_and_stretches(tmp_path):
    path = write_video(tmp_path / "a.mkv", [portrait(i) for i in range(12)], fps=4)
    assert [n[-5:] for n in names_of(open_source(str(path), every=0.5))] == [
        f"0{i // 2}.{i % 2 * 5}0" for i in range(6)
    ]
    assert len(open_source(str(path), every=0.01)) == 12
    assert len(open_source(str(path), every=99.0)) == 1
    slow = write_video(tmp_path / "b.mkv", [portrait(i) for i in range(3)], fps=Fraction(1, 2600))
    assert names_of(open_source(str(slow), every=2600.0)) == [
        "b.mkv@00-00-00.00", "b.mkv@00-43-20.00", "b.mkv@01-26-40.00"
    ]  # fmt: skip
    for every in (0.001, float("nan"), float("inf"), -1.0):
        with pytest.raises(UsageError, match=r"--every .* is not from 0\.01 seconds"):
            open_source(str(path), every=every)
    with pytest.raises(UsageError, match="--every does not go with"):
        open_source(str(write_folder(tmp_path / "folder", 1)), every=1.0)


def test_long_gaps_are_sought_and_give_the_same_pictures(tmp_path, monkeypatch):
    pictures = [portrait(i) for i in range(60)]
    options = {"codec": "libx264", "pixels": "yuv420p", "options": {"g": "7", "bf": "2"}}
    path = write_video(tmp_path / "a.mp4", pictures, fps=1, **options)
    sought = read_all(open_source(str(path), every=13.0))
    monkeypatch.setattr("pggan.data.sources.video_file._SEEK_FROM", 1e9)
    decoded = read_all(open_source(str(path), every=13.0))
    assert len(sought) == len(decoded) == 5
    for one, other, picture in zip(sought, decoded, pictures[::13], strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert np.abs(one.image.astype(int) - np.asarray(picture)).mean() < 40


def test_a_scene_that_stands_still_gives_one_picture(tmp_path):
    """Noise and single steps of a slow fade are not another scene; what they add up to is."""
    dice = np.random.default_rng(0)
    still, other = np.asarray(portrait(1, 64)).astype(float), np.asarray(portrait(2, 64))
    noisy = [np.clip(still + dice.normal(0, 6, still.shape), 0, 255).astype(np.uint8) for _ in range(4)]
    fade = [np.full((64, 64, 3), 3 * i, np.uint8) for i in range(8)]
    frames = [*noisy, other, noisy[0], *fade]
    path = write_video(tmp_path / "a.mkv", [Image.fromarray(frame) for frame in frames], fps=1)
    outcomes = read_all(open_source(str(path)))
    taken = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, str)]
    assert taken == [0, 4, 5, 6, 8, 10, 12]
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} == {SAME_SCENE}
    report = prepare(str(path), tmp_path / "data", PrepareOptions())
    assert report.count == 7
    assert report.left_out == {SAME_SCENE: 7}


# a, b, c, d of the display matrix, by EXIF orientation
MATRICES = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("orientation", MATRICES)
def test_turns_and_mirrors_are_applied(tmp_path, orientation):
    if not hasattr(av.video.stream.VideoStream, "set_display_matrix"):
        pytest.skip("this PyAV writes no matrix")
    a, b, c, d = (65536 * n for n in MATRICES[orientation])
    picture = portrait(5, 64, height=48)
    settings = {"set_display_matrix": [a, b, 0, c, d, 0, 0, 0, 1 << 30]}
    path = write_video(tmp_path / "a.mp4", [picture], **KINDS["a.mp4"], **settings)
    (image,) = read_all(open_source(str(path)))
    shown = SHOWN[orientation](np.asarray(picture))
    assert image.image.shape == shown.shape
    assert np.abs(image.image.astype(int) - shown).mean() < 6
    assert image.notes == (("turned as the video says",) if orientation > 1 else ())


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_colours_are_those_that_the_video_says(tmp_path, matrix):
    """The luma of pure red differs by a tenth of the range between the two, so that a wrong one shows."""
    red = Image.new("RGB", (64, 64), (220, 30, 30))
    luma = {"bt709": (0.2126, 0.7152, 0.0722), "smpte170m": (0.299, 0.587, 0.114)}[matrix]
    r, g, b = np.array([220, 30, 30]) / 255
    y = np.dot(luma, (r, g, b))
    values = [16 + 219 * y, 128 + 224 * (b - y) / (2 - 2 * luma[2]), 128 + 224 * (r - y) / (2 - 2 * luma[0])]
    planes = np.stack([np.full((64, 64), round(value), np.uint8) for value in values])
    params = f"colorprim=bt709:transfer=bt709:colormatrix={matrix}"
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        stream.options = {"crf": "1", "x264-params": params}
        frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
        frame.pts, frame.time_base = 0, Fraction(1, 1)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    (image,) = read_all(open_source(str(tmp_path / "a.mp4")))
    assert np.abs(image.image.astype(int) - np.asarray(red)).max() < 5


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    settings = {"sample_aspect_ratio": Fraction(4, 3)}
    path = write_video(tmp_path / "a.mp4", [portrait(3, 48, height=64)], **KINDS["a.mp4"], **settings)
    (image,) = read_all(open_source(str(path)))
    assert image.image.shape == (64, 64, 3)
    assert image.notes == ("pixels made square",)


def test_folders_labels_workers_and_interruptions(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "films", 1)
    for name, first in (("ann/1.mkv", 0), ("ann/2.mkv", 3), ("bob/1.mkv", 6)):
        (folder / name).parent.mkdir(exist_ok=True)
        write_video(folder / name, [portrait(i) for i in range(first, first + 3)], fps=1)
    source = open_source(str(folder))
    assert names_of(source)[:4] == [f"ann/1.mkv@00-00-0{i}.00" for i in range(3)] + ["ann/2.mkv@00-00-00.00"]
    levels, rows = stored(folder, tmp_path / "one", labels="folders")
    assert rows == [("ann",)] * 6 + [("bob",)] * 3
    for number in range(9):
        np.testing.assert_array_equal(levels[32][number].transpose(1, 2, 0), np.asarray(portrait(number)))
    (folder / "labels.csv").write_text("file,who\nann/1.mkv,x\nann/2.mkv,y\nann/2.mkv@00-00-01.00,z\nbob/1.mkv,x\n")
    _, rows = stored(folder, tmp_path / "two", workers=2)
    assert [row[0] for row in rows] == list("xxxyzyxxx")

    seen = []

    def interrupt(done):
        seen.append(done)
        if len(seen) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr("pggan.data.store.writer.FLUSH_COUNT", 2)
    with pytest.raises(KeyboardInterrupt):
        prepare(str(folder), tmp_path / "three", PrepareOptions(labels="folders"), on_progress=interrupt)
    report = prepare(str(folder), tmp_path / "three", PrepareOptions(labels="folders"))
    assert 0 < report.resumed < 9
    with Store(tmp_path / "one") as one, Store(tmp_path / "three") as three:
        assert one.manifest.digests == three.manifest.digests


def test_faces_of_a_scene_that_stands_still_are_left_out_not_bad():
    reason = FaceTable([FaceRow("a.mp4@00-00-01.00", 0, SAME_SCENE)]).why_none("a.mp4@00-00-01.00")
    assert isinstance(reason, UnwantedImage)


@pytest.mark.parametrize("ending", ["", ".zip", ".tar"])
def test_videos_among_pictures_are_passed_over_and_counted(tmp_path, ending):
    folder = write_folder(tmp_path / "photos", 3)
    (folder / "0.MOV").write_bytes(b"x")
    source = open_source(str(packed(folder, tmp_path / f"p{ending}")))
    assert len(source) == 3
    assert source.remark == "passed over 1 .mov: a video, or a folder of videos alone, is a SOURCE of its own"


def test_pictures_among_videos_are_counted(tmp_path, monkeypatch):
    """Also those that no package reads, beside which phones save a short video each."""
    monkeypatch.setattr("pggan.data.sources.passed_over.reads", lambda kind: False)
    folder = write_folder(tmp_path / "films", 1)
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        write_video(folder / name, [portrait(0)])
    (folder / "a.heic").write_bytes(b"x")
    source = open_source(str(folder))
    assert len(source) == 3
    assert source.remark == "passed over 2 pictures among the videos: their folder alone is a SOURCE of its own"
    (folder / "b.heic").write_bytes(b"x")
    assert open_source(str(folder)).remark.startswith("passed over 3 .mkv: a video, or a folder of videos alone")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_pipes_named_like_videos_are_never_opened(tmp_path):
    write_video(tmp_path / "a.mkv", [portrait(0)])
    os.mkfifo(tmp_path / "b.mkv")
    assert read_all(open_source(str(tmp_path)))[1:] == ["not a whole video (it is no file)"]


def test_damaged_videos_give_one_line(tmp_path):
    pictures = [portrait(i) for i in range(30)]
    whole = write_video(tmp_path / "a.mp4", pictures, fps=1, **KINDS["a.mp4"]).read_bytes()
    wrong = {
        "empty.mp4": (b"", "an empty file"),
        "cut.mp4": (whole[: len(whole) // 2], "Invalid data"),
        "text.mp4": (b"<!doctype html>", "a saved web page"),
        "sound.mp4": (write_sound(tmp_path / "sound.mp4").read_bytes(), "no moving pictures, only sound"),
    }
    for name, (data, reason) in wrong.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(
            DataError, match=rf"\A.*{name} is not a whole video \(.*{reason}.*\); copy or save it again\Z"
        ):
            open_source(str(tmp_path / name))
    films = tmp_path / "films"
    films.mkdir()
    (films / "a.mp4").write_bytes(whole)
    (films / "b.mp4").write_bytes(whole[: len(whole) // 2])
    outcomes = read_all(open_source(str(films)))
    assert sum(not isinstance(outcome, str) for outcome in outcomes) == 30
    assert outcomes[-1].startswith("not a whole video (Invalid data")


def test_a_video_cut_short_gives_what_there_is_and_says_so(tmp_path):
    whole = write_video(tmp_path / "a.mkv", [portrait(i, 64) for i in range(40)], fps=1).read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) // 2])
    source = open_source(str(tmp_path / "a.mkv"))
    assert source.remark == "videos that end before their headers say, perhaps cut short: a.mkv"
    images = [image for image in read_all(source) if not isinstance(image, str)]
    assert 10 < len(images) < 30
    np.testing.assert_array_equal(images[5].image, np.asarray(portrait(5, 64)))


def test_lost_sound_ends_no_video(tmp_path):
    """The index comes first and all sound last, so that a cut takes the sound of pictures that are there."""
    if not hasattr(av.stream.Stream, "discard"):
        pytest.skip("this PyAV cannot leave streams out")
    with av.open(str(tmp_path / "a.mp4"), "w", options={"movflags": "faststart"}) as file:
        pictures, sound = file.add_stream("libx264", rate=2), file.add_stream("aac", rate=8000)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(np.asarray(portrait(number, 64)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            file.mux(pictures.encode(frame))
        file.mux(pictures.encode(None))
        for number in range(240):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 8000, number * 1024
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    whole = (tmp_path / "a.mp4").read_bytes()
    assert len(open_source(str(tmp_path / "a.mp4"))) == 30
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    source = open_source(str(tmp_path / "a.mp4"))
    assert len(source) > 10
    assert source.remark == "videos that end before their headers say, perhaps cut short: a.mp4"


def test_a_damaged_part_costs_its_own_pictures_alone(tmp_path):
    options = {"codec": "libx264", "pixels": "yuv420p", "options": {"g": "1"}}
    path = write_video(tmp_path / "a.mp4", [portrait(i, 64) for i in range(20)], fps=1, **options)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(data)
    outcomes = read_all(open_source(str(path)))
    bad = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(outcomes) == 20
    assert len(bad) < 6
    assert set(bad) <= {"damaged, cannot be decoded", SAME_SCENE}


def test_files_that_name_other_files_are_not_followed(tmp_path):
    """Playlists are no videos here, whatever they are called."""
    for name, text in {
        "a.mp4": "#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "b.mkv": "ffconcat version 1.0\nfile x\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="it is no MP4, MOV, WebM, MKV or AVI"):
            open_source(str(tmp_path / name))


@pytest.mark.long
def test_videos_of_other_bytes_give_pictures_or_reasons(tmp_path, fuzz_rounds):
    for name, settings in KINDS.items():
        whole = write_video(tmp_path / name, [portrait(i, 16) for i in range(4)], fps=1, **settings).read_bytes()
        for seed in range(fuzz_rounds(12)):
            (tmp_path / name).write_bytes(mutate(whole, random.Random(seed)))
            if refused(DataError, lambda path=tmp_path / name: open_source(str(path), every=0.5)):
                continue
            source = open_source(str(tmp_path / name), every=0.5)
            reader = source.reader(32, 0)
            for _, ref in zip(range(50), source.refs()):
                refused(BadImage, lambda reader=reader, ref=ref: reader.read(ref, 3))
