"""Archives of strangers: what lies about its size or expands without end costs little; what is whole is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile

import numpy as np
import pytest

from pggan.data.sources import expanded_file as module
from pggan.data.sources import open_source
from pggan.data.sources.base import BadImage, bytes_carried
from pggan.utils.errors import DataError, PgganError
from pggan.utils.limits import MAX_BYTES_UNDER_WAY, MAX_CARRIED_BYTES
from pggan.utils.process_pool import ordered_map
from tests.helpers.bounded_run import bounded_run
from tests.helpers.image_files import encoded, portrait
from tests.helpers.source_files import ARRAYS, COUNT

PNGS = [encoded(portrait(i)) for i in range(COUNT)]
# Mutations of each archive.
ROUNDS = 200


def header(name, size, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data):
    return data + bytes(-len(data) % 512)


def member(name, data):
    return header(name, len(data)) + padded(data)


END = bytes(1024)


def images_of(path):
    """What every reference gives: an array, or why it is bad."""
    source = open_source(str(path))
    reader = source.reader(32, 0)
    images = []
    for ref in source.refs():
        try:
            reader.size(ref)
            images.append(reader.read(ref, 3).image)
        except BadImage as bad:
            images.append(str(bad))
    assert len(images) == len(source)
    return images


def sparse_member(name, data, holes=512):
    """As `tar --sparse` writes a file that begins with a hole: old GNU format."""
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (holes, len(data))
    block[483:495] = b"%011o\0" % (holes + len(data))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + padded(data)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_sparse_members_are_read_and_links_are_named(tmp_path, pack):
    image = encoded(portrait(0), "BMP")
    whole = bytes(512) + image  # not a picture, but of the right length
    tar = sparse_member("0.bmp", image, 0) + sparse_member("1.bmp", image) + member("2.png", PNGS[2])
    tar += header("3.png", 0, tarfile.LNKTYPE, link="2.png") + header("4.png", 0, tarfile.SYMTYPE, link="x")
    (tmp_path / "a.tar").write_bytes(pack(tar + END))
    images = images_of(tmp_path / "a.tar")
    np.testing.assert_array_equal(images[0], ARRAYS[0])
    assert len(whole) == 512 + len(image)
    assert images[1] == "not a picture that can be read"
    np.testing.assert_array_equal(images[2], ARRAYS[2])
    if pack is bytes:  # followed within the tar; a compressed one is read from its beginning to its end
        np.testing.assert_array_equal(images[3], ARRAYS[2])
    else:
        assert "a link to 2.png; pack the files themselves" in images[3]
    assert "a link to x; pack the files themselves" in images[4]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "damage, message",
    [
        (header("long", 2 << 30, tarfile.GNUTYPE_LONGNAME) + bytes(4096), "a header above the limit of 1 MiB"),
        (header("pax", 2 << 30, tarfile.XHDTYPE) + bytes(4096), "a header above the limit of 1 MiB"),
        (header("1.png", -1024), "of -1024 bytes|invalid|overlap"),
        (header("pax", 16, tarfile.XHDTYPE) + padded(b"16 size=-100000\n") + header("1.png", 4), "bytes|invalid|overl"),
        (member("1.png", PNGS[1])[:-600], "unexpected end of data|damaged header"),
        (b"x" * 512, "a damaged header"),
        (header("1.png", 8**11 - 1), "unexpected end of data|expands to more than 1000 times"),
    ],
)
def test_headers_that_lie_are_one_line(tmp_path, damage, message, pack):
    (tmp_path / "a.tar").write_bytes(pack(member("0.png", PNGS[0]) + damage + member("2.png", PNGS[2])))
    with pytest.raises(DataError, match=rf"is not a whole tar file \(.*({message})"):
        images_of(tmp_path / "a.tar")


def test_a_tar_that_expands_a_thousandfold_is_refused_without_expanding_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_EXPANDED_BYTES", 1 << 20)
    (tmp_path / "a.tar.bz2").write_bytes(bz2.compress(member("x.bin", bytes(8 << 20)) + member("0.png", PNGS[0]) + END))
    with pytest.raises(DataError, match="expands to more than 1000 times its size"):
        open_source(str(tmp_path / "a.tar.bz2"))


def test_large_members_are_bad_pictures_and_the_rest_is_read(tmp_path):
    size = MAX_CARRIED_BYTES + 1
    with open(tmp_path / "a.tar", "wb") as file:  # with holes: nothing of it is written
        file.write(member("0.png", PNGS[0]) + header("1.png", size))
        file.seek(-(-size // 512) * 512, io.SEEK_CUR)
        file.write(member("2.png", PNGS[2]) + END)
    images = images_of(tmp_path / "a.tar")
    assert images[1] == "a file of 256 MiB; the limit is 256"
    np.testing.assert_array_equal(images[2], ARRAYS[2])


def zip_with(path, compression, change=lambda info: None):
    with zipfile.ZipFile(path, "w", compression) as file:
        for i, data in enumerate(PNGS):
            file.writestr(f"{i}.png", data)
        for info in file.infolist():
            change(info)
    return path


METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.mark.parametrize("compression", METHODS)
def test_zips_of_every_compression_are_read(tmp_path, compression):
    np.testing.assert_array_equal(images_of(zip_with(tmp_path / "a.zip", compression)), ARRAYS)


@pytest.mark.parametrize("compression", METHODS)
@pytest.mark.parametrize("field", ["file_size", "compress_size"])
@pytest.mark.parametrize("size", [0, 10, 1000, 1 << 20, MAX_CARRIED_BYTES + 1, (1 << 32) - 2])
def test_members_whose_sizes_lie_are_bad_pictures(tmp_path, compression, field, size):
    path = zip_with(tmp_path / "a.zip", compression, lambda info: setattr(info, field, size))
    images = images_of(path)
    if size > MAX_CARRIED_BYTES:
        assert images == [f"a file of {size >> 20} MiB; the limit is 256"] * COUNT
    elif compression != zipfile.ZIP_STORED or field == "file_size":  # where more is read, PNGs end before
        assert all(isinstance(image, str) or np.array_equal(image, ARRAYS[i]) for i, image in enumerate(images))


@pytest.mark.long
def test_a_member_that_expands_beyond_its_size_is_not_expanded(tmp_path):
    """200 MB of zeros in 150 bytes, which says that it is 100 bytes."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("0.png", bytes(200_000_000))
        file.infolist()[0].file_size = 100
    run = bounded_run(["prepare-data", str(tmp_path / "a.zip"), str(tmp_path / "data"), "--workers", "1"], 4096)
    assert run.status == 1
    assert "none of the 1 pictures can be read" in run.err
    assert run.peak < 200


