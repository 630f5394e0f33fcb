"""What lies between pictures on people's disks: thumbnails, bins, other formats, pipes; and what is said of them."""

import os
import socket
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import read_image
from pggan.utils.errors import DataError
from tests.helpers.image_files import encoded, portrait, write_folder
from tests.helpers.label_sources import packed
from tests.helpers.source_files import stored

JUNK = (
    "@eaDir/0.png", "#recycle", "@Recycle", "$RECYCLE.BIN/S-1-5-21", ".Trashes/501", ".Trash-1000/files",
    ".thumbnails/normal", "System Volume Information", "lost+found", ".picasaoriginals", "Catalog Previews.lrdata/a",
)  # fmt: skip


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tgz"])
def test_thumbnails_and_bins_are_passed_over_counted_and_said(tmp_path, ending):
    folder = write_folder(tmp_path / "photos", 4, side=64)
    for name in JUNK:
        write_folder(folder / "album" / name, 2, side=8)
    source = open_source(str(packed(folder, tmp_path / f"p{ending}")))
    assert len(source) == 4
    assert source.remark.startswith(f"passed over {2 * len(JUNK)} pictures in ")
    assert source.remark.endswith("and 7 other folders (thumbnails, deleted files)")
    levels, _ = stored(folder, tmp_path / "data")
    assert max(levels) == 64  # they do not decide the resolution


def test_a_folder_that_is_named_is_never_passed_over(tmp_path):
    for name in ("#recycle", ".thumbnails", "@eaDir"):
        assert len(open_source(str(write_folder(tmp_path / name, 2)))) == 2


@pytest.mark.parametrize("ending", ["", ".zip", ".tar"])
def test_pictures_of_other_formats_are_counted(tmp_path, ending):
    folder = write_folder(tmp_path / "photos", 1)
    for name in ("1.GIF", "2.gif", "3.gif", "a.jpg_large", "notes.txt", ".hidden.gif"):
        (folder / name).write_bytes(b"x")
    source = open_source(str(packed(folder, tmp_path / f"p{ending}")))
    assert source.remark == "passed over 3 .gif, 1 .jpg_large, which are not read: convert them to PNG or JPEG"
    (folder / "0.png").unlink()
    with pytest.raises(DataError, match=r"holds no pictures .*; passed over 3 \.gif, 1 \.jpg_large, which are not"):
        open_source(str(packed(folder, tmp_path / f"q{ending}")))


def test_jpeg_xl_is_left_out_on_purpose(tmp_path):
    folder = write_folder(tmp_path / "photos", 1)
    (folder / "1.jxl").write_bytes(b"\xff\x0a")
    remark = open_source(str(folder)).remark
    assert remark.startswith("passed over 1 .jxl, which are not read: convert them to PNG or JPEG (JPEG XL tells its")
    with pytest.raises(BadImage, match="it is a JPEG XL picture"):
        read_image(b"\xff\x0a" + bytes(100), 3)


def test_pictures_without_an_ending_are_counted(tmp_path):
    (write_folder(tmp_path / "photos", 1) / "scan").write_bytes(encoded(portrait(0)))
    assert "passed over 1 without an ending" in open_source(str(tmp_path / "photos")).remark


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("top, is_said", [(4095, True), (4096 + 256, False)])
def test_16_bit_pictures_that_are_nearly_black_are_said(tmp_path, top, is_said, colour):
    if colour:
        ramp = np.linspace(0, top, 64).astype(">u2").reshape(8, 8, 1).repeat(3, 2)
        data = png_of_16_bit_colour(ramp)
    else:
        data = encoded(Image.fromarray(np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)))
    notes = read_image(data, 3)[1]
    assert ("16-bit, all of it below 1/16 of the range, nearly black" in notes) is is_said
    assert "16-bit" in notes


def test_a_picture_of_32_bits_that_is_read_as_one_of_16_is_not_called_nearly_black():
    ramp = np.linspace(0, 60_000, 64).astype(np.int32).reshape(8, 8)
    image, notes = read_image(encoded(Image.fromarray(ramp), "TIFF"), 1)
    assert image.max() == 233
    assert notes == ("32-bit",)


def png_of_16_bit_colour(values):
    """A PNG of 16-bit RGB, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_pipes_and_sockets_named_like_pictures_are_never_opened(tmp_path):
    folder = write_folder(tmp_path / "photos", 1)
    os.mkfifo(folder / "1.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "2.jpg"))
        source = open_source(str(folder))
        reader = source.reader(32, 0)
        for ref in list(source.refs())[1:]:
            for read in (lambda ref=ref: reader.read(ref, 3), lambda ref=ref: reader.size(ref)):
                with pytest.raises(BadImage, match="a pipe, a socket or a device, not a file"):
                    read()
        levels, _ = stored(folder, tmp_path / "data")
    assert len(levels[32]) == 1


def test_links_within_a_tar_are_followed(tmp_path):
    folder = write_folder(tmp_path / "photos" / "all", 2).parent
    (folder / "train").mkdir()
    (folder / "train" / "a.png").symlink_to("../all/1.png")
    os.link(folder / "all" / "0.png", folder / "train" / "b.png")
    (folder / "train" / "c.png").symlink_to("a.png")
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(folder, ".")
    source = open_source(str(tmp_path / "a.tar"))
    images = {ref.name.removeprefix("./"): image.image for ref, image in zip(source.refs(), source)}
    assert len(images) == 5
    for name, index in (("a", 1), ("b", 0), ("c", 1)):
        np.testing.assert_array_equal(images[f"train/{name}.png"], np.asarray(portrait(index)))


def test_the_first_reason_is_told_where_none_can_be_read(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(DataError, match=r"none of the 3 pictures can be read; the first is 0\.jpg: .*HEIC"):
        stored(folder, tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("0.png", encoded(portrait(0)))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for at in (data.index(b"PK\3\4") + 8, data.index(b"PK\1\2") + 10):
        data[at] = 9  # Deflate64, which Windows writes
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"the first is 0\.png: .*Deflate64.*make the zip again"):
        stored(tmp_path / "a.zip", tmp_path / "data")


@pytest.mark.parametrize("kind", ["profile", "ztxt", "itxt"])
def test_pngs_with_large_profiles_and_texts_are_taken(tmp_path, kind):
    from PIL.PngImagePlugin import PngInfo

    info, large = PngInfo(), "x" * (3 << 20)
    options = {"icc_profile": large.encode()} if kind == "profile" else {"pnginfo": info}
    if kind == "ztxt":
        info.add_text("comment", large, zip=True)
    else:
        info.add_itxt("comment", large, zip=True)
    folder = write_folder(tmp_path / "photos", 0)
    portrait(0).save(folder / "0.png", **options)
    levels, _ = stored(folder, tmp_path / "data")
    np.testing.assert_array_equal(levels[32][0].transpose(1, 2, 0), np.asarray(portrait(0)))
