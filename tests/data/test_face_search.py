"""The search for faces around its detector: where the report goes, duplicates that stay together, interruptions."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pggan.cli import run
from pggan.data.duplicate_groups import drop_images
from pggan.data.photos import face_search
from pggan.data.photos.duplicates import MOST_DIFFERENT, DuplicateFinder, DuplicateGroups, difference_hash, grey_cells
from pggan.data.photos.face_detection import Face
from pggan.data.photos.face_search import FaceChoice, find_faces
from pggan.data.prepare.prepare import PrepareOptions, plan, prepare
from pggan.data.sources import open_source
from pggan.data.sources.face_table import BLURRED, DUPLICATE, LEFT_OUT, SMALL, USED
from pggan.data.store.manifest import Manifest
from pggan.data.store.merge import merge
from pggan.data.store.store import Store
from pggan.utils.errors import DataError, UsageError
from tests.helpers.grey_cells import cells_of
from tests.helpers.lmdb_contents import assert_same


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (".", "is a directory; give a file name"),
        ("missing/faces.csv", "there is no directory .*missing; make it"),
        ("a.txt/faces.csv", "there is no directory .*a.txt; make it"),
        ("data", "is where the store will be"),
        ("data/faces.csv", "is where the store will be"),
        ("data.partial/faces.csv", "is where the store will be"),
        ("pipe", "is no file but a device or a pipe"),
        ("closed/faces.csv", "closed is not writable"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_search(tmp_path, monkeypatch, report, reason):
    (tmp_path / "a.txt").touch()
    (tmp_path / "closed").mkdir()
    os.mkfifo(tmp_path / "pipe")
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and access(path, mode))
    monkeypatch.setattr("pggan.data.prepare.faces.find_faces", lambda *arguments: pytest.fail("it searched"))
    options = PrepareOptions(align="auto", report=str(tmp_path / report))
    for make in (prepare, plan):
        with pytest.raises(UsageError, match=reason) as raised:
            make("drawn:3", tmp_path / "data", options)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "data").exists()


LANDMARKS = np.array([[40, 50], [80, 50], [60, 70], [45, 90], [75, 90]], float)


class OneFace:
    """Stands for the detector: one face in the middle of every picture."""

    def faces(self, picture):
        return [Face(LANDMARKS, (20, 20, 80, 80), 0.95, float(picture.mean()))]


@pytest.fixture
def one_face(monkeypatch):
    monkeypatch.setattr(face_search, "FaceDetector", OneFace)


def photographs(folder, *numbers):
    """Pictures of coarse noise, 120x120; equal numbers are the same one of another quality."""
    folder.mkdir()
    for at, number in enumerate(numbers):
        cells = np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)
        picture = Image.fromarray(cells).resize((120, 120), Image.Resampling.BICUBIC)
        picture.save(folder / f"{at:03}.jpg", quality=95 - at % 20)
    return str(folder)


def test_duplicates_that_stay_are_one_group_in_the_store_and_all_that_is_made_of_it(tmp_path, one_face):
    folder = photographs(tmp_path / "photos", 7, 1, 2, 7, 3, 2, 7)
    report = tmp_path / "faces.csv"
    options = PrepareOptions(align="auto", duplicates="keep", max_res=8, report=str(report))
    expected = {1: [0, 3, 6], 2: [2, 5]}
    shards = [str(tmp_path / f"part{number}") for number in (1, 2)]
    for number, path in enumerate(shards, 1):
        prepare(folder, path, replace(options, shard=(number, 2), report=None))
    merge(tmp_path / "merged", shards)
    prepare(folder, tmp_path / "data", options)
    prepare(folder, tmp_path / "again", PrepareOptions(align=str(report), max_res=8))
    prepare(str(tmp_path / "data"), tmp_path / "smaller", PrepareOptions(max_res=4))
    for name in ("data", "again", "smaller", "merged"):
        with Store(tmp_path / name) as store:
            assert store.manifest.duplicates == expected, name
    merge(tmp_path / "twice", [tmp_path / "data", tmp_path / "again"])
    with Store(tmp_path / "twice") as store:
        assert store.manifest.duplicates == {**expected, 3: [7, 10, 13], 4: [9, 12]}
    prepare(folder, tmp_path / "dropped", replace(options, duplicates="drop", report=None))
    with Store(tmp_path / "dropped") as store:
        assert (len(store), store.manifest.duplicates) == (4, {})


class FaceOfTheLargest(OneFace):
    """Finds a face a quarter as large as the picture, the less sharp the larger the picture."""

    def faces(self, picture):
        side = picture.shape[0] / 4
        return [Face(LANDMARKS, (0, 0, side, side), 0.95, 1000 - side)]


def test_a_copy_takes_the_place_of_a_picture_that_is_not_used_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(face_search, "FaceDetector", FaceOfTheLargest)
    cells = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    for name, side in (("a small", 120), ("b large", 400), ("c middle", 200)):
        Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")

    def used(**choice):
        return [row.used for row in find_faces(open_source(str(tmp_path)), FaceChoice(**choice)).rows]

    again = f"{DUPLICATE} b large.png"
    assert used() == [SMALL, USED, again]
    assert used(sharpest=0.5) == [SMALL, BLURRED, USED]
    assert used(min_face=10) == [USED, f"{DUPLICATE} a small.png", f"{DUPLICATE} a small.png"]


def test_groups_join_through_pictures_between_them():
    groups = DuplicateGroups()
    near, far = (1 << 20) - 1, (1 << 40) - 1  # near differs in 20 bits from 0 and from far, which differ in 40
    for name, value in (("a", 0), ("b", far), ("alone", 1 << 200 | ((1 << 60) - 1) << 100), ("between", near)):
        groups.add(name, cells_of(value))
    assert groups.numbers() == {"a": 1, "b": 1, "between": 1}


@pytest.mark.parametrize(
    "duplicates",
    [{"0": [1, 2]}, {"1": [1, 9]}, {"1": [1, 2], "2": [2, 3]}, {"1": []}, {"1": [-1]}, {"a": [1]}, {"1": 1}, [1]],
)
def test_groups_that_cannot_be_are_refused(duplicates):
    values = {"count": 4, "channels": 3, "resolutions": [4], "codecs": {"4": "raw"}, "bytes": {"4": 1}, "source": "s"}
    assert Manifest.from_json({**values, "duplicates": {"5": [1, 3]}}).duplicates == {5: [1, 3]}
    assert Manifest.from_json(values).duplicates == {}
    with pytest.raises(ValueError):  # noqa: PT011
        Manifest.from_json({**values, "duplicates": duplicates})


def test_dropped_images_leave_their_groups():
    assert drop_images({1: [0, 3, 6], 2: [2, 5]}, [2, 3, 5]) == {1: [0, 3]}


class Interrupting(OneFace):
    """Counts the pictures it looks at, and is interrupted at the third of them."""

    looks = 0

    def faces(self, picture):
        Interrupting.looks += 1
        if Interrupting.looks == 3:
            raise KeyboardInterrupt
        return super().faces(picture)


@pytest.fixture
def interrupting(monkeypatch):
    monkeypatch.setattr(face_search, "FaceDetector", Interrupting)
    monkeypatch.setattr(Interrupting, "looks", 0)


def test_a_search_goes_on_where_it_was_interrupted(tmp_path, interrupting):
    folder = photographs(tmp_path / "photos", *range(6))
    dest, memory = tmp_path / "data", tmp_path / ".data.pggan-faces"
    options = PrepareOptions(align="auto", max_res=8)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, dest, options)
    assert not dest.exists()
    assert len(memory.read_bytes().split()) > 2
    first = Path(folder) / "000.jpg"
    os.utime(first, ns=(1, 1))  # another picture by its time: it is looked at again
    with memory.open("ab") as file:
        file.write(b'["002.jpg", "no stamp", "0", "", []]\n[1]\n{"a": 1}\n\xff\n["003.jpg", "' + b"[" * 3000)
    prepare(folder, dest, options)
    assert Interrupting.looks == 3 + 5
    assert not memory.exists()
    prepare(folder, tmp_path / "whole", options)
    assert Interrupting.looks == 3 + 5 + 6
    assert_same(dest, tmp_path / "whole")


def test_faces_are_remembered_until_the_store_is_complete(tmp_path, interrupting, monkeypatch):
    folder, memory = photographs(tmp_path / "photos", *range(2)), tmp_path / ".data.pggan-faces"
    options = PrepareOptions(align="auto", max_res=8)

    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "data", options, on_progress=interrupt)
    assert memory.is_file()
    report = prepare(folder, tmp_path / "data", options)
    assert (Interrupting.looks, report.count) == (2, 2)
    assert not memory.exists()
    Interrupting.looks = 10
    with pytest.raises(DataError, match="are smaller than"):
        prepare(folder, tmp_path / "large", replace(options, max_res=512))
    plan(folder, tmp_path / "only", options)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".large.pggan-faces", "data", "photos"]
    looks = Interrupting.looks
    assert prepare(folder, tmp_path / "large", replace(options, max_res=512, upscale=True)).count == 2
    assert Interrupting.looks == looks
    assert not (tmp_path / ".large.pggan-faces").exists()
    memory.mkdir()
    with pytest.raises(UsageError, match="is in the way: it holds no search"):
        prepare(folder, tmp_path / "data", replace(options, overwrite=True))


def test_a_bad_picture_of_a_strict_preparation_leaves_the_faces_that_are_known(tmp_path, interrupting):
    folder, memory = photographs(tmp_path / "photos", *range(2)), tmp_path / ".data.pggan-faces"
    broken = Path(folder) / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nno")
    options = PrepareOptions(align="auto", max_res=8, strict=True)
    with pytest.raises(DataError, match=r"broken.png: .* \(--strict\)"):
        prepare(folder, tmp_path / "data", options)
    assert memory.is_file()
    broken.unlink()
    assert prepare(folder, tmp_path / "data", options).count == 2
    assert Interrupting.looks == 2
    assert not memory.exists()


def test_faces_that_a_person_left_out_in_the_table_are_no_bad_pictures(tmp_path, one_face):
    folder, report = photographs(tmp_path / "photos", *range(5)), tmp_path / "faces.csv"
    prepare(folder, tmp_path / "data", PrepareOptions(align="auto", max_res=8, report=str(report)))
    lines = report.read_text().splitlines()
    for line, word in ((1, "no"), (3, ""), (4, "false: hair")):
        lines[line] = lines[line].replace(",yes,", f",{word},")
    report.write_text("\n".join(lines))
    found = prepare(folder, tmp_path / "chosen", PrepareOptions(align=str(report), max_res=8, strict=True))
    assert (found.count, found.left_out) == (2, {LEFT_OUT: 3})

    changed, again = report.read_text(), PrepareOptions(align="auto", max_res=8, report=str(report))
    with pytest.raises(UsageError, match=r"faces.csv exists already, and somebody may have changed it"):
        prepare(folder, tmp_path / "again", again)
    assert report.read_text() == changed
    prepare(folder, tmp_path / "again", replace(again, overwrite=True))
    assert report.read_text() != changed


def test_a_picture_that_cannot_be_read_is_bad_by_the_table_too(tmp_path, one_face):
    folder, report = photographs(tmp_path / "photos", *range(2)), tmp_path / "faces.csv"
    (Path(folder) / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    first = prepare(folder, tmp_path / "data", PrepareOptions(align="auto", max_res=8, report=str(report)))
    again = prepare(folder, tmp_path / "again", PrepareOptions(align=str(report), max_res=8))
    assert first.left_out == again.left_out == {"bad": 1}
    assert first.bad == again.bad
    with pytest.raises(DataError, match=r"broken.png: .* \(--strict\)"):
        prepare(folder, tmp_path / "third", PrepareOptions(align=str(report), max_res=8, strict=True))


def test_ctrl_c_says_that_the_faces_stay(tmp_path, interrupting, capsys):
    folder = photographs(tmp_path / "photos", *range(4))
    arguments = ["prepare-data", folder, str(tmp_path / "data"), "--align", "auto", "--max-res", "8", "--workers", "1"]
    assert run(arguments) == 130
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(
        f"the faces found so far are kept in {tmp_path}/.data.pggan-faces, run the same command again to go on"
    )
    Interrupting.looks = 10
    assert run(arguments) == 0
    assert Interrupting.looks == 10 + 2


def head(number, ground=255, side=240):
    """A drawn head, each with its own features, on a plain ground."""
    random = np.random.default_rng(number)
    cells = Image.fromarray(random.integers(40, 200, (9, 9, 3), np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    mask = Image.new("L", cells.size)
    ImageDraw.Draw(mask).ellipse((side * 0.3, side * 0.2, side * 0.7, side * 0.85), fill=255)
    return Image.composite(cells, Image.new("RGB", cells.size, (ground,) * 3), mask)


@pytest.mark.parametrize("ground", [0, 230, 255])
def test_different_heads_on_a_plain_ground_are_no_duplicates_and_their_copies_are(ground):
    heads, finder = [head(number, ground) for number in range(40)], DuplicateFinder()
    cells = [grey_cells(np.asarray(image)) for image in heads]
    hashes = [difference_hash(values) for values in cells]
    pairs = [(one, other) for number, one in enumerate(hashes) for other in hashes[:number]]
    assert sum((one ^ other).bit_count() <= MOST_DIFFERENT for one, other in pairs) > 10  # by their hashes they are
    assert [finder.find(str(number), values) for number, values in enumerate(cells)] == [None] * 40
    for number, image in enumerate(heads):
        file = io.BytesIO()
        image.resize((120, 120), Image.Resampling.LANCZOS).save(file, "JPEG", quality=75)
        assert finder.find("copy", grey_cells(np.asarray(Image.open(file)))) == str(number)


def test_similar_pictures_are_found_however_many_share_a_band_of_their_hashes():
    """Plain grounds, beside pictures that share none: each is compared with each as the second way."""
    random = np.random.default_rng(3)
    pictures = [np.asarray(head(number % 70, side=64)) for number in range(90)]
    pictures += [random.integers(0, 256, (16, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(30)]
    cells, finder = [grey_cells(picture) for picture in pictures], DuplicateFinder()
    for number, own in enumerate(cells):
        steps = np.diff(np.frombuffer(own, np.uint8).astype(int).reshape(16, 17))
        near = [
            str(at) for at, other in enumerate(cells[:number]) if are_alike(own, other, (abs(steps) <= 2).sum() > 80)
        ]
        assert finder.near(own) == near
        finder.add(str(number), own)


def are_alike(one, other, is_plain):
    away = np.frombuffer(one, np.uint8).astype(float) - np.frombuffer(other, np.uint8)
    near = (difference_hash(one) ^ difference_hash(other)).bit_count() <= MOST_DIFFERENT
    return near and (not is_plain or away.std() <= 4)