class Weighed:
    """Work that says what was in flight."""

    def __call__(self, item):
        return len(item)


def test_items_under_way_are_bounded_by_bytes(monkeypatch):
    taken, done = [], []

    def items():
        for number in range(12):
            taken.append(number)
            yield bytes([number])

    weight = MAX_BYTES_UNDER_WAY // 3 + 1
    for result in ordered_map(Weighed(), items(), 2, weigh=lambda item: weight * (10 if item == b"\5" else 1)):
        done.append(result)
        # two in flight, and the one that was taken last
        assert len(taken) - len(done) <= 2
    assert done == [1] * 12


def test_what_a_payload_brings_is_counted():
    assert bytes_carried((b"abc", (1, None))) == 3
    assert bytes_carried(("name", ())) == 0
    assert bytes_carried(((np.zeros(10), ()), (1,))) == 80


def test_members_that_workers_read_are_counted_too(tmp_path):
    zip_with(tmp_path / "a.zip", zipfile.ZIP_STORED)
    (tmp_path / "a.tar").write_bytes(b"".join(member(f"{i}.png", data) for i, data in enumerate(PNGS)) + END)
    for name in ("a.zip", "a.tar"):
        source = open_source(str(tmp_path / name))
        assert [bytes_carried(ref.payload) for ref in source.refs()] == [len(data) for data in PNGS]


@pytest.mark.slow
def test_padded_pictures_in_a_compressed_tar_take_bounded_memory(tmp_path):
    """Each picture has 250 MiB of zeros behind it: 4.4 GiB once with two workers."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as file:
        for i in range(4):
            info = tarfile.TarInfo(f"{i}.png")
            data = PNGS[i] + bytes(250 << 20)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
            del data
    arguments = ["prepare-data", str(tmp_path / "a.tar.gz"), str(tmp_path / "data"), "--max-res", "32", "--workers"]
    run = bounded_run([*arguments, "2"], 4096)
    assert run.status == 0
    assert "4 pictures" in run.out
    assert run.peak < 1024


def tar_bytes(mode, form):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as file:
        for i, data in enumerate(PNGS[:4]):
            info = tarfile.TarInfo("n" * (150 if i == 1 else 1) + f"{i}.png")
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        for name in ("0.cls", "labels.csv"):
            info = tarfile.TarInfo(name)
            info.size = 2
            file.addfile(info, io.BytesIO(b"1\n"))
    return out.getvalue() + sparse_member("9.png", PNGS[9])


def zip_bytes(compression):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for i, data in enumerate(PNGS[:4]):
            file.writestr(f"{i}.png", data)
    return out.getvalue()


ARCHIVES = {
    "gnu.tar": tar_bytes("w", tarfile.GNU_FORMAT),
    "pax.tar": tar_bytes("w", tarfile.PAX_FORMAT),
    "sparse.tar": sparse_member("8.png", PNGS[8]) + sparse_member("9.png", PNGS[9], 0) + END,
    **{f"{number}.zip": zip_bytes(method) for number, method in enumerate(METHODS)},
}
WORDS = [b"\xff" * 8, bytes(8), b"\x80" + b"\xff" * 7, b"77777777", b"GNU.spar", b"\x7f\xff\xff\xff", b"S", b"L", b"x"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_mutated_archives_give_pictures_or_one_line(name, tmp_path):
    chance = random.Random(name)
    path = tmp_path / name
    for _ in range(ROUNDS):
        data = bytearray(ARCHIVES[name])
        for _ in range(chance.randint(1, 4)):
            word = chance.choice(WORDS) if chance.random() < 0.7 else chance.randbytes(2)
            place = chance.choice([124, 156, 257, 386, 483, chance.randrange(512), len(data) - chance.randint(1, 300)])
            start = chance.choice([0, chance.randrange(0, len(data), 512)]) if name.endswith("tar") else 0
            data[start + place : start + place + len(word)] = word
            if name.endswith("tar") and chance.random() < 0.8 and start + 512 <= len(data):  # a checksum that fits
                data[start + 148 : start + 156] = b" " * 8
                data[start + 148 : start + 156] = b"%06o\0 " % (sum(data[start : start + 512]) & 0o777777)
        packed = chance.choice([bytes, bytes, gzip.compress])(data) if name.endswith("tar") else bytes(data)
        path.write_bytes(packed)
        try:
            images = images_of(path)
        except PgganError as error:
            images = [str(error)]
        assert all("\n" not in image and len(image) < 2000 for image in images if isinstance(image, str))
