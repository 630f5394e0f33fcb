"""PNGs that other people's decoders read to the same pixels."""

from __future__ import annotations

import io
import struct
import zlib

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pggan.generation import png
from pggan.generation.images import encode_png, read_metadata
from pggan.utils.errors import UsageError

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
FFMPEG = {1: "gray", 3: "rgb24", 4: "rgba"}


def shapes():
    return st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))


@pytest.mark.long
@pytest.mark.parametrize("isal", [True, False])
@given(picture=arrays.arrays(np.uint8, shapes()))
def test_other_decoders_read_the_same_pixels(isal, picture):
    """Pillow's and FFmpeg's, with either library that compresses."""
    if isal:
        pytest.importorskip("isal")
    with pytest.MonkeyPatch.context() as patch:
        if not isal:
            patch.setattr(png, "isal_zlib", None)
        data = png.png_bytes(picture, {}, {})
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == MODES[picture.shape[2]]
        assert np.array_equal(np.asarray(image).reshape(picture.shape), picture)
    if kind := FFMPEG.get(picture.shape[2]):
        with av.open(io.BytesIO(data)) as file:
            read = next(file.decode(video=0)).to_ndarray(format=kind)
        assert np.array_equal(read.reshape(picture.shape), picture)


def chunks(data):
    """Kind and contents of each chunk, their checksums checked."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(data[at + 4 : at + 8 + size])
        yield kind, data[at + 8 : at + 8 + size]
        at += 12 + size


def test_a_file_has_valid_chunks_and_its_metadata(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    about = {"seed": 7, "attribution": "größe 👤"}
    data = encode_png(picture, about)
    assert [kind for kind, _ in chunks(data)] == [b"IHDR", b"iTXt", b"iTXt", b"tEXt", b"IDAT", b"IEND"]
    (tmp_path / "a.png").write_bytes(data)
    assert read_metadata(tmp_path / "a.png") == about
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Software"].startswith("pggan ")
    assert [kind for kind, _ in chunks(encode_png(picture))] == [b"IHDR", b"IDAT", b"IEND"]


def test_an_image_in_another_memory_layout_is_the_same_file():
    batch = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 4), np.uint8)
    picture = batch[1].transpose(1, 2, 0)
    assert encode_png(picture) == encode_png(np.ascontiguousarray(picture))


def test_five_channels_are_refused():
    with pytest.raises(UsageError, match="5 channels are no picture"):
        encode_png(np.zeros((4, 4, 5), np.uint8))


def test_files_of_smooth_images_are_at_most_a_fifth_larger_than_pillows():
    ramp = np.linspace(0, 200, 64)
    noise = np.random.default_rng(0).normal(0, 2, (64, 64, 3))
    picture = (ramp[:, None, None] + ramp[None, :, None] / 4 + noise).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, format="PNG")
    assert len(encode_png(picture)) < 1.2 * len(out.getvalue())
