"""Fuzzers of stores: whatever is changed, a store is read as it is, or refused in one line; the process lives on.

`pytest --fuzz 100 tests/data/test_store_fuzz.py` runs a hundred times as many rounds.
"""

import json
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pggan.data.label_columns import LabelColumn
from pggan.data.sources.base import BadImage
from pggan.data.sources.lmdb import StoreSource
from pggan.data.store import codecs
from pggan.data.store import repair as repair_module
from pggan.data.store import verify as verify_module
from pggan.data.store.codecs import CODECS, decode, encode
from pggan.data.store.decoders import use_torchvision
from pggan.data.store.lmdb_environment import FILE, LABELS
from pggan.data.store.merge import merge
from pggan.data.store.repair import repair
from pggan.data.store.store import Store
from pggan.data.store.verify import verify
from pggan.utils.errors import PgganError
from tests.helpers.fuzzing import mutate, mutate_json, refused
from tests.helpers.image_files import portrait
from tests.helpers.lmdb_contents import get, put, rewrite, write

COLUMNS = (LabelColumn("kind", ("a", "b")), LabelColumn("hat", ("no", "yes")))
CODEC_OF = {4: "raw", 8: "jpeg", 16: "png", 32: "webp"}
# Bytes that a fuzzed file may make the process allocate, and seconds of processor time a round.
MEMORY, SECONDS = 512 << 20, 2.0


def small_store(path):
    return write(path, [0, 1, 2], CODEC_OF, [(0, 1), (1, -1), (-1, 0)], COLUMNS)


@pytest.fixture
def store(tmp_path, monkeypatch):
    for module in (verify_module, repair_module):
        monkeypatch.setattr(module, "ordered_map", lambda work, items, *_, **__: map(work, items))
    return small_store(tmp_path / "data")


def read_all(path):
    with Store(path) as store:
        json.dumps(store.manifest.to_json()).encode()
        labels = store.labels
        assert labels.shape == (len(store), len(store.manifest.labels))
        for side in store.resolutions:
            assert store.read(side, range(len(store))).shape == (len(store), store.channels, side, side)


def cut(path):
    source = StoreSource(str(path))
    reader = source.reader(8, 0)
    for ref in source.refs():
        refused(BadImage, lambda ref=ref: reader.read(ref, 3))


def use(path, scratch):
    """Uses a store in every way. Returns whether one of them refused it."""
    ways = (read_all, verify, cut, lambda path: merge(scratch, [path]), lambda path: repair(path, verify(path)))
    any_refused = False
    for way in ways:
        any_refused |= refused(PgganError, lambda way=way: way(path))
        shutil.rmtree(scratch, ignore_errors=True)
    return any_refused


def test_manifests_of_other_values(store, tmp_path, fuzz_rounds):
    whole = json.loads(get(store, "meta", b"manifest"))
    whole_file = (store / FILE).read_bytes()
    count = 0
    for seed in range(fuzz_rounds(60)):
        put(store, "meta", b"manifest", json.dumps(mutate_json(whole, random.Random(seed))).encode())
        count += use(store, tmp_path / "merged")
        restore(store, whole_file)
    assert count > fuzz_rounds(20)


def restore(store, content):
    """Undoes repairs, in a new file."""
    (store / FILE).unlink()
    (store / FILE).write_bytes(content)


def test_manifests_of_other_bytes(store, tmp_path, fuzz_rounds):
    whole, whole_file = get(store, "meta", b"manifest"), (store / FILE).read_bytes()
    for seed in range(fuzz_rounds(60)):
        put(store, "meta", b"manifest", mutate(whole, random.Random(seed)))
        use(store, tmp_path / "merged")
        restore(store, whole_file)


def test_label_records_of_other_bytes(store, tmp_path, fuzz_rounds):
    whole = get(store, "meta", LABELS)
    rewrite(store, lambda v: json.dumps({**v, "digests": {}}).encode())
    for seed in range(fuzz_rounds(60)):
        put(store, "meta", LABELS, mutate(whole, random.Random(seed)))
        refused(PgganError, lambda: check_labels(store))


def check_labels(path):
    with Store(path) as store:
        assert set(np.unique(store.labels)) <= {-1, 0, 1}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_records_of_other_bytes(codec, fast, fuzz_rounds, monkeypatch):
    monkeypatch.setattr(codecs, "FAST_DECODERS", {})
    if fast and not use_torchvision():
        pytest.skip("this torchvision has no decoders")
    whole = encode(np.asarray(portrait(0, 16)).transpose(2, 0, 1), codec, 95)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(fuzz_rounds(200)):
        changed = mutate(whole, random.Random(seed))
        refused(ValueError, lambda changed=changed: check_record(changed, codec))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY >> 10


def check_record(record, codec):
    image = decode(record, codec, 3, 16)
    assert (image.shape, image.dtype) == ((3, 16, 16), np.uint8)


PROGRAM = """
import importlib, resource, sys
from pathlib import Path
from pggan.data.store.lmdb_environment import FILE
from pggan.utils.errors import PgganError

here = importlib.import_module("tests.data.test_store_fuzz")
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (here.MEMORY + (256 << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(60 + here.SECONDS * (last - first)),) * 2)
for seed, data in here.mutated_files(folder, range(first, last)):
    place = folder / "changed"
    place.mkdir(exist_ok=True)
    (place / FILE).unlink(missing_ok=True)  # another inode
    (place / FILE).write_bytes(data)
    print(seed, flush=True)
    try:
        here.read_all(place)
    except PgganError as error:
        assert chr(10) not in str(error)
"""


def mutated_files(folder, seeds):
    """Yields LMDB files with a few changes, most of them to the heads of pages, where sizes and offsets lie."""
    whole = (folder / "data" / "data.mdb").read_bytes()
    pages = len(whole) // 4096
    for seed in seeds:
        dice, data = random.Random(seed), bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            at = 4096 * dice.randrange(pages)
            length = dice.choice([64, 200, 4096])
            data[at : at + length] = (mutate(bytes(data[at : at + length]), dice) + bytes(length))[:length]
        yield seed, bytes(data[: dice.randrange(len(data))] if dice.random() < 0.05 else data)


@pytest.mark.long
def test_lmdb_files_of_other_bytes(tmp_path, fuzz_rounds):
    """In a process of its own: LMDB trusts its pages, and a wrong offset would end it by a signal."""
    small_store(tmp_path / "data")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "0", str(fuzz_rounds(300))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, f"seed {done.stdout.split()[-1:]}: {done.stderr}"
