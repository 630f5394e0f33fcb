"""Stores of strangers: what a store says of itself is checked before it is used, by every command alike."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pggan.cli import run
from pggan.data.label_columns import LabelColumn
from pggan.data.store import codecs
from pggan.data.store import verify as verify_module
from pggan.data.store.codecs import decode, encode, max_record_bytes
from pggan.data.store.decoders import use_torchvision
from pggan.data.store.lmdb_environment import LABELS, record_key
from pggan.data.store.merge import merge
from pggan.data.store.store import Store
from pggan.data.store.verify import verify
from pggan.utils.errors import DataError, PgganError
from tests.helpers.hostile_images import jpeg_of_scans, png_of, webp_of
from tests.helpers.image_files import encoded, portrait, tree
from tests.helpers.lmdb_contents import get, noise, put, rewrite, write

ROOT = Path(__file__).parents[2]
COLUMNS = (LabelColumn("kind", ("a", "b")),)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def store(tmp_path):
    return write(tmp_path / "data", [0, 1, 2], {4: "raw", 8: "png"}, [(0,), (1,), (-1,)], COLUMNS)


MANIFESTS = {
    "codec": (lambda v: v["codecs"].update({"8": "eps"}), "codecs other than raw, png, webp, jpeg"),
    "codec of another kind": (lambda v: v["codecs"].update({"8": ["png"]}), "codecs other than"),
    "resolution": (lambda v: v.update(resolutions=[4, 9]), r"resolutions \(4, 9\)"),
    "resolution twice": (lambda v: v.update(resolutions=[4, 8, 8]), "resolutions"),
    "huge resolution": (lambda v: v.update(resolutions=[4, 1 << 40]), "resolutions"),
    "resolution as text": (lambda v: v.update(resolutions=["4", "8"]), "a resolution: '4' is no whole number"),
    "resolution as fraction": (lambda v: v.update(resolutions=[4.0, 8]), "a resolution: 4.0"),
    "no resolution": (lambda v: v.update(resolutions=[], codecs={}, bytes={}), "no resolutions"),
    "count": (lambda v: v.update(count=-1), "the count: -1"),
    "count as truth": (lambda v: v.update(count=True), "the count: True"),
    "huge count": (lambda v: v.update(count=10**30), "the count: 1000000"),
    "large count": (lambda v: v.update(count=10**9), "1000000000 pictures in a smaller file"),
    "channels": (lambda v: v.update(channels=3.0), "3.0 channels"),
    "bytes": (lambda v: v.update(bytes={"4": 1}), "the resolutions and their bytes do not belong together"),
    "infinite bytes": (lambda v: v.update(bytes={"4": 1, "8": float("inf")}), "bytes: inf"),
    "source": (lambda v: v.update(source={"a": 1}), "the source: .* is no text"),
    "attribution": (lambda v: v.update(attribution=7), "the attribution: 7 is no text"),
    "options": (lambda v: v.update(options=[1]), "options: .1. is no object"),
    "nested option": (lambda v: v["options"].update(a={"b": 1}), "option 'a'"),
    "quality": (lambda v: v["options"].update(quality="best"), "quality is not from 1 to 100"),
    "labels": (lambda v: v.update(labels={"name": "a"}), "labels: .* is no list"),
    "classes": (lambda v: v.update(labels=[{"name": "a", "classes": "xy"}]), "classes: 'xy' is no list"),
    "a number as class": (lambda v: v.update(labels=[{"name": "a", "classes": [1]}]), "a class: 1 is no text"),
    "left_out": (lambda v: v.update(left_out={"bad": "x"}), "left_out: 'x'"),
    "digests": (lambda v: v.update(digests=[1]), "digests: .1. is no object"),
    "digest of another part": (lambda v: v["digests"].pop("8x8"), "the digests are not those of its parts"),
    "no hexadecimal digest": (lambda v: v["digests"].update({"8x8": "x"}), "the digests are not those"),
    "shard": (lambda v: v.update(shard={"number": 1, "of": 10**18, "pictures": 3}), "shard 1/1000000000000000000"),
    "shard of another kind": (lambda v: v.update(shard=[1]), "shard: .1. is no object"),
    "exact": (lambda v: v.update(exact="yes"), "exact is neither"),
    "format": (lambda v: v.update(format=1.9), "the format: 1.9"),
    "format as truth": (lambda v: v.update(format=True), "the format: True"),
    "date": (lambda v: v.update(created=5), "the date: 5"),
}
TEXTS = {
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "number": b"9" * 100_000,
    "undecodable": b'{"count": "\xff"}',
    "nothing": b"null",
    "large": b"[" + b"0," * (9 << 20) + b"0]",
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_is_checked_field_by_field(store, case):
    change, message = MANIFESTS[case]

    def changed(values):
        change(values)
        return json.dumps(values).encode()

    rewrite(store, changed)
    with pytest.raises(DataError, match=rf"the store is damaged .*{message}.*; prepare the data again"):
        Store(store)


@pytest.mark.parametrize("case", TEXTS)
def test_a_manifest_that_is_none_is_one_line(store, case):
    rewrite(store, lambda _: TEXTS[case])
    with pytest.raises(DataError, match="the store is damaged or not what it claims to be") as error:
        Store(store)
    assert len(str(error.value)) < 600


def test_texts_that_no_encoding_can_write_are_escaped(store):
    rewrite(store, lambda v: json.dumps({**v, "source": "a\ud800b"}).encode())
    with Store(store) as opened:
        assert opened.manifest.source == "a\\ud800b"


@pytest.mark.long
def test_every_command_refuses_the_same_store(store, tmp_path, capsys):
    whole = write(tmp_path / "whole", [0], {4: "raw", 8: "png"}, [(0,)], COLUMNS)
    rewrite(store, lambda v: json.dumps({**v, "codecs": {"4": "raw", "8": "eps"}}).encode())
    put(store, "8x8", record_key(0), EPS)
    before = tree(store)
    for arguments in (
        ["info", str(store)],
        ["verify-data", str(store)],
        ["verify-data", str(store), "--fix"],
        ["merge-data", str(tmp_path / "merged"), str(whole), str(store)],
        ["prepare-data", str(store), str(tmp_path / "cut"), "--max-res", "4"],
        ["export-data", str(store), str(tmp_path / "out"), "--as", "folder"],
        ["train", str(store), "--out", str(tmp_path / "run"), "--dry-run"],
        ["evaluate", "--data", str(store), "--generated", str(whole)],
    ):
        assert run(arguments) in (1, 2), arguments
        error = capsys.readouterr().err.strip()
        if "--generated" not in arguments:
            assert "codecs other than" in error, arguments
        assert len(error.splitlines()) == 1
    assert tree(store) == before
    assert sorted(os.listdir(tmp_path)) == ["data", "whole"]


def npy(shape, descr="<i4", data=b"", order=False):
    header = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def saved(save, *arrays, **named):
    out = io.BytesIO()
    save(out, *arrays, **named)
    return out.getvalue()


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


LABEL_RECORDS = {
    "huge": npy((10**15, 1)),
    "large": npy((3 * 10**9, 1)),
    "zip": saved(np.savez, a=np.zeros((3, 1), np.int32)),
    "compressed": saved(np.savez_compressed, arr_0=np.zeros((3, 1), np.int32)),
    "objects": saved(np.save, np.array([[Bomb()]] * 3, object)),
    "no bytes": npy((3, 1)),
    "too many bytes": npy((3, 1), data=bytes(16)),
    "columns": npy((3, 1), data=bytes(12), order=True),
    "fractions": npy((3, 1), "<f4", bytes(12)),
    "shape": npy((1, 3), data=bytes(12)),
    "truth": npy((True, 3), data=bytes(12)),
    "negative": npy((-3, 1), data=bytes(12)),
    "structured": npy((3, 1), [("a", "<i4")], bytes(12)),
    "a header without end": b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    "nested header": npy("(" * 3000),
    "nothing": b"",
    "many megabytes": bytes(1 << 24),
    "beyond the classes": npy((3, 1), data=np.array([5, -7, 10**6], np.int32).tobytes()),
    "another class": npy((3, 1), data=np.array([1, 1, 1], np.int32).tobytes()),
}


@pytest.mark.parametrize("case", LABEL_RECORDS)
def test_a_label_record_is_compared_with_the_bytes_that_are_there(store, tmp_path, case, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(store, "meta", LABELS, LABEL_RECORDS[case])
    with (
        Store(store) as opened,
        pytest.raises(DataError, match="the label record is damaged or not what it claims to be"),
    ):
        opened.labels  # noqa: B018
    with pytest.raises(PgganError):
        merge(tmp_path / "merged", [store])
    assert not Path("exploded").exists()
    assert not Path("merged").exists()


def test_labels_of_old_stores_are_checked_without_digests(store):
    rewrite(store, lambda v: json.dumps({**v, "digests": {}}).encode())
    put(store, "meta", LABELS, LABEL_RECORDS["another class"])
    with Store(store) as opened:
        assert opened.labels.tolist() == [[1], [1], [1]]
    put(store, "meta", LABELS, LABEL_RECORDS["beyond the classes"])
    with Store(store) as opened, pytest.raises(DataError, match="entries beyond their columns"):
        opened.labels  # noqa: B018


@pytest.fixture(params=["Pillow", "torchvision"])
def decoder(request, monkeypatch):
    """Either decoder, which must not be reached."""
    monkeypatch.setattr(codecs, "FAST_DECODERS", {})
    if request.param == "torchvision" and not use_torchvision():
        pytest.skip("this torchvision has no decoders")
    if request.param == "torchvision":
        reached = dict.fromkeys(codecs.FAST_DECODERS, lambda *_: pytest.fail("decoded"))
        monkeypatch.setattr(codecs, "FAST_DECODERS", reached)
    else:
        monkeypatch.setattr(codecs, "_decode_with_pillow", lambda *_: pytest.fail("decoded"))


SMALL = portrait(0, 8)
RECORDS = {
    "huge png": ("png", png_of(30_000, 30_000), "it holds 30000x30000 pixels"),
    "palette": ("png", encoded(SMALL.quantize(4)), "1 bits|2 bits|8 bits"),
    "transparent": ("png", encoded(SMALL.convert("RGBA")), "of 4 channels"),
    "grey": ("png", encoded(SMALL.convert("L")), "of 1 channels"),
    "16 bits": ("png", png_of(8, 8, bits=16), "16 bits"),
    "unknown colour": ("png", png_of(8, 8, kind=5), "no png header"),
    "eps": ("png", EPS, "no png header"),
    "gif": ("png", encoded(SMALL, "GIF"), "no png header"),
    "jpeg as png": ("png", encoded(SMALL, "JPEG"), "no png header"),
    "png as webp": ("webp", encoded(SMALL), "no webp header"),
    "huge canvas": ("webp", webp_of(1 << 24, 255), "it holds 16777216x255 pixels"),
    "other webp": ("webp", encoded(portrait(0, 16), "WEBP", lossless=True), "it holds 16x16 pixels"),
    "lossy webp": ("webp", encoded(portrait(0, 16), "WEBP"), "it holds 16x16 pixels"),
    "large jpeg": ("jpeg", encoded(Image.new("RGB", (3000, 8)), "JPEG"), "it holds 3000x8 pixels"),
    "cmyk": ("jpeg", encoded(SMALL.convert("CMYK"), "JPEG"), "of 4 channels"),
    "scans": ("jpeg", jpeg_of_scans(8, 3000, "RGB"), "a JPEG of more than 100 scans"),
    "a lot": ("png", encoded(SMALL) + bytes(1 << 20), "bytes are too many"),
}


@pytest.mark.parametrize("case", RECORDS)
@pytest.mark.usefixtures("decoder")
def test_a_record_is_refused_before_it_is_decoded(case):
    codec, record, message = RECORDS[case]
    with pytest.raises(ValueError, match=f"damaged {codec} record .*({message})"):
        decode(record, codec, 3, 8)


@pytest.mark.parametrize("codec", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_record_of_ours_is_too_large(codec, channels):
    for side in (4, 64, 256):
        for image in (noise(1, side, channels)[0], np.zeros((channels, side, side), np.uint8)):
            record = encode(image, codec, 100)
            assert len(record) < max_record_bytes(channels, side) / 1.5
            assert decode(record, codec, channels, side).shape == image.shape


@pytest.fixture
def damaged(tmp_path):
    """A store with one wrong bit in a raw record, which still decodes."""
    path = write(tmp_path / "data", [0, 1, 2], {4: "raw", 8: "raw"}, [(0,), (1,), (-1,)], COLUMNS)
    record = bytearray(get(path, "8x8", record_key(1)))
    record[5] ^= 1
    put(path, "8x8", record_key(1), bytes(record))
    return path


def test_a_damaged_raw_record_is_named_by_every_reader(damaged, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(verify_module, "ordered_map", lambda work, items, *_, **__: map(work, items))
    with Store(damaged) as opened:
        for _ in range(2):
            with pytest.raises(DataError, match="picture 1 at 8x8: digest differs; run pggan verify-data --fix"):
                opened.read(8, [0, 1])
        assert opened.read(8, [0, 2]).shape == (2, 3, 8, 8)
        assert opened.read(4, [1]).shape == (1, 3, 4, 4)
    assert [str(damage) for damage in verify(damaged).damages()] == ["picture 1 at 8x8: digest differs"]
    with pytest.raises(DataError, match=r"picture 1: damaged \(8x8\)"):
        merge(tmp_path / "merged", [damaged])
    assert run(["export-data", str(damaged), str(tmp_path / "out"), "--as", "folder"]) == 1
    assert "picture 1 at 8x8: digest differs" in capsys.readouterr().err
    assert run(["prepare-data", str(damaged), str(tmp_path / "cut"), "--max-res", "8", "--workers", "1"]) == 0
    with Store(tmp_path / "cut") as cut:
        assert (len(cut), dict(cut.manifest.left_out)) == (2, {"bad": 1})
    assert run(["prepare-data", str(damaged), str(tmp_path / "strict"), "--strict", "--workers", "1"]) == 1
    assert "digest differs" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["cut", "data"]


def test_a_record_without_a_digest_is_named_too(damaged, tmp_path):
    put(damaged, "digests", record_key(1), None)
    with Store(damaged) as opened, pytest.raises(DataError, match="picture 1 at 8x8: digest differs"):
        opened.read(8, [1])
    with pytest.raises(DataError, match=r"picture 1: damaged"):
        merge(tmp_path / "merged", [damaged])


@pytest.mark.long
def test_shards_beyond_number_are_not_counted(store, tmp_path):
    shard = {"number": 1, "of": 10**17, "pictures": 10**18}
    rewrite(store, lambda v: json.dumps({**v, "shard": shard}).encode())
    with pytest.raises(PgganError, match=r"missing: shard 2/100000000000000000, .*\.\.\.;"):
        merge(tmp_path / "merged", [store])


LIMITED = """
import resource, sys
from pggan.data.store.store import Store
from pggan.utils.errors import DataError
resource.setrlimit(resource.RLIMIT_DATA, (256 << 20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20,) * 2)
with Store(sys.argv[1]) as store:
    for use in (lambda: store.read(8, [0]), lambda: store.labels):
        try:
            use()
        except DataError as error:
            print(error)
"""


@pytest.mark.long
@pytest.mark.parametrize("codec", ["png", "jpeg"])
def test_a_hostile_store_costs_neither_memory_nor_time(tmp_path, codec):
    record = {"png": png_of(30_000, 30_000), "jpeg": jpeg_of_scans(8, 3000, "RGB")}[codec]
    store = write(tmp_path / "data", [0, 1, 2], {4: "raw", 8: codec}, [(0,), (1,), (-1,)], COLUMNS)
    rewrite(store, lambda v: json.dumps({**v, "digests": {}}).encode())
    put(store, "8x8", record_key(0), record)
    put(store, "meta", LABELS, LABEL_RECORDS["large"])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(store)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert "picture 0 at 8x8: damaged" in lines[0]
    assert "the label record is damaged" in lines[1]
