"""Damage of stores: named by verify, mended by repair."""

import json
import os
import random
import struct

import numpy as np
import pytest
from PIL import Image

from pggan.cli import run
from pggan.data.label_columns import LabelColumn
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store import repair as repair_module
from pggan.data.store import verify as verify_module
from pggan.data.store.codecs import encode
from pggan.data.store.lmdb_environment import LABELS, record_key
from pggan.data.store.repair import repair
from pggan.data.store.store import Store
from pggan.data.store.verify import jpeg_tolerance, verify
from pggan.data.store.writer import StoreWriter
from pggan.utils.errors import DataError
from tests.helpers.image_files import tree, write_folder
from tests.helpers.lmdb_contents import assert_same, get, noise, put, rewrite, write

CODECS = {4: "raw", 8: "raw", 16: "png", 32: "webp"}
COLUMNS = (LabelColumn("kind", ("a", "b", "c")), LabelColumn("hat", ("no", "yes")))
CLASSES = [(i % 3, i % 2) for i in range(20)]


def processes(test):
    test.processes = True
    return test


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """Workers take their time to start: most tests do without."""
    if not getattr(request.function, "processes", False):
        for module in (verify_module, repair_module):
            monkeypatch.setattr(module, "ordered_map", here)


def here(work, items, *_, **__):
    yield from map(work, items)
    work.records.close()


@pytest.fixture
def store(tmp_path):
    return write(tmp_path / "data", list(range(9)), CODECS, CLASSES, COLUMNS)


def damages_of(path, **options):
    return [str(damage) for damage in verify(path, **options).damages()]


def flipped(path, database, index, at=-1):
    record = bytearray(get(path, database, record_key(index)))
    record[at] ^= 1
    put(path, database, record_key(index), bytes(record))


def other_level(path, index, side):
    """Another picture in a level, with a digest that fits it: only the full size tells."""
    from pggan.data.store.checksums import SIZE, RunningChecksums, digest, part_names

    record = encode(noise(1, side)[0], CODECS[side], 95)
    put(path, f"{side}x{side}", record_key(index), record)
    names = part_names(CODECS, True)
    row = bytearray(get(path, "digests", record_key(index)))
    at = names.index(f"{side}x{side}") * SIZE
    row[at : at + SIZE] = digest(record)
    put(path, "digests", record_key(index), bytes(row))
    totals = RunningChecksums(names)
    totals.feed(b"".join(get(path, "digests", record_key(i)) for i in range(9)))
    rewrite(path, lambda v: json.dumps({**v, "digests": totals.values()}).encode())


@pytest.mark.parametrize("quick", [False, True])
def test_a_whole_store(store, quick):
    done = []
    report = verify(store, quick=quick, on_start=done.append, on_progress=done.append)
    assert report.intact
    assert (report.count, report.resolutions, report.with_digests, report.damage_count) == (9, [4, 8, 16, 32], True, 0)
    assert done[0] == sum(done[1:]) == 9


DAMAGES = {
    "bit": (lambda p: flipped(p, "16x16", 3), ["picture 3 at 16x16: digest differs"], True),
    "raw bit": (lambda p: flipped(p, "4x4", 8), ["picture 8 at 4x4: digest differs"], True),
    "full": (lambda p: flipped(p, "32x32", 5), ["picture 5 at 32x32: digest differs"], True),
    "cut": (
        lambda p: put(p, "8x8", record_key(0), get(p, "8x8", record_key(0))[:-1]),
        ["picture 0 at 8x8: digest differs"],
        True,
    ),
    "dropped": (lambda p: put(p, "8x8", record_key(2), None), ["picture 2 at 8x8: missing"], True),
    "dropped full": (lambda p: put(p, "32x32", record_key(8), None), ["picture 8 at 32x32: missing"], True),
    "added": (
        lambda p: (
            put(p, "8x8", record_key(2), None),
            added(p, "8x8", record_key(11)),
            added(p, "8x8", record_key(12)),
        ),
        ["8x8: 10 records for 9 pictures", "picture 2 at 8x8: missing"],
        True,
    ),
    "level": (
        lambda p: other_level(p, 7, 8),
        ["picture 7 at 8x8: up to * grey levels from the mean of 32x32"],
        False,
    ),
    "digest": (lambda p: flipped(p, "digests", 4, 9), ["digests: those of 8x8 are not the manifest's"], True),
    "no digest": (
        lambda p: put(p, "digests", record_key(4), None),
        [f"digests: those of {n} are not the manifest's" for n in ("4x4", "8x8", "16x16", "32x32", "labels")],
        True,
    ),
}


