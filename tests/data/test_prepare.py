"""Preparing a store from images: content, options, destination, disk."""

import errno
import os
import shutil

import lmdb
import numpy as np
import pytest
from PIL import Image

from pggan.data.prepare import size_estimate as estimate_module
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources.image_io import fit_to_square
from pggan.data.store.pyramid import pyramid
from pggan.data.store.store import Store
from pggan.utils.errors import DataError, UsageError
from pggan.utils.formatting import printable
from tests.helpers.image_files import encoded, portrait, write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures", 12)


def contents(path):
    with Store(path) as store:
        return {side: store.read(side, range(len(store))) for side in store.resolutions}


def assert_nothing_left(tmp_path, *names):
    assert sorted(os.listdir(tmp_path)) == sorted(("pictures", *names))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_of_every_picture_is_stored(folder, tmp_path, channels):
    done = []
    options = PrepareOptions(channels=channels, codec="16:png,32:webp")
    report = prepare(str(folder), tmp_path / "data", options, on_progress=done.append)
    assert (report.count, report.resolutions, sum(done)) == (12, [4, 8, 16, 32], 12)
    levels = contents(tmp_path / "data")
    for index in range(12):
        picture = portrait(index) if channels == 3 else portrait(index).convert("L")
        expected = pyramid(np.asarray(picture).reshape(32, 32, channels))
        for side, level in expected.items():
            np.testing.assert_array_equal(levels[side][index], level)
    with Store(tmp_path / "data") as store:
        manifest = store.manifest
        assert manifest.codecs == {4: "raw", 8: "raw", 16: "png", 32: "webp"}
        assert manifest.bytes == report.bytes
        assert manifest.bytes[8] == 12 * channels * 64
        assert (manifest.source, manifest.channels, manifest.labels) == ("pictures", channels, ())
        assert manifest.options["max_res"] == 32
        assert store.labels.shape == (12, 0)
    assert report.bytes_on_disk == os.path.getsize(tmp_path / "data" / "data.mdb")
    assert_nothing_left(tmp_path, "data")


@pytest.mark.long
def test_workers_change_nothing(tmp_path):
    folder = write_folder(tmp_path / "pictures", 30)
    (folder / "7.png").write_bytes(b"broken")
    reports = [prepare(str(folder), tmp_path / f"data{n}", PrepareOptions(workers=n)) for n in (1, 2)]
    assert reports[0].bad == reports[1].bad == [{"name": "7.png", "reason": "not a picture that can be read"}]
    one, two = contents(tmp_path / "data1"), contents(tmp_path / "data2")
    assert len(one[4]) == 29
    for side in one:
        np.testing.assert_array_equal(one[side], two[side])


@pytest.mark.long
def test_drawn_faces_and_their_labels(tmp_path):
    report = prepare("drawn:9", tmp_path / "a", PrepareOptions(max_res=16, seed=3))
    prepare("drawn:5", tmp_path / "b", PrepareOptions(max_res=16, seed=3, workers=2))
    prepare("drawn:5", tmp_path / "c", PrepareOptions(max_res=16, seed=4))
    assert "CC BY 4.0" in report.attribution
    with Store(tmp_path / "a") as a, Store(tmp_path / "b") as b, Store(tmp_path / "c") as c:
        np.testing.assert_array_equal(a.read(16, range(5)), b.read(16, range(5)))
        np.testing.assert_array_equal(a.labels[:5], b.labels)
        assert a.manifest.attribution == report.attribution
        assert [column.name for column in a.manifest.labels] == report.labels
        assert (b.read(16, range(5)) != c.read(16, range(5))).any()
        assert (b.labels != c.labels).any()


def test_the_default_resolution_is_what_95_of_100_reach(tmp_path):
    folder = tmp_path / "pictures"
    write_folder(folder, 20, side=40)
    portrait(50, 16).save(folder / "0.png")  # 19 of 20 reach 32
    report = prepare(str(folder), tmp_path / "a", PrepareOptions())
    assert (max(report.resolutions), report.count, report.left_out) == (32, 19, {"too small": 1})
    assert report.converted == {"resized down": 19}
    portrait(51, 20).save(folder / "1.png")  # 18 of 20
    assert max(prepare(str(folder), tmp_path / "b", PrepareOptions()).resolutions) == 16


