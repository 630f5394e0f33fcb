"""Fingerprint of a source, by which an interrupted command recognises it: from file names, sizes and times only."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b

from pggan.data.sources.file_base import walk_once
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.list_text import CLASSES
from pggan.data.sources.video_file import VIDEO_ENDINGS

# Files of a folder whose size and time are read, spread over all; of the others only the names count.
_MAX_FILES = 10_000
_BRACES = re.compile(r"\{\d+\.\.\d+\}")
_SHARD = re.compile(r"-\d+-of-\d+$")
# Endings of the other files that sources read.
_DATA = (
    ".npy", ".npz", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".parquet", ".tfrecords", ".tfrecord",
    ".tfrec", ".zlib", ".labels", ".h5", ".arrow", ".mat", ".hdf5", ".mdb", ".csv", ".json", "-anno.txt",
    "-ubyte", *VIDEO_ENDINGS,
)  # fmt: skip
# Endings of arrays of labels beside an array of images, as NAME-labels.npy and train-labels-idx1-ubyte.gz.
_LABEL_ARRAYS = (".npy", ".labels", "-ubyte", ".gz")


def fingerprint(spec: str, beside: Iterable[str | None] = (), without: Collection[str] = ()) -> str:
    """Returns a digest of a SOURCE argument's path and of the names, sizes and times of its files.

    Args:
        spec: The SOURCE argument.
        beside: Further files to include, such as one of labels.
        without: Paths in the source's folder that do not belong to it.
    """
    running = blake2b(digest_size=16)
    names = sorted(_files(spec, without)) if os.path.exists(spec) or _BRACES.search(spec) else []
    running.update("\0".join([os.path.realpath(spec) if names else spec, *names]).encode("utf-8", "surrogateescape"))
    step = max(1, -(-len(names) // _MAX_FILES))
    for name in [*names[::step], *(path for path in beside if path is not None)]:
        try:
            status = os.stat(name)
            running.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
        except OSError:
            running.update(b"none\0")
    return running.hexdigest()


def labels_beside(path: str) -> list[str]:
    """Returns the files in the folder of a file or folder that may hold its labels, or the order of its classes."""
    folder = os.path.dirname(os.path.abspath(path))
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    arrays = [name for name in names if "label" in name.lower() and name.endswith(_LABEL_ARRAYS) and name[0] != "."]
    return [os.path.join(folder, name) for name in [*arrays, CLASSES] if name in names]


def _files(spec: str, without: Collection[str]) -> Iterator[str]:
    """Yields the files that a source may read."""
    if _BRACES.search(spec):
        yield from glob.glob("*".join(glob.escape(part) for part in _BRACES.split(spec)))
    elif os.path.isfile(spec):
        yield spec
    for folder, files in walk_once(spec, without=without):
        for name in files:
            if is_image_name(name) or name.lower().endswith(_DATA) or _SHARD.search(name):
                yield os.path.join(folder, name)