def added(path, database, name):
    import lmdb

    with lmdb.open(str(path), max_dbs=32, lock=False) as env:
        opened = env.open_db(database.encode())
        with env.begin(write=True, db=opened) as txn:
            txn.put(name, b"x")


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_kind_of_damage_is_found_and_mended(tmp_path, store, kind):
    damage, expected, quickly = DAMAGES[kind]
    whole = write(tmp_path / "whole", list(range(9)), CODECS, CLASSES, COLUMNS)
    damage(store)
    report = verify(store)
    messages = [str(damage) for damage in report.damages()]
    assert len(messages) == len(expected) == report.damage_count
    for message, pattern in zip(messages, expected):
        start, _, end = pattern.partition("*")
        assert message.startswith(start)
        assert message.endswith(end)
    assert (damages_of(store, quick=True) == messages) == quickly
    before = tree(store)
    mended = repair(store, report)
    assert tree(store) != before
    assert sorted(os.listdir(tmp_path)) == ["data", "whole"]
    assert verify(store).intact
    if "full" not in kind:
        assert (mended.count, mended.dropped) == (9, [])
        assert mended.rebuilt == ("digest" not in kind)
        assert mended.exactly == (mended.rebuilt if kind != "level" else 0)
        assert_same(store, whole, but=("progress",))
        return
    gone = report.damages()[0].image
    assert (mended.count, mended.dropped, mended.dropped_count) == (8, [gone], 1)
    remaining = [i for i in range(9) if i != gone]
    write(tmp_path / "rest", remaining, CODECS, CLASSES, COLUMNS)
    assert_same(store, tmp_path / "rest", but=("progress", "left_out"))
    with Store(store) as left:
        assert left.manifest.left_out == {"damaged": 1}
        np.testing.assert_array_equal(left.labels, [CLASSES[i] for i in remaining])


def test_damaged_labels_are_named_and_become_unknown(tmp_path, store):
    data = bytearray(get(store, "meta", LABELS))
    data[-8 * 9 + 8 * 4] ^= 1  # picture 4's kind
    put(store, "meta", LABELS, bytes(data))
    report = verify(store)
    assert [str(damage) for damage in report.damages()] == ["picture 4's labels: digest differs"]
    assert repair(store, report).unlabelled == 1
    with Store(store) as mended:
        assert mended.labels[4].tolist() == [-1, -1]
        expected = np.array(CLASSES[:9])
        expected[4] = -1
        np.testing.assert_array_equal(mended.labels, expected)
    assert verify(store).intact


def test_an_array_of_labels_that_cannot_be_read(tmp_path, store):
    data = get(store, "meta", LABELS)
    put(store, "meta", LABELS, b"\0" * 10 + data[10:])  # its numbers are whole
    report = verify(store)
    assert [str(damage) for damage in report.damages()] == ["labels: no .npy file of a known version"]
    assert repair(store, report).unlabelled == 0
    assert verify(store).intact
    with Store(store) as mended:
        np.testing.assert_array_equal(mended.labels, CLASSES[:9])
    put(store, "meta", LABELS, data[:100])
    report = verify(store)
    assert report.damage_count == 10
    assert repair(store, report).unlabelled == 9
    with Store(store) as mended:
        assert (mended.labels == -1).all()


def test_a_class_number_beyond_the_classes_is_damage(tmp_path):
    path = write(tmp_path / "data", [0, 1], {8: "raw"}, [(0,), (9,)], (LabelColumn("kind", ("a", "b")),))
    assert damages_of(path) == ["picture 1's labels: no such class"]