def test_smaller_pictures_are_left_out_or_enlarged(folder, tmp_path):
    portrait(50, 16).save(folder / "3.png")
    report = prepare(str(folder), tmp_path / "a", PrepareOptions(max_res=32))
    assert (report.count, report.left_out) == (11, {"too small": 1})
    report = prepare(str(folder), tmp_path / "b", PrepareOptions(max_res=32, upscale=True))
    assert (report.count, report.left_out, report.converted) == (12, {}, {"enlarged": 1})
    expected = np.asarray(portrait(50, 16).resize((32, 32), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    np.testing.assert_array_equal(contents(tmp_path / "b")[32][3], expected)
    with pytest.raises(DataError, match="smaller than 64x64; give a lower --max-res, or --upscale"):
        prepare(str(folder), tmp_path / "c", PrepareOptions(max_res=64))


def test_pictures_that_are_not_square_are_fitted_or_left_out(tmp_path):
    folder = write_folder(tmp_path / "pictures", 2)
    tall = portrait(60, 32, height=48)
    tall.save(folder / "2.png")
    reports = {}
    for how in ("crop", "pad", "reject"):
        reports[how] = prepare(str(folder), tmp_path / how, PrepareOptions(max_res=32, fit=how))
    assert reports["crop"].converted == {"cropped to a square": 1}
    np.testing.assert_array_equal(contents(tmp_path / "crop")[32][2], np.asarray(tall)[8:40].transpose(2, 0, 1))
    assert reports["pad"].converted == {"padded to a square": 1, "resized down": 1}
    np.testing.assert_array_equal(
        contents(tmp_path / "pad")[32][2], fit_to_square(np.asarray(tall), 32, "pad").transpose(2, 0, 1)
    )
    assert (reports["reject"].count, reports["reject"].left_out) == (2, {"not square": 1})


def test_conversions_are_counted(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    portrait(0).save(folder / "0.png", exif=exif)
    portrait(1).convert("L").save(folder / "1.png")
    portrait(2).convert("CMYK").save(folder / "2.tif")
    Image.fromarray(np.full((32, 32), 40000, np.uint16)).save(folder / "3.png")
    report = prepare(str(folder), tmp_path / "data", PrepareOptions())
    assert report.converted == {"turned by EXIF orientation": 1, "grey to colour": 2, "CMYK": 1, "16-bit": 1}
    assert (contents(tmp_path / "data")[4][3] == round(40000 / 257)).all()


@pytest.mark.long
def test_bad_pictures_do_not_stop_the_rest(folder, tmp_path):
    (folder / "5.png").write_bytes(encoded(portrait(5))[:70])
    report = prepare(str(folder), tmp_path / "data", PrepareOptions())
    assert (report.count, report.left_out) == (11, {"bad": 1})
    assert report.bad[0]["name"] == "5.png"
    with pytest.raises(DataError, match=r"5.png: .*--strict"):
        prepare(str(folder), tmp_path / "strict", PrepareOptions(strict=True, workers=2))
    with pytest.raises(DataError, match=r"5.png: bad .*taken whole"):
        prepare(str(folder), tmp_path / "strict", PrepareOptions(whole=True))
    assert_nothing_left(tmp_path, "data")


def test_a_source_without_a_usable_picture_is_an_error(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"broken")
    for options in (PrepareOptions(), PrepareOptions(max_res=8)):
        with pytest.raises(DataError, match="none of the 1 pictures"):
            prepare(str(folder), tmp_path / "data", options)
    assert_nothing_left(tmp_path)


def test_a_limit_takes_the_first_pictures(folder, tmp_path):
    assert prepare(str(folder), tmp_path / "data", PrepareOptions(limit=5)).count == 5
    np.testing.assert_array_equal(contents(tmp_path / "data")[32][4], np.asarray(portrait(4)).transpose(2, 0, 1))


# the disk


def test_too_little_disk_is_told_before(folder, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(DataError, match=r"about .* KiB are needed at .*, 9.8 KiB are free; free some space.*--force"):
        prepare(str(folder), tmp_path / "data", PrepareOptions())
    assert_nothing_left(tmp_path)
    assert prepare(str(folder), tmp_path / "data", PrepareOptions(force=True)).count == 12


@pytest.mark.long
@pytest.mark.parametrize("codec", ["raw", "4:png"])
def test_the_estimate_is_about_right(codec, tmp_path, monkeypatch):
    usage, estimates = shutil.disk_usage(tmp_path), []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    monkeypatch.setattr(estimate_module, "size", lambda count: estimates.append(count) or "")
    options = PrepareOptions(codec=codec, max_res=64, upscale=True)
    with pytest.raises(DataError, match="are needed at"):
        prepare("drawn:200", tmp_path / "data", options)
    monkeypatch.undo()
    actual = prepare("drawn:200", tmp_path / "data", options).bytes_on_disk
    assert 0.85 < estimates[0] / actual < 1.15


@pytest.mark.parametrize(
    "error, free, number",
    [
        (lmdb.DiskError("mdb_txn_commit: No space left on device"), 1 << 40, errno.ENOSPC),
        (lmdb.Error("mdb_env_sync: Disk quota exceeded"), 1 << 40, errno.EDQUOT),
        (lmdb.Error("mdb_txn_commit: Input/output error"), 1 << 10, errno.ENOSPC),  # a write cut short
        (lmdb.Error("mdb_txn_commit: Input/output error"), 1 << 40, errno.EIO),
    ],
)
def test_a_disk_that_fills_up_or_fails(folder, tmp_path, monkeypatch, error, free, number):
    def full(force=False):
        raise error

    class Environment:
        def __init__(self, *args, **kwargs):
            self.real = real(*args, **kwargs)

        def __getattr__(self, name):
            return full if name == "sync" else getattr(self.real, name)

    real, usage = lmdb.open, shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("pggan.data.store.writer.lmdb.open", Environment)
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
        with pytest.raises(OSError, match=str(tmp_path / "data")) as caught:
            prepare(str(folder), tmp_path / "data", PrepareOptions(force=True))
    assert caught.value.errno == number
    assert_nothing_left(tmp_path, "data.partial")
    assert prepare(str(folder), tmp_path / "data", PrepareOptions(force=True)).resumed == 12
    assert_nothing_left(tmp_path, "data")


# options


@pytest.mark.parametrize(
    "options, flag",
    [
        ({"max_res": 100}, "--max-res"),
        ({"max_res": 2}, "--max-res"),
        ({"max_res": 2**20}, "--max-res"),
        ({"codec": "gif"}, "--codec"),
        ({"quality": 0}, "--quality"),
        ({"channels": 2}, "--channels"),
        ({"fit": "stretch"}, "--fit"),
        ({"limit": 0}, "--limit"),
        ({"shard": (0, 2)}, "--shard"),
        ({"shard": (3, 2)}, "--shard"),
        ({"workers": 0}, "--workers"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_options_are_checked_and_named(options, flag):
    with pytest.raises(UsageError, match=flag):
        PrepareOptions(**options)


def test_names_are_shown_on_one_line():
    assert printable("a b/é.png") == "a b/é.png"
    assert printable("a\nb\x1b[31m\udcff") == "a\\nb\\x1b[31m\\udcff"
