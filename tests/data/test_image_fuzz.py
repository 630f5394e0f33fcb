"""Fuzzer of pictures: whatever is changed in a file, it is a picture, or a bad one for a reason in one line.

`pytest --fuzz 100 tests/data/test_image_fuzz.py` runs a hundred times as many rounds.
"""

import io
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, features

from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import read_image, read_size
from tests.helpers.fuzzing import mutate, refused
from tests.helpers.hostile_images import bmp_of, jpeg_of_scans, png_of, tiff_of_tiles, webp_of
from tests.helpers.image_files import encoded, portrait

PICTURE = portrait(0, 24)
EXIF = Image.Exif()
EXIF[0x0112] = 6


def heic(picture):
    out = io.BytesIO()
    pillow_heif.from_pillow(picture).save(out, exif=EXIF.tobytes())
    return out.getvalue()


WHOLE = {
    "png": encoded(PICTURE),
    "palette png": encoded(PICTURE.quantize(8), transparency=1),
    "16-bit png": encoded(Image.fromarray(np.arange(576, dtype=np.uint16).reshape(24, 24) * 99)),
    "jpeg": encoded(PICTURE, "JPEG", exif=EXIF),
    "progressive jpeg": encoded(PICTURE, "JPEG", progressive=True),
    "mpo": encoded(PICTURE, "MPO", save_all=True, append_images=[portrait(1, 24)]),
    "webp": encoded(PICTURE, "WEBP", lossless=True, exif=EXIF),
    "animated webp": encoded(PICTURE, "WEBP", save_all=True, append_images=[portrait(1, 24)]),
    "bmp": encoded(PICTURE, "BMP"),
    "palette bmp": encoded(PICTURE.quantize(8), "BMP"),
    "tiff": encoded(PICTURE, "TIFF"),
    "lzw tiff": encoded(PICTURE, "TIFF", compression="tiff_lzw"),
    "jpeg tiff": encoded(PICTURE, "TIFF", compression="jpeg"),
    "float tiff": encoded(Image.fromarray(np.linspace(0, 1, 576, dtype=np.float32).reshape(24, 24)), "TIFF"),
    "heic": heic(PICTURE),
    "gif": encoded(PICTURE, "GIF"),
    "eps": encoded(PICTURE, "EPS"),
}
REFUSED = {"gif", "eps"}
if features.check("avif"):
    WHOLE["avif"] = encoded(PICTURE, "AVIF", exif=EXIF)
# what small files claim; each takes gigabytes or minutes where it is believed
BOMBS = {
    "huge png": png_of(30_000, 30_000),
    "absurd png": png_of(1 << 30, 1 << 30),
    "webp": webp_of(1 << 24, 255),
    "bmp": bmp_of(30_000, 30_000),
    "negative bmp": bmp_of(-30_000, 30_000),
    "tiff": tiff_of_tiles(8, 1 << 14),
    "scans": jpeg_of_scans(64, 3000),
}


def check_image(data):
    width, height = read_size(io.BytesIO(data))
    image, notes = read_image(data, 3)
    assert sorted(image.shape[:2]) == sorted((height, width))
    assert (image.shape[2], image.dtype) == (3, np.uint8)
    assert all(isinstance(note, str) for note in notes)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pictures_are_read_and_other_formats_refused(name):
    assert refused(BadImage, lambda: check_image(WHOLE[name])) == (name in REFUSED)


@pytest.mark.parametrize("name", BOMBS)
def test_pictures_that_claim_too_much_are_refused(name):
    assert refused(BadImage, lambda: read_image(BOMBS[name], 3))


def test_scans_are_counted_up_to_the_end_of_the_picture():
    whole = jpeg_of_scans(16, 50, "RGB")
    image, _ = read_image(whole + b"\xff\xda" * 1000, 3)  # as the video that phones put behind it
    assert image.shape == (16, 16, 3)
    comment = b"\xff\xda" * 500
    image, _ = read_image(whole[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + whole[2:], 3)
    assert image.shape == (16, 16, 3)


PROGRAM = """
import importlib, resource, sys
fuzz = importlib.import_module("tests.data.test_image_fuzz").fuzz
resource.setrlimit(resource.RLIMIT_DATA, (768 << 20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]) + 60,) * 2)
fuzz(int(sys.argv[1]))
"""


def fuzz(rounds):
    """Reads mutated pictures. A picture takes at most 5 s; the limits of the process bound memory and all time."""
    for name, data in BOMBS.items():
        print(name, flush=True)
        assert refused(BadImage, lambda data=data: check_image(data)), name
    for name, whole in WHOLE.items():
        for seed in range(rounds):
            print(name, seed, flush=True)
            changed, start = mutate(whole, random.Random(seed)), time.process_time()
            refused(BadImage, lambda changed=changed: check_image(changed))
            assert time.process_time() - start < 5


@pytest.mark.long
def test_pictures_of_other_bytes(fuzz_rounds):
    """In a process of its own, whose memory and time are bounded."""
    command = [sys.executable, "-c", PROGRAM, str(fuzz_rounds(60))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"