def test_a_store_without_digests_is_checked_by_decoding(store):
    rewrite(store, lambda v: json.dumps({k: x for k, x in v.items() if k not in ("digests", "exact")}).encode())
    assert verify(store).intact
    assert not verify(store).with_digests
    flipped(store, "4x4", 3)
    put(store, "16x16", record_key(2), b"\x89PNG no more")
    assert verify(store, quick=True).intact
    report = verify(store)
    assert str(report.damages()[0]).startswith("picture 2 at 16x16: does not decode: damaged png")
    assert len(report.damaged_images) == 1  # one grey level may come of rounding
    image = np.frombuffer(get(store, "4x4", record_key(3)), np.uint8).copy()
    image[0] ^= 16
    put(store, "4x4", record_key(3), image.tobytes())
    report = verify(store)
    assert str(report.damages()[1]).startswith("picture 3 at 4x4: up to 1")
    assert repair(store, report).rebuilt == 2
    assert verify(store).with_digests
    assert verify(store).intact


def test_older_stores_of_larger_ones_are_whole(tmp_path):
    """Levels cut out of a larger store follow from its full size, unrounded: one grey level away from their own."""
    folder = write_folder(tmp_path / "pictures", 4, side=64)
    Image.fromarray(noise(1, 64)[0].transpose(1, 2, 0)).save(folder / "9.png")
    prepare(str(folder), tmp_path / "large")
    prepare(str(tmp_path / "large"), tmp_path / "small", PrepareOptions(max_res=16))
    with Store(tmp_path / "large") as large, Store(tmp_path / "small") as small:
        assert (large.manifest.exact, small.manifest.exact) == (True, False)
    assert verify(tmp_path / "large").intact
    assert verify(tmp_path / "small").intact
    rewrite(tmp_path / "small", lambda v: json.dumps({**v, "exact": True}).encode())
    assert not verify(tmp_path / "small").intact


@pytest.mark.parametrize("codec", ["jpeg", "4:jpeg", "4:jpeg,32:png", "4:raw,32:jpeg"])
@pytest.mark.parametrize("quality", [5, 50, 95])
@pytest.mark.parametrize("pictures", ["portraits", "noise"])
def test_jpeg_levels_agree_within_the_tolerance(tmp_path, codec, quality, pictures):
    folder = write_folder(tmp_path / "pictures", 3, side=128)
    if pictures == "noise":
        for i in range(3):
            Image.fromarray(noise(1, 128, seed=i)[0].transpose(1, 2, 0)).save(folder / f"{i}.png")
    prepare(str(folder), tmp_path / "data", PrepareOptions(codec=codec, quality=quality))
    assert damages_of(tmp_path / "data") == []
    with Store(tmp_path / "data") as store:
        manifest = store.manifest
    assert jpeg_tolerance(manifest) == {5: 60, 50: 43, 95: 7}[quality]


def test_a_level_rebuilt_from_a_jpeg(tmp_path):
    write_folder(tmp_path / "pictures", 3)
    prepare(str(tmp_path / "pictures"), tmp_path / "data", PrepareOptions(codec="32:jpeg"))
    flipped(tmp_path / "data", "16x16", 1)
    report = verify(tmp_path / "data", quick=True)
    mended = repair(tmp_path / "data", report)
    assert (mended.rebuilt, mended.exactly, mended.from_jpeg) == (1, 0, True)
    assert verify(tmp_path / "data").intact


def test_a_store_without_an_intact_picture_stays_as_it_is(tmp_path):
    path = write(tmp_path / "data", [0, 1], {4: "raw", 8: "raw"})
    for index in (0, 1):
        flipped(path, "8x8", index)
    before = tree(path)
    with pytest.raises(DataError, match=r"no picture of .* is whole, so it stays as it is"):
        repair(path, verify(path))
    assert tree(path) == before
    assert os.listdir(tmp_path) == ["data"]


def test_a_repair_leaves_unfinished_stores_alone(tmp_path, store):
    from pggan.data.store.resume import StoreProgress

    writer = StoreWriter(tmp_path / "data.partial", {4: "raw"}, StoreProgress({"command": "prepare-data"}))
    writer.add({4: b"x"})
    writer._flush()
    writer.close()
    flipped(store, "4x4", 1)
    with pytest.raises(DataError, match="is an unfinished store; finish it"):
        repair(store, verify(store))
    assert sorted(os.listdir(tmp_path)) == ["data", "data.partial"]


