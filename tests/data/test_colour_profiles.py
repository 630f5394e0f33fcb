"""Pictures with another colour profile than sRGB: converted as the profiles say, against arithmetic; damaged ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from pggan.data.sources.image_io import read_image
from tests.helpers.colour_profiles import COLOURS, P3, expected, profile


def encoded(image, icc, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind, icc_profile=icc)
    return file.getvalue()


def test_display_p3_becomes_srgb():
    image, notes = read_image(encoded(Image.fromarray(COLOURS), profile(P3)), 3)
    assert np.abs(image.astype(float) - expected(COLOURS)).max() < 2.5
    assert np.abs(image.astype(int) - COLOURS).max() > 8  # colours do change, grey hardly
    assert notes == ("colour profile to sRGB",)


def test_transparency_stays():
    rgba = np.concatenate([COLOURS, np.full((*COLOURS.shape[:2], 1), 255, np.uint8)], 2)
    rgba[:, :2, 3] = 0
    image, notes = read_image(encoded(Image.fromarray(rgba), profile(P3)), 3)
    assert (image[:, :2] == 255).all()  # over white
    assert np.abs(image[:, 2:].astype(float) - expected(COLOURS)[:, 2:]).max() < 2.5
    assert notes == ("colour profile to sRGB", "transparency over white")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_srgb_s_own_profile_changes_nothing(kind):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = [encoded(Image.fromarray(COLOURS), each, kind) for each in (icc, None)]
    (with_profile, notes), (without, _) = (read_image(data, 3) for data in options)
    assert np.array_equal(with_profile, without)
    assert notes == ()


@pytest.mark.parametrize("icc", [b"no profile", profile(P3)[:150], b"\0" * 200, profile(P3)[:128] + b"\xff" * 64])
def test_a_damaged_profile_is_passed_over(icc):
    image, notes = read_image(encoded(Image.fromarray(COLOURS), icc), 3)
    assert np.array_equal(image, COLOURS)
    assert notes == ("colour profile passed over",)


def test_grey_pictures_are_left_alone():
    grey = Image.fromarray(COLOURS[..., 0])
    assert np.array_equal(read_image(encoded(grey, profile(P3)), 1)[0][..., 0], COLOURS[..., 0])


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_have_profiles_too(transparent):
    palette = Image.fromarray(COLOURS).quantize(256)
    plain = np.asarray(palette.convert("RGB"))
    if transparent:
        palette.info["transparency"] = int(np.asarray(palette)[0, 0])
    shown = np.asarray(palette) != (np.asarray(palette)[0, 0] if transparent else -1)
    image, notes = read_image(encoded(palette, profile(P3)), 3)
    assert np.abs(image.astype(float) - expected(plain))[shown].max() < 2.5
    assert (image[~shown] == 255).all()
    assert notes[0] == "colour profile to sRGB"
