"""LMDB directories: another store of pggan (to cut resolutions, change codecs), and those of the StyleGAN ports.

The ports store encoded images under `{size}-{index:05d}` and their number under `length`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb
import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import straight
from pggan.data.sources.array_base import IndexedReader, IndexedSource
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref
from pggan.data.sources.file_base import explain_damage, report_bad_image
from pggan.data.sources.image_io import read_image
from pggan.data.store.lmdb_environment import FILE, META, NODE_BYTES, open_readonly
from pggan.data.store.lmdb_pages import LmdbPages
from pggan.data.store.store import Store, is_store
from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_CARRIED_BYTES


class StoreReader(IndexedReader):
    """Reads the full-size images of a store."""

    box_filtered = True

    def __init__(self, store: Store) -> None:
        super().__init__((store.max_resolution, store.max_resolution))
        self.store = store
        duplicates = store.manifest.duplicates
        self._groups = {image: number for number, images in duplicates.items() for image in images}

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        return super().read(ref, channels)._replace(group=self._groups.get(ref.payload[0], 0))

    def image(self, content: int) -> NDArray[np.uint8]:
        try:
            return straight(self.store.read(self.store.max_resolution, [content])[0].transpose(1, 2, 0))
        except DataError as error:
            raise BadImage(str(error)) from None


class StoreSource(IndexedSource):
    """The largest resolution of another store."""

    def __init__(self, spec: str) -> None:
        self.store = Store(os.path.abspath(spec))
        manifest, channels = self.store.manifest, self.store.channels
        classes = self.store.labels if manifest.labels else None
        super().__init__(manifest.count, manifest.labels, classes, channels)
        self.channels = channels  # of RGBA, too: a copy of a store is of the same kind
        self.attribution = manifest.attribution

    @staticmethod
    def sniff(spec: str) -> bool:
        return is_store(spec) and not _is_port(spec)

    def reader(self, resolution: int, seed: int) -> Reader:
        return StoreReader(self.store)


# LMDB forbids opening a file twice in one process.
_OPEN: WeakValueDictionary[tuple[int, str], Any] = WeakValueDictionary()


def _open(path: str) -> Any:
    """Opens another program's environment, shared within this process. Raises `lmdb.Error`."""
    key = (os.getpid(), os.path.realpath(path))
    env = _OPEN.get(key)
    if env is None:
        with closing(LmdbPages(Path(path) / FILE)) as pages:
            pages.main.entries()  # checks all of them
        env = _OPEN[key] = open_readonly(Path(path))
    return env


def _is_port(spec: str) -> bool:
    """Whether an LMDB has the ports' `length` and no metadata of pggan."""
    try:
        with _open(spec).begin() as txn:
            return txn.get(b"length") is not None and txn.get(META) is None
    except (lmdb.Error, DataError):
        return False


class StyleGanLmdbReader(Reader):
    """A reference's payload: the image's key."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        with report_bad_image(self.path):
            self._opened = self._opened or _open(self.path)
            with self._opened.begin(buffers=True) as txn:
                data = txn.get(ref.payload)
                if data is None:
                    raise BadImage("no such record")
                if len(data) > MAX_CARRIED_BYTES:
                    raise BadImage(f"a picture of {len(data) >> 20} MiB; the limit is {MAX_CARRIED_BYTES >> 20}")
                data = bytes(data)
        return DecodedImage(*read_image(data, channels))

    def size(self, ref: Ref) -> tuple[int, int]:
        side = int(ref.payload.partition(b"-")[0])
        return side, side


class StyleGanLmdbSource(IndexedSource):
    """The largest size of a port's LMDB. The ports resize each size from the original: none follows from another."""

    def __init__(self, spec: str) -> None:
        self.path = os.path.abspath(spec)
        with explain_damage(f"{spec} is not a whole LMDB of pictures"), _open(self.path).begin() as txn:
            count = int(txn.get(b"length"))
            entries = min(txn.stat()["entries"], os.path.getsize(Path(spec) / FILE) // NODE_BYTES)
            if count > entries:
                raise ValueError(f"{count} pictures are promised, {entries} records found")
            matches = (re.fullmatch(rb"(\d{1,5})-\d{5,}", key) for key in _first_keys(txn))
            sizes = {int(match[1]) for match in matches if match}
        if not sizes or count < 1:
            raise DataError(f"{spec} holds no pictures under keys such as 256-00000")
        self._size = max(sizes)
        super().__init__(count)

    @staticmethod
    def sniff(spec: str) -> bool:
        return (Path(spec) / FILE).is_file() and _is_port(spec)

    def refs(self) -> Iterator[Ref]:
        return (Ref(f"picture {i}", f"{self._size}-{i:05d}".encode()) for i in range(len(self)))

    def reader(self, resolution: int, seed: int) -> Reader:
        return StyleGanLmdbReader(self.path)


def _first_keys(txn: Any) -> Iterator[bytes]:
    """Yields the first key of every size, and keys without a size: keys are sorted, so those of a size are adjacent."""
    cursor = txn.cursor()
    positioned = cursor.first()
    while positioned:
        key = bytes(cursor.key())
        yield key
        prefix = key.partition(b"-")[0]
        # to the first key after all that begin with this size and a hyphen ("." follows "-")
        positioned = cursor.set_range(prefix + b".") if b"-" in key else cursor.next()
