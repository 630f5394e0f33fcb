"""What a source is recognised by when an interrupted command is run again: cheaply, without reading the pictures."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b

from pggan.data.sources.image_io import is_image_name

# Files whose size and time are looked at; of all others of a folder, the names.
_LOOKED_AT = 10_000
_BRACES = re.compile(r"\{\d+\.\.\d+\}")
# What sources read beside pictures.
_DATA = (
    ".npy", ".npz", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".parquet", ".tfrecords", ".labels", ".h5",
    ".hdf5", ".mdb", ".csv", ".json", "-anno.txt", "-ubyte",
)  # fmt: skip


def fingerprint(spec: str, beside: Iterable[str | None] = (), without: Collection[str] = ()) -> str:
    """A digest of a SOURCE argument: its place, and the names, sizes and times of its files.

    `beside`: further files that it is read with. `without`: paths that are none of it, lying in its folder.
    """
    running = blake2b(digest_size=16)
    names = sorted(_files(spec, without)) if os.path.exists(spec) or _BRACES.search(spec) else []
    running.update("\0".join([os.path.realpath(spec) if names else spec, *names]).encode("utf-8", "surrogateescape"))
    step = max(1, -(-len(names) // _LOOKED_AT))
    for name in [*names[::step], *(each for each in beside if each is not None)]:
        try:
            status = os.stat(name)
            running.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
        except OSError:
            running.update(b"none\0")
    return running.hexdigest()


def _files(spec: str, without: Collection[str]) -> Iterator[str]:
    if _BRACES.search(spec):
        yield from glob.glob("*".join(glob.escape(part) for part in _BRACES.split(spec)))
    elif os.path.isfile(spec):
        yield spec
    else:
        yield from _within(spec, without)


def _within(folder: str, without: Collection[str]) -> Iterator[str]:
    """Files of a folder that a source may read; links are followed, each folder taken once."""
    seen: set[str] = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or real in without:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in files:
            if is_image_name(name) or name.lower().endswith(_DATA):
                yield os.path.join(place, name)
