"""Every kind of picture file that users have, against a second way to compute what it shows."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pggan.data.sources import image_file
from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import fit_to_square, fitted_side, is_image_name, read_image, read_size
from pggan.utils.formatting import natural_key
from tests.helpers.image_files import SHOWN, encoded, portrait


def exact(picture, format="PNG", channels=3, **options):
    return read_image(encoded(picture, format, **options), channels)


def test_plain_colour_is_untouched():
    picture = portrait(1)
    for format, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        image, notes = exact(picture, format, **options)
        np.testing.assert_array_equal(image, np.asarray(picture))
        assert notes == ()
    image, notes = exact(picture, "JPEG", quality=98, subsampling=0)
    assert np.abs(image.astype(int) - np.asarray(picture)).mean() < 2
    assert notes == ()


def test_grey_to_colour_and_back():
    grey = portrait(1).convert("L")
    image, notes = exact(grey)
    np.testing.assert_array_equal(image, np.repeat(np.asarray(grey)[:, :, None], 3, 2))
    assert notes == ("grey to colour",)
    image, notes = exact(grey, channels=1)
    np.testing.assert_array_equal(image, np.asarray(grey)[:, :, None])
    assert notes == ()
    image, notes = exact(portrait(1), channels=1)
    luma = np.asarray(portrait(1)) @ [0.299, 0.587, 0.114]
    assert np.abs(image[:, :, 0] - luma).max() <= 1
    assert notes == ("colour to grey",)


def over_white(values, alpha):
    share = alpha[..., None] / 255
    return values * share + 255 * (1 - share)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_shown_over_white(mode):
    picture = portrait(2).convert(mode)
    alpha = np.tile(np.arange(32) * 8, (32, 1)).astype(np.uint8)
    picture.putalpha(Image.fromarray(alpha))
    image, notes = exact(picture)
    colours = np.asarray(picture.convert("RGBA"))[:, :, :3]
    assert np.abs(image - over_white(colours, alpha)).max() <= 1
    assert notes[0] == "transparency over white"
    assert (image[:, 0] == 255).all()


def test_an_opaque_alpha_channel_changes_nothing():
    picture = portrait(2)
    with_alpha = picture.copy()
    with_alpha.putalpha(255)
    image, notes = exact(with_alpha)
    np.testing.assert_array_equal(image, np.asarray(picture))
    assert notes == ("alpha channel dropped, opaque all over",)


def test_palette_with_and_without_transparency():
    palette = portrait(3).quantize(16)
    image, notes = exact(palette)
    np.testing.assert_array_equal(image, np.asarray(palette.convert("RGB")))
    assert notes == ("palette",)
    hidden = int(np.asarray(palette)[0, 0])
    image, notes = exact(palette, transparency=hidden)
    expected = np.asarray(palette.convert("RGB")).copy()
    expected[np.asarray(palette) == hidden] = 255
    np.testing.assert_array_equal(image, expected)
    assert notes == ("transparency over white",)


def test_cmyk_becomes_rgb():
    picture = portrait(4)
    image, notes = exact(picture.convert("CMYK"), "TIFF")
    assert np.abs(image.astype(int) - np.asarray(picture)).max() <= 1
    assert notes == ("CMYK",)
    image, _ = exact(picture.convert("CMYK"), "JPEG", quality=98)
    assert np.abs(image.astype(int) - np.asarray(picture)).mean() < 3


def test_one_bit_becomes_grey():
    picture = portrait(4).convert("1")
    image, notes = exact(picture)
    np.testing.assert_array_equal(image[:, :, 0], np.asarray(picture) * 255)
    assert notes == ("1-bit", "grey to colour")


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_rescaled_not_clipped(format):
    values = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    image, notes = exact(Image.fromarray(values), format, channels=1)
    assert np.abs(image[:, :, 0] - values / 257).max() <= 0.5 + 1e-9
    assert notes == ("16-bit",)
    assert image.min() == 0
    assert image.max() == 255


def png16(values):
    """A 16-bit RGB PNG, which Pillow does not write."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)))
    out = b"\x89PNG\r\n\x1a\n"
    for kind, data in (*chunks, (b"IEND", b"")):
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


def test_16_bit_colour_is_rescaled():
    values = np.random.default_rng(0).integers(0, 65536, (16, 16, 3))
    image, notes = read_image(png16(values), 3)
    assert np.abs(image - values / 257).max() <= 1
    assert notes == ("16-bit",)


def test_32_bit_integers_and_floating_point_are_rescaled():
    deep = np.linspace(0, 2**31 - 1, 256).reshape(16, 16).astype(np.int32)
    image, _ = exact(Image.fromarray(deep), "TIFF", channels=1)
    assert np.abs(image[:, :, 0] - deep / (2**32 - 1) * 255).max() <= 0.5 + 1e-9
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    expected = np.rint(ramp * 255)
    for top in (1, 255, 65535):
        image, notes = exact(Image.fromarray(ramp * np.float32(top)), "TIFF", channels=1)
        assert np.abs(image[:, :, 0] - expected).max() <= 1
        assert notes == ("floating point",)
    ramp[0, 0], ramp[0, 1] = np.nan, 1.5  # a highlight above 1 is clipped, the rest not dimmed
    image, _ = exact(Image.fromarray(ramp), "TIFF", channels=1)
    assert image[0, 0] == 0
    assert image[0, 1] == 255
    assert abs(int(image[8, 0, 0]) - expected[8, 0]) <= 1


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_exif_orientation_is_applied(orientation, format):
    picture = portrait(5, 48, height=32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}}.get(format, {})
    data = encoded(picture, format, exif=exif, **options)
    image, notes = read_image(data, 3)
    expected = SHOWN[orientation](np.asarray(picture))
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < (2 if format == "JPEG" else 1e-9)
    assert notes == (("turned by EXIF orientation",) if orientation > 1 else ())
    assert read_size(io.BytesIO(data)) == (expected.shape[1], expected.shape[0])