def test_a_repair_without_room_on_the_disk_is_refused(store, monkeypatch):
    import shutil

    flipped(store, "4x4", 1)
    report, usage = verify(store), shutil.disk_usage(store)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(DataError, match="are needed to make"):
        repair(store, report)


def test_an_empty_store_is_whole(tmp_path):
    path = write(tmp_path / "data", [], {4: "raw"})
    assert verify(path).intact


@pytest.mark.long
@processes
def test_workers_find_the_same(store):
    for index in (1, 3, 8):
        flipped(store, "16x16", index)
    one, two = verify(store), verify(store, workers=2)
    assert one.damages() == two.damages()
    assert len(one.damages()) == 3
    assert repair(store, two, workers=2).rebuilt == 3
    assert verify(store).intact


@pytest.mark.long
@processes
def test_pages_overwritten_with_noise_are_reported_unless_unused(tmp_path):
    """Damage of the file itself, its index included, neither passes nor ends the process."""
    codecs = {4: "raw", 8: "raw", 16: "png"}
    whole = write(tmp_path / "whole", list(range(40)), codecs)
    intact_file = (whole / "data.mdb").read_bytes()
    reported = 0
    for seed in range(4):
        path = write(tmp_path / f"data{seed}", list(range(40)), codecs)
        data, dice = bytearray(intact_file), random.Random(seed)
        page = dice.randrange(2, len(data) // 4096)
        data[page * 4096 : (page + 1) * 4096] = dice.randbytes(4096)
        (path / "data.mdb").write_bytes(bytes(data))
        try:
            report = verify(path, workers=2)
        except DataError:
            reported += 1
            continue
        if report.intact:  # the page is not in use
            assert_same(path, whole)
        else:
            reported += 1
    assert reported


@pytest.mark.parametrize("quick", [False, True])
def test_the_command_lists_damage_and_fixes_it(store, capsys, quick):
    arguments = ["verify-data", str(store), "--workers", "1", *(["--quick"] if quick else [])]
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert f"{store}: 9 pictures, whole (" in out
    assert "9/9 pictures" in err
    flipped(store, "16x16", 3)
    flipped(store, "32x32", 5)
    assert run([*arguments, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    for part in ("damaged: 2 of them", "  picture 3 at 16x16: digest differs\n", f"pggan verify-data {store} --fix"):
        assert part in out
    assert run([*arguments, "--quiet", "--most", "1"]) == 1
    assert "  and 1 more\n" in capsys.readouterr().out
    assert run([*arguments, "--quiet", "--json"]) == 1
    values = json.loads(capsys.readouterr().out)
    assert (values["whole"], values["found"], values["damaged_pictures"], values["fixed"]) == (False, 2, 2, None)
    assert values["damages"][0]["message"] == "picture 3 at 16x16: digest differs"
    assert run([*arguments, "--fix"]) == 0
    out, err = capsys.readouterr()
    assert "mended: 8 pictures" in out
    assert "1 records built from the full size\n" in out
    assert "1 pictures dropped, whose full size was damaged: 5\n" in out
    assert "mending: 9/9" in err
    assert run([*arguments, "--fix", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["fixed"] is None


def test_the_command_refuses_what_is_no_whole_store(tmp_path, capsys):
    assert run(["verify-data", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("pggan: error: ")
    writer = StoreWriter(tmp_path / "half", {4: "raw"})
    writer.add({4: b"x"})
    writer._flush()
    writer.close()
    assert run(["verify-data", str(tmp_path / "half")]) == 1
    assert "half-made" in capsys.readouterr().err


def test_digests_are_those_of_the_records(store):
    """By the definition, computed the long way."""
    from hashlib import blake2b

    with Store(store) as opened:
        manifest, labels = opened.manifest, opened.labels
    for side in CODECS:
        all_of_them = b"".join(
            blake2b(get(store, f"{side}x{side}", record_key(i)), digest_size=8).digest() for i in range(9)
        )
        assert manifest.digests[f"{side}x{side}"] == blake2b(all_of_them, digest_size=16).hexdigest()
    rows = b"".join(blake2b(struct.pack("<2i", *row), digest_size=8).digest() for row in labels.tolist())
    assert manifest.digests["labels"] == blake2b(rows, digest_size=16).hexdigest()
