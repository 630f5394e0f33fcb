"""The synthetic mark: Pillow and PyAV read it from pictures and videos; --no-mark leaves it out; reals have none."""

import re
import xml.etree.ElementTree as ET

import av
import numpy as np
import pytest
from PIL import Image

from pggan.cli import run
from pggan.generation.images import encode_png, read_metadata, write_png
from pggan.generation.marking.xmp import SOURCE_TYPE, synthetic_mark, unmarked
from pggan.generation.video import write_video
from tests.helpers.model_files import saved

NAME = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def source_type(packet):
    """What an XML reader finds in a packet of XMP."""
    text = packet.decode("utf-8") if isinstance(packet, bytes) else packet
    body = re.sub(r"<\?xpacket[^>]*\?>", "", text)
    return [element.attrib[NAME] for element in ET.fromstring(body).iter() if NAME in element.attrib]


def of_picture(path):
    with Image.open(path) as image:
        image.load()
        packet = image.info.get("xmp") or _of_gif(path)
        return image.size, source_type(packet) if packet else []


def _of_gif(path):
    """The packet of a GIF, which Pillow passes over: all that lies before the bytes that end it."""
    _, name, rest = path.read_bytes().partition(b"\x21\xff\x0bXMP DataXMP")
    return rest.partition(b"\x01\xff\xfe\xfd")[0] if name else None


def of_video(path):
    with av.open(str(path), options={"export_xmp": "1"}) as file:
        packet = file.metadata.get("xmp")
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        return frames, source_type(packet) if packet else []


def frames(count, height=32, width=48):
    rng = np.random.default_rng(0)
    return [np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(count)]


def test_the_value_is_that_of_the_standard():
    assert SOURCE_TYPE == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert source_type(synthetic_mark()) == [SOURCE_TYPE]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pillow_reads_it_from_a_png_beside_our_entry(tmp_path, channels):
    image = np.arange(8 * 6 * channels, dtype=np.uint8).reshape(8, 6, channels)
    if channels == 4:
        image[..., 3] = 255  # what is opaque is the same premultiplied
    write_png(tmp_path / "a.png", image, {"seed": 7})
    assert of_picture(tmp_path / "a.png") == ((6, 8), [SOURCE_TYPE])
    assert read_metadata(tmp_path / "a.png") == {"seed": 7}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")).reshape(8, 6, channels), image)


def test_a_real_picture_is_not_marked():
    assert b"trainedAlgorithmicMedia" not in encode_png(frames(1)[0])


@pytest.mark.parametrize("ending", [".webp", ".gif"])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_pillow_reads_it_from_animations_whose_frames_stay(tmp_path, ending, count, size):
    path, shown = tmp_path / f"walk{ending}", frames(count, *size)
    assert write_video(path, shown, 10) == count
    assert of_picture(path) == (size[::-1], [SOURCE_TYPE])
    with unmarked():
        write_video(tmp_path / f"plain{ending}", shown, 10)
    assert of_picture(tmp_path / f"plain{ending}") == (size[::-1], [])
    with Image.open(path) as marked, Image.open(tmp_path / f"plain{ending}") as plain:
        assert marked.n_frames == plain.n_frames == count
        for number in range(count):
            marked.seek(number), plain.seek(number)
            assert np.array_equal(np.asarray(marked.convert("RGB")), np.asarray(plain.convert("RGB")))


def test_pyav_reads_it_from_an_mp4_whose_frames_stay(tmp_path):
    write_video(tmp_path / "walk.mp4", frames(5), 10)
    with unmarked():
        write_video(tmp_path / "plain.mp4", frames(5), 10)
    marked, found = of_video(tmp_path / "walk.mp4")
    plain, nothing = of_video(tmp_path / "plain.mp4")
    assert (found, nothing) == ([SOURCE_TYPE], [])
    assert len(marked) == 5
    assert np.array_equal(marked, plain)


@pytest.mark.parametrize("option", [[], ["--no-mark"]])
def test_the_commands_mark_unless_told_not_to(tmp_path, option, capsys):
    model = str(saved(tmp_path / "model.safetensors"))
    assert run(["generate", model, "--n", "2", "--out", str(tmp_path / "out"), *option]) == 0
    assert run(["interpolate", model, "--out", str(tmp_path / "walk.webp"), "--seconds", "0.2", *option]) == 0
    expected = [] if option else [SOURCE_TYPE]
    for path in [*(tmp_path / "out").glob("*.png"), tmp_path / "walk.webp"]:
        assert of_picture(path)[1] == expected
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    assert read_metadata(tmp_path / "out" / "seed0000000001.png")["seed"] == 1  # our own entry is there either way
    assert source_type(synthetic_mark()) == [SOURCE_TYPE]  # for what this process writes next
