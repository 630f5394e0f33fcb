"""Reads and writes stores key by key, beneath the classes that are tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from pggan.data.store.codecs import encode
from pggan.data.store.manifest import Manifest
from pggan.data.store.pyramid import pyramid
from pggan.data.store.writer import StoreWriter
from tests.helpers.image_files import portrait


def dump(path: Path) -> dict[str, dict[bytes, Any]]:
    """Returns every database; of the manifest all but the time of its creation."""
    contents: dict[str, dict[bytes, Any]] = {}
    with lmdb.open(str(path), readonly=True, lock=False, max_dbs=32) as env:
        with env.begin() as txn:
            names = [bytes(name) for name, _ in txn.cursor()]
        for name in names:
            database = env.open_db(name, create=False)
            with env.begin(db=database) as txn:
                contents[name.decode()] = {bytes(k): bytes(v) for k, v in txn.cursor()}
    manifest = json.loads(contents["meta"][b"manifest"])
    manifest.pop("created")
    contents["meta"][b"manifest"] = manifest
    return contents


def assert_same(one: Path, other: Path, but: tuple[str, ...] = ()) -> None:
    """Asserts equal content. `but`: entries of the manifest, and keys of "meta", that may differ."""
    a, b = dump(one), dump(other)
    for store in (a, b):
        for name in but:
            store["meta"].pop(name.encode(), None)
            store["meta"][b"manifest"].pop(name, None)
    assert a["meta"] == b["meta"]
    assert a.keys() == b.keys()
    assert a == b


def put(path: Path, database: str, key: bytes, value: bytes | None) -> None:
    """Replaces a record; None: deletes it."""
    with lmdb.open(str(path), map_size=64 << 20, max_dbs=32, lock=False) as env:
        opened = env.open_db(database.encode(), create=False)
        with env.begin(write=True, db=opened) as txn:
            assert txn.get(key) is not None or database == "meta"
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)


def get(path: Path, database: str, key: bytes) -> bytes:
    with lmdb.open(str(path), readonly=True, max_dbs=32, lock=False) as env:
        opened = env.open_db(database.encode(), create=False)
        with env.begin(db=opened) as txn:
            return bytes(txn.get(key))


def write(path: Path, numbers: list[int], codecs: dict[int, str], labels: Any = (), columns: Any = ()) -> Path:
    """Writes a store of portraits; `labels`: class numbers by portrait."""
    writer = StoreWriter(path, codecs)
    for number in numbers:
        levels = pyramid(np.asarray(portrait(number, max(codecs))))
        records = {side: encode(levels[side], codec, 95) for side, codec in codecs.items()}
        writer.add(records, tuple(labels[number]) if columns else ())
    sizes = writer.sizes
    writer.finish(
        Manifest(len(numbers), 3, tuple(sorted(codecs)), codecs, sizes, "test", labels=tuple(columns), exact=True)
    )
    return path


def noise(count: int, side: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Returns random images (N, C, R, R)."""
    return np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), np.uint8)


def rewrite(path, change):
    """The manifest, changed behind the store's back."""
    with lmdb.open(str(path), map_size=64 << 20, max_dbs=8, lock=False) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True, db=meta) as txn:
            txn.put(b"manifest", change(json.loads(txn.get(b"manifest"))))
