"""TIFFs of several pages, as scanners write them: each page is a picture; previews, masks and hostile files."""

import io
import random
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from pggan.data.sources import open_source, tiff_pages
from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import read_image
from pggan.data.store.store import Store
from tests.helpers.fuzzing import mutate, refused
from tests.helpers.image_files import SHOWN, encoded, portrait, write_folder
from tests.helpers.label_sources import packed
from tests.helpers.source_files import read_all, stored


def tiff(pictures, kinds=(), **options):
    """Pages of these pictures; `kinds`: their NewSubfileType, 0 where it lacks."""
    out = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(out) as file:
        for number, picture in enumerate(pictures):
            info = TiffImagePlugin.ImageFileDirectory_v2()
            if number < len(kinds) and kinds[number]:
                info[254] = kinds[number]
            picture.save(file, "TIFF", tiffinfo=info, **options)
            file.newFrame()
    return out.getvalue()


def directories(count, width=8, height=8, claimed=None):
    """A TIFF of so many pages that all show the same pixels of grey."""
    entries = {
        256: claimed or width,
        257: claimed or height,
        258: 8,
        259: 1,
        262: 1,
        273: 8,
        278: height,
        279: width * height,
    }
    size = 2 + 12 * len(entries) + 4
    begin = 8 + width * height
    data = struct.pack("<2sHI", b"II", 42, begin) + bytes(range(width * height))
    for number in range(count):
        rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
        following = begin + size * (number + 1) if number + 1 < count else 0
        data += struct.pack("<H", len(entries)) + rows + struct.pack("<I", following)
    return data


def images_of(source):
    return {ref.name: image.image for ref, image in zip(source.refs(), read_all(source), strict=True)}


@pytest.mark.parametrize("ending", ["", ".zip"])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
def test_every_page_is_a_picture(tmp_path, ending, options):
    folder = write_folder(tmp_path / "scans", 1)
    (folder / "b.TIFF").write_bytes(tiff([portrait(i) for i in range(12)], **options))
    (folder / "c.tif").write_bytes(encoded(portrait(20), "TIFF", **options))
    source = open_source(str(packed(folder, tmp_path / f"s{ending}")))
    images = images_of(source)
    names = ["0.png", "b.TIFF", *(f"b.TIFF#{n}" for n in range(2, 13)), "c.tif"]
    assert list(images) == names == list(source.image_names())
    for name, index in zip(names, [0, *range(12), 20], strict=True):
        np.testing.assert_array_equal(images[name], np.asarray(portrait(index)))
    assert source.remark is None


def test_previews_masks_and_other_sizes_are_counted(tmp_path):
    pages = [portrait(0, 8), portrait(1), portrait(2, 16), portrait(3).convert("1"), portrait(4), portrait(5, 40)]
    data = tiff(pages, kinds=(1, 0, 1, 4, 2, 0))
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/a.tif").write_bytes(data)
    source = open_source(str(tmp_path / "scans"))
    images = images_of(source)
    assert list(images) == ["a.tif#2", "a.tif#5"]
    np.testing.assert_array_equal(images["a.tif#2"], np.asarray(portrait(1)))
    np.testing.assert_array_equal(images["a.tif#5"], np.asarray(portrait(4)))
    assert source.remark == ("passed over of TIFFs: 2 reduced pages, 1 masks, 1 pages of another size than the first")
    assert "first page of several" in read_image(data, 3)[1]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_pages_are_turned_and_big_tiffs_read(tmp_path, orientation, big):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pages = [portrait(i, 32, height=24) for i in range(3)]
    write_folder(tmp_path / "scans", 0)
    options = {"save_all": True, "append_images": pages[1:], "exif": exif, "big_tiff": big}
    (tmp_path / "scans/a.tif").write_bytes(encoded(pages[0], "TIFF", **options))
    images = images_of(open_source(str(tmp_path / "scans")))  # compares the sizes, too
    assert len(images) == 3
    np.testing.assert_array_equal(images["a.tif"], SHOWN[orientation](np.asarray(pages[0])))
    assert images["a.tif#3"].shape[:2] == ((24, 32) if orientation == 1 else images["a.tif"].shape[:2])


