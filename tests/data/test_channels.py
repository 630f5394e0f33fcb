"""RGBA: premultiplied within the program, straight in files, from a source to a store and back."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pggan.config.content.channels import over, parse_colour, premultiply, straight
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.sources.image_io import fit_to_square, read_image
from pggan.data.store.codecs import decode, encode
from pggan.data.store.store import Store
from pggan.data.store.verify import verify
from pggan.interop.export_data import export_data
from pggan.utils.errors import DataError, UsageError

rgba = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 3), st.just(4)))


def sprite(seed=0, side=16):
    """A straight RGBA picture: a disc with soft edge, and bright colour under its transparency."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip((side * 0.35 - np.hypot(x, y)) * 80, 0, 255)
    return np.dstack([np.broadcast_to(random.integers(0, 256, 3), (side, side, 3)), alpha]).astype(np.uint8)


@given(rgba)
def test_premultiplied_colours_survive_straight_files(image):
    inside = premultiply(image)
    assert (inside[..., :3] <= inside[..., 3:]).all()
    assert (premultiply(straight(inside)) == inside).all()


@given(rgba, st.tuples(*[st.integers(0, 255)] * 3))
def test_composites_agree_with_pillow(image, background):
    expected = Image.alpha_composite(
        Image.new("RGBA", image.shape[1::-1], (*background, 255)), Image.fromarray(image)
    ).convert("RGB")
    ours = over(premultiply(image), background)
    assert np.abs(ours.astype(int) - np.asarray(expected)).max() <= 1


def test_colours_are_parsed():
    assert parse_colour("white") == (255, 255, 255)
    assert parse_colour("#204060") == (32, 64, 96)
    with pytest.raises(UsageError, match="no colour"):
        parse_colour("whiteish")


@pytest.mark.parametrize("codec", ["raw", "png", "webp"])
@pytest.mark.parametrize("opaque", [False, True])
def test_codecs_keep_every_bit(codec, opaque):
    image = premultiply(sprite())
    if opaque:
        image[..., 3] = 255
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    assert (decode(encode(planes, codec, 95), codec, 4, 16) == planes).all()


def test_jpeg_is_refused():
    with pytest.raises(UsageError, match="transparency"):
        PrepareOptions(channels=4, codec="jpeg")


def test_resizing_shows_no_colour_from_under_the_transparency():
    image = sprite(side=64)
    image[image[..., 3] == 0, :3] = (255, 0, 255)
    small = fit_to_square(premultiply(image), 16, "crop")
    assert (small[..., :3] <= small[..., 3:]).all()
    change = straight(small)[small[..., 3] > 200][:, :3].astype(int) - image[32, 32, :3]
    # Lanczos brightens along edges; magenta would darken green
    assert change.min() >= -3
    assert change.max() <= 20


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "sprites"
    path.mkdir()
    for seed in range(6):
        Image.fromarray(sprite(seed)).save(path / f"{seed}.png")
    return path


def test_a_folder_becomes_a_store_and_pngs_again(folder, tmp_path):
    prepare(str(folder), tmp_path / "store", PrepareOptions(channels=4))
    with Store(tmp_path / "store") as store:
        assert store.channels == 4
        assert store.manifest.to_json()["format"] == 2
        read = store.read(16, range(6)).transpose(0, 2, 3, 1)
        assert (read == np.stack([premultiply(sprite(seed)) for seed in range(6)])).all()
    report = verify(tmp_path / "store")
    assert not report.general
    assert not report.damaged_images
    for kind in ("folder", "zip", "tfrecord"):
        out = tmp_path / kind
        written = export_data(tmp_path / "store", out, kind)["out"]
        prepare(written, tmp_path / f"again-{kind}", PrepareOptions(channels=4))
        with Store(tmp_path / f"again-{kind}") as again:
            assert (again.read(16, range(6)).transpose(0, 2, 3, 1) == read).all()
    with Image.open(next((tmp_path / "folder").rglob("*.png")), formats=["PNG"]) as image:
        assert image.mode == "RGBA"


def test_a_store_of_a_store_is_rgba_too(folder, tmp_path):
    prepare(str(folder), tmp_path / "store", PrepareOptions(channels=4))
    prepare(str(tmp_path / "store"), tmp_path / "copy", PrepareOptions(max_res=8))
    with Store(tmp_path / "store") as store, Store(tmp_path / "copy") as copy:
        assert (copy.read(8, range(6)) == store.read(8, range(6))).all()


def test_without_channels_transparency_lies_over_white_as_before(folder, tmp_path):
    prepare(str(folder), tmp_path / "store")
    with Store(tmp_path / "store") as store:
        assert store.channels == 3
        assert store.manifest.to_json()["format"] == 1
        expected = over(premultiply(sprite(0)))
        assert np.abs(store.read(16, [0])[0].transpose(1, 2, 0).astype(int) - expected).max() <= 1


def test_drawn_faces_have_nothing_behind_them():
    reader = open_source("drawn:1").reader(32, 0)
    ref = next(iter(open_source("drawn:1").refs()))
    image = reader.read(ref, 4).image
    assert image.shape == (32, 32, 4)
    assert image[0, 0].tolist() == [0, 0, 0, 0]
    assert image[20, 16, 3] == 255
    buffer = io.BytesIO()
    Image.fromarray(straight(image)).save(buffer, "PNG")


def test_metrics_refuse_nothing_and_say_their_background(folder, tmp_path):
    from pggan.metrics.image_sets import opaque, open_images

    prepare(str(folder), tmp_path / "store", PrepareOptions(channels=4))
    for spec in (folder, tmp_path / "store"):
        images = open_images(str(spec))
        assert images.channels == 4
        black, green = opaque(images, (0, 0, 0)), opaque(images, (0, 255, 0))
        assert black.channels == 3
        assert black.read([0])[0, :, 0, 0].tolist() == [0, 0, 0]
        assert green.read([0])[0, :, 0, 0].tolist() == [0, 255, 0]
        assert black.identity != green.identity


def test_older_versions_refuse_the_new_format_by_its_number(folder, tmp_path, monkeypatch):
    prepare(str(folder), tmp_path / "store", PrepareOptions(channels=4))
    monkeypatch.setattr("pggan.data.store.manifest.FORMAT", 1)
    with pytest.raises(DataError, match="format 2"), Store(tmp_path / "store") as store:
        store.read(16, [0])


def test_a_grey_png_of_16_bits_keeps_its_greys_beside_its_transparent_one():
    values = np.array([[0, 20000], [40000, 65535]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    data = file.getvalue()
    chunk = b"tRNS" + (40000).to_bytes(2, "big")  # stands before the pixels
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    at = data.index(b"IDAT") - 4
    image, notes = read_image(data[:at] + chunk + data[at:], 4)
    np.testing.assert_array_equal(image[..., 3], [[255, 255], [0, 255]])
    np.testing.assert_array_equal(image[..., 0], [[0, 78], [0, 255]])
    assert notes == ("16-bit",)