def test_damaged_exif_does_not_make_a_picture_bad():
    data = encoded(portrait(5), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    assert read_image(data, 3)[0].shape == (32, 32, 3)
    assert read_size(io.BytesIO(data)) == (32, 32)


@pytest.mark.parametrize("format", ["WEBP", "TIFF", "PNG"])
def test_animations_give_their_first_frame(format):
    options = {"lossless": True} if format == "WEBP" else {}
    image, _ = exact(portrait(6), format, save_all=True, append_images=[portrait(7)], **options)
    np.testing.assert_array_equal(image, np.asarray(portrait(6)))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_damaged_pictures_are_bad_pictures(format):
    whole = encoded(portrait(8, 64), format)
    for damaged in (b"", b"no picture at all", whole[: len(whole) // 2], whole[:20]):
        with pytest.raises(BadImage, match=r"\A.+\Z"):  # one line
            read_image(damaged, 3)


def test_other_formats_and_absurd_sizes(monkeypatch):
    with pytest.raises(BadImage, match="not a picture that can be read"):
        exact(portrait(1), "GIF")
    monkeypatch.setattr(image_file, "MAX_PIXELS", 1000)
    with pytest.raises(BadImage, match="32x32 pixels; the limit"):
        exact(portrait(1))
    with pytest.raises(BadImage, match="pixels; the limit"):
        read_size(io.BytesIO(encoded(portrait(1))))


def test_a_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(BadImage, match="134 million"):
        read_image(data, 3)


def test_fit_crops_pads_or_takes_as_it_is():
    wide = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    np.testing.assert_array_equal(fit_to_square(wide, 4, "crop"), wide[:, 2:6])
    np.testing.assert_array_equal(fit_to_square(wide.transpose(1, 0, 2), 4, "crop"), wide.transpose(1, 0, 2)[2:6])
    padded = fit_to_square(wide, 8, "pad")
    np.testing.assert_array_equal(padded[2:6], wide)
    np.testing.assert_array_equal(padded[:2], np.stack([wide[0]] * 2))
    np.testing.assert_array_equal(padded[6:], np.stack([wide[-1]] * 2))
    np.testing.assert_array_equal(fit_to_square(wide[:, :4], 4, "reject"), wide[:, :4])
    with pytest.raises(BadImage, match="8x4 is not square"):
        fit_to_square(wide, 4, "reject")
    assert (fitted_side(8, 4, "crop"), fitted_side(8, 4, "pad")) == (4, 8)
    assert [fitted_side(side, 4, "frame") for side in (4, 5, 28, 32, 33)] == [4, 8, 32, 32, 64]
    small = wide[:, :6]
    framed = fit_to_square(small, 8, "frame")
    np.testing.assert_array_equal(framed[2:6, 1:7], small)
    np.testing.assert_array_equal(framed[0, 1:7], small[0])
    np.testing.assert_array_equal(fit_to_square(framed, 8, "frame"), framed)
    np.testing.assert_array_equal(fit_to_square(small, 4, "frame"), fit_to_square(framed, 4, "crop"))


def test_fit_resizes_without_aliasing():
    checks = np.indices((96, 96)).sum(0) % 2 * 255  # the finest pattern there is: grey when made smaller
    for channels in (1, 3):
        image = np.repeat(checks.astype(np.uint8)[:, :, None], channels, 2)
        small = fit_to_square(image, 32, "crop")
        assert small.shape == (32, 32, channels)
        assert np.abs(small.astype(float) - 127.5).max() < 12
        assert fit_to_square(image, 128, "crop").shape == (128, 128, channels)


def test_pictures_are_known_by_their_endings():
    for name in ("a.png", "b/c.JPG", "x.tiff", "é.webp", "a.b.jpeg"):
        assert is_image_name(name)
    for name in ("a.txt", "png", ".png", ".hidden.png", ".git/a.png", "__MACOSX/a.png", "a.png/", "a.gif", "a"):
        assert not is_image_name(name)
    assert sorted(["a10", "a2", "b1", "a1"], key=natural_key) == ["a1", "a2", "a10", "b1"]


def test_a_phone_s_second_view_is_ignored():
    data = encoded(portrait(6), "MPO", save_all=True, append_images=[portrait(7)], quality=98)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.abs(read_image(data, 3)[0].astype(int) - np.asarray(portrait(6))).mean() < 3


def test_a_transparent_grey_of_16_bits_lies_over_white():
    values = np.full((8, 8), 30000, np.uint16)
    values[:4] = 40000
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    chunk = b"tRNS" + (40000).to_bytes(2, "big")  # stands before the pixels
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = file.getvalue()
    at = data.index(b"IDAT") - 4
    image, notes = read_image(data[:at] + chunk + data[at:], 1)
    assert (image[:4] == 255).all()
    assert (image[4:] == 117).all()
    assert notes == ("16-bit", "transparency over white")


@pytest.mark.parametrize("how", ["pad", "frame"])
def test_a_padded_square_is_bounded(how):
    with pytest.raises(BadImage, match="the limit is 134 million pixels"):
        fit_to_square(np.zeros((2, 20_000, 3), np.uint8), 16, how)
