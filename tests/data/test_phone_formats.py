"""Pictures as phones save them, HEIC, AVIF and MPO: turned, with profiles, previews and depths; without the package."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image, features

from pggan.data.sources import open_source, phone_formats
from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import read_image, read_size
from pggan.utils.errors import DataError
from pggan.utils.file_kind import AVIF, HEIC, kind_of
from tests.helpers.colour_profiles import COLOURS, P3, expected, fixed, profile
from tests.helpers.image_files import SHOWN, encoded, portrait, write_folder
from tests.helpers.source_files import stored

pillow_heif = pytest.importorskip("pillow_heif")
FINE = {"HEIF": {"quality": 98, "chroma": 444}, "AVIF": {"quality": 98, "subsampling": "4:4:4", "speed": 9}}
KINDS = ["HEIF", pytest.param("AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without"))]


@pytest.fixture(autouse=True, scope="module")
def encoder():
    """Pillow writes HEIC for these tests; reading needs no registration."""
    pillow_heif.register_heif_opener()
    yield
    Image.OPEN.pop("HEIF", None)
    Image.SAVE.pop("HEIF", None)


def distance(image, picture):
    return np.abs(image.astype(int) - np.asarray(picture)).mean()


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    phone_formats.reads.cache_clear()
    yield
    phone_formats.reads.cache_clear()


@pytest.mark.parametrize("format", KINDS)
@pytest.mark.parametrize("orientation", SHOWN)
def test_pictures_are_turned_once(orientation, format):
    picture, exif = portrait(5, 96, height=64), Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture, format, exif=exif.tobytes(), **FINE[format])
    image, _ = read_image(data, 3)
    shown = SHOWN[orientation](np.asarray(picture))
    assert image.shape == shown.shape
    assert distance(image, shown) < 3
    assert read_size(io.BytesIO(data)) == (shown.shape[1], shown.shape[0])


@pytest.mark.parametrize("format", KINDS)
def test_profiles_are_converted(format):
    wide = Image.fromarray(COLOURS.repeat(8, 0).repeat(8, 1))
    image, notes = read_image(encoded(wide, format, icc_profile=profile(P3), **FINE[format]), 3)
    right = expected(COLOURS.repeat(8, 0).repeat(8, 1))
    assert np.median(np.abs(image - right)) < 3
    assert distance(image, wide) > np.abs(image - right).mean() + 3
    assert notes == ("colour profile to sRGB",)


def test_colours_that_only_a_number_names_are_noted():
    data = encoded(portrait(1, 64), "HEIF", color_primaries=12, transfer_characteristics=16)
    assert read_image(data, 3)[1] == ("colour profile passed over",)
    assert read_image(encoded(portrait(1, 64), "HEIF"), 3)[1] == ()


@pytest.mark.parametrize("format", KINDS)
def test_transparency_and_grey(format):
    picture = portrait(2, 64)
    picture.putalpha(Image.fromarray(np.tile(np.arange(64) * 4, (64, 1)).astype(np.uint8)))
    image, notes = read_image(encoded(picture, format, **FINE[format]), 3)
    assert image[:, 0].min() > 245
    assert notes == ("transparency over white",)
    image, _ = read_image(encoded(portrait(2, 64).convert("L"), format, **FINE[format]), 1)
    assert distance(image[:, :, 0], portrait(2, 64).convert("L")) < 3


def test_ten_bits_become_eight():
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64, 1).repeat(3, 2).astype(np.uint16)
    out = io.BytesIO()
    pillow_heif.encode("RGB;16", (64, 64), values.tobytes(), out, quality=98, chroma=444)
    image, notes = read_image(out.getvalue(), 3)
    assert np.abs(image - values / 257).mean() < 3
    assert "10-bit" in notes


def test_of_several_pictures_the_primary_one_is_read_and_no_preview():
    file = pillow_heif.from_pillow(portrait(6, 64))
    file.add_from_pillow(portrait(7, 96))
    file.add_from_pillow(portrait(8, 80))
    out = io.BytesIO()
    file.save(out, quality=98, primary_index=1)
    image, _ = read_image(out.getvalue(), 3)
    assert image.shape == (96, 96, 3)
    assert distance(image, portrait(7, 96)) < 4


def test_previews_are_ignored():
    """The reference of the EXIF to its picture becomes that of a preview, the second picture, to the first."""
    file = pillow_heif.from_pillow(portrait(6, 64))
    file.add_from_pillow(portrait(7, 32))
    file[0].info["exif"] = Image.Exif().tobytes()
    out = io.BytesIO()
    file.save(out, quality=98)
    data = out.getvalue()
    at = data.index(b"cdsc")
    data = data[:at] + b"thmb" + struct.pack(">HHH", 3, 1, 1) + data[at + 10 :]  # item 2 is the EXIF
    opened = pillow_heif.open_heif(data)
    assert (len(opened), len(opened.info["thumbnails"])) == (1, 1)
    assert read_size(io.BytesIO(data)) == (64, 64)
    assert distance(read_image(data, 3)[0], portrait(6, 64)) < 4


def test_containers_are_known_by_all_their_brands():
    def head(own, *others):
        brands = own + bytes(4) + b"".join(others)
        return (len(brands) + 8).to_bytes(4, "big") + b"ftyp" + brands + b"\0\0\0\x10metaavif"

    assert kind_of(head(b"heic", b"mif1")) == kind_of(head(b"mif1", b"heic")) == kind_of(head(b"mif1", b"miaf")) == HEIC
    assert kind_of(head(b"avif")) == kind_of(head(b"mif1", b"miaf", b"avif")) == AVIF
    assert kind_of(head(b"isom", b"avc1")) == "a video"


@pytest.mark.parametrize("format", KINDS)
def test_damaged_and_lying_pictures_are_bad(format):
    whole = encoded(portrait(8, 512), format)
    for damaged in (whole[: len(whole) // 2], whole[:40], whole[:-20]):
        with pytest.raises(BadImage, match=r"\A.+\Z"):
            read_image(damaged, 3)
    at = whole.index(b"ispe") + 8
    with pytest.raises(BadImage, match=r"\A.+\Z"):
        read_size(io.BytesIO(whole[:at] + (60_000).to_bytes(4, "big") * 2 + whole[at + 8 :]))


@pytest.mark.parametrize("format, ending", [("HEIF", ".HEIC"), ("HEIF", ".hif"), ("HEIF", ".jpg"), ("AVIF", ".avif")])
def test_folders_of_them_become_a_store(tmp_path, format, ending):
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    folder = write_folder(tmp_path / "photos", 1)
    (folder / f"1{ending}").write_bytes(encoded(portrait(1), format, **FINE[format]))
    assert open_source(str(folder)).remark is None
    levels, _ = stored(folder, tmp_path / "data", workers=2)
    assert len(levels[32]) == 2
    assert distance(levels[32][1].transpose(1, 2, 0), portrait(1)) < 4


def test_without_the_packages_one_line_names_them(tmp_path, no_package):
    folder = write_folder(tmp_path / "photos", 2)
    (folder / "0.png").rename(folder / "0.heic")
    (folder / "a.avif").write_bytes(b"x")
    source = open_source(str(folder))
    assert len(source) == 1
    assert source.remark == (
        "passed over 1 .heic: pip install 'pggan[photos]' reads them; "
        "passed over 1 .avif: pip install --upgrade pillow reads them"
    )
    (folder / "1.png").unlink()
    with pytest.raises(DataError, match=r"holds no pictures .*passed over 1 \.heic: pip install 'pggan\[photos\]'"):
        open_source(str(folder))
    with pytest.raises(BadImage, match=r"\Aa HEIC picture; pip install 'pggan\[photos\]' reads it\Z"):
        read_image(encoded_heic(), 3)


def encoded_heic():
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_of_an_mpo_the_first_picture_is_read_turned_and_converted():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = portrait(6, 48, height=32)
    options = {"quality": 98, "subsampling": 0, "save_all": True, "append_images": [portrait(7, 16)]}
    data = encoded(picture, "MPO", exif=exif, icc_profile=profile(P3), **options)
    image, notes = read_image(data, 3)
    assert distance(image, expected(SHOWN[6](np.asarray(picture)))) < 6
    assert notes == ("turned by EXIF orientation", "colour profile to sRGB")


def inks():
    """An ICC profile of inks, all grey: L* is 100 without any, and falls by 20 with C, M and Y each and 40 with K."""
    ramp = bytes(range(256))
    corners = np.indices((2, 2, 2, 2)).reshape(4, 16)  # C changes slowest
    lightness = 100 - np.array([20, 20, 20, 40]) @ corners
    cells = b"".join(bytes([round(value * 2.55), 128, 128]) for value in lightness)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4 + cells + ramp * 3
    table += b"\0" * (-len(table) % 4)
    head = struct.pack(">I4sI4s4s4s", 144 + len(table), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head = (head.ljust(36, b"\0") + b"acsp" + b"\0" * 28 + fixed(0.9642, 1.0, 0.8249)).ljust(128, b"\0")
    return head + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_converted_by_its_profile(format):
    """Against CIE's definition of L* and sRGB's curve."""
    values = np.zeros((32, 64, 4), np.uint8)
    values[:, :, 0], values[:, :, 3] = np.arange(64) * 4, np.arange(32)[:, None] * 4
    lightness = 100 - values @ np.array([20, 20, 20, 40]) / 255
    linear = ((lightness + 16) / 116) ** 3
    grey = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    options = {"quality": 98, "subsampling": 0} if format == "JPEG" else {}
    data = encoded(Image.fromarray(values, "CMYK"), format, icc_profile=inks(), **options)
    image, notes = read_image(data, 3)
    assert np.abs(image - grey[:, :, None]).max() < 3
    assert notes == ("colour profile to sRGB",)


def test_a_profile_of_other_colours_than_cmyk_s_is_passed_over():
    image, notes = read_image(encoded(portrait(4).convert("CMYK"), "TIFF", icc_profile=profile(P3)), 3)
    assert distance(image, portrait(4)) < 1
    assert notes == ("colour profile passed over", "CMYK")