def test_a_store_of_pages_resumes_with_workers_and_labels(tmp_path):
    folder = write_folder(tmp_path / "scans", 2)
    (folder / "film.tif").write_bytes(tiff([portrait(i) for i in range(5)]))
    (folder / "labels.csv").write_text("file,kind\n0.png,a\nfilm.tif,b\nfilm.tif#3,c\n")
    levels, rows = stored(folder, tmp_path / "one")
    assert rows == [("a",), (None,), ("b",), ("b",), ("c",), ("b",), ("b",)]
    np.testing.assert_array_equal(levels[32][5].transpose(1, 2, 0), np.asarray(portrait(3)))
    stored(folder, tmp_path / "two", workers=3)
    with Store(tmp_path / "one") as one, Store(tmp_path / "two") as two:
        assert one.manifest.digests == two.manifest.digests


def test_an_archive_that_streams_gives_the_first_page_and_says_so(tmp_path):
    folder = write_folder(tmp_path / "scans", 0)
    (folder / "a.tif").write_bytes(tiff([portrait(0), portrait(1)]))
    (image,) = read_all(open_source(str(packed(folder, tmp_path / "s.tgz"))))
    assert image.notes == ("first page of several",)


def test_damaged_files_give_the_pages_before_the_damage(tmp_path):
    whole = tiff([portrait(i) for i in range(4)])
    folder = write_folder(tmp_path / "scans", 0)
    for name, data in {
        "a.tif": whole[: len(whole) * 5 // 8],
        "b.tif": whole[:100],
        "c.tif": b"",
        "d.tif": b"II*\0",
    }.items():
        (folder / name).write_bytes(data)
    (folder / "e.png").write_bytes(encoded(portrait(9)))
    source = open_source(str(folder))
    outcomes = read_all(source)
    good = [image for image in outcomes if not isinstance(image, str)]
    assert 2 <= len(good) < 5
    np.testing.assert_array_equal(good[0].image, np.asarray(portrait(0)))
    assert all("\n" not in bad for bad in outcomes if isinstance(bad, str))
    assert "files that are damaged after some pages" in source.remark


def test_files_of_other_bytes_give_pictures_or_reasons(tmp_path, fuzz_rounds):
    folder = write_folder(tmp_path / "scans", 0)
    for name, whole in (("few", directories(3)), ("written", tiff([portrait(i, 8) for i in range(3)], kinds=(0, 1)))):
        for seed in range(fuzz_rounds(60)):
            (folder / "a.tif").write_bytes(mutate(whole, random.Random(f"{name} {seed}")))
            source = open_source(str(folder))
            reader = source.reader(32, 0)
            refs = list(source.refs())
            assert 1 <= len(refs) == len(source) <= 3
            for ref in refs:
                refused(BadImage, lambda ref=ref, reader=reader: reader.read(ref, 3))


def test_loops_end_and_pages_are_limited(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "scans", 0)
    loop = bytearray(directories(3))
    loop[-4:] = struct.pack("<I", 8 + 64)
    (folder / "a.tif").write_bytes(loop)
    assert len(open_source(str(folder))) == 3
    (folder / "a.tif").write_bytes(directories(3000))
    source = open_source(str(folder))
    assert len(source) == 3000
    assert read_all(source)[2999].image[0, 5, 0] == 5
    monkeypatch.setattr(tiff_pages, "MAX_TIFF_PAGES", 100)
    source = open_source(str(folder))
    assert len(source) == 100
    assert source.remark == "passed over of TIFFs: 1 files with more than 100 pages"


def test_pages_of_too_many_pixels_are_bad_pictures(tmp_path):
    folder = write_folder(tmp_path / "scans", 0)
    (folder / "a.tif").write_bytes(directories(2, claimed=12_000))
    assert [*map(str, read_all_without_sizes(open_source(str(folder))))] == [
        "12000x12000 pixels; the limit is 134 million"
    ] * 2


def read_all_without_sizes(source):
    reader = source.reader(32, 0)
    for ref in source.refs():
        with pytest.raises(BadImage) as bad:
            reader.read(ref, 3)
        yield bad.value
