"""A store as files of other programs: a folder or a zip of PNGs, the official TFRecords, Hugging Face's Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import LabelColumn
from pggan.data.sources.label_files import CLASSES, DATASET, TABLE
from pggan.data.sources.parquet import pyarrow
from pggan.data.sources.tfrecord_io import encode_image, write_record
from pggan.data.store.codecs import encode
from pggan.data.store.store import Store
from pggan.networks.latents import one_hot
from pggan.utils.atomic_files import replace_atomically, sync_directory
from pggan.utils.errors import DataError, UsageError

KINDS = ("folder", "zip", "tfrecord", "parquet")
# Pictures a folder holds, rows a row group, bytes a Parquet file.
FOLDER_COUNT, GROUP_ROWS, SHARD_BYTES = 1000, 100, 500 << 20
_READ_TOGETHER = 16
_THREADS = min(8, os.cpu_count() or 1)

Advance = Callable[[int], None]


def export_data(
    data: str | Path,
    out: str | Path,
    kind: str,
    resolution: int | None = None,
    labels: str | None = None,
    limit: int | None = None,
    on_start: Callable[[int], None] = lambda total: None,
    advance: Advance = lambda done: None,
) -> dict[str, Any]:
    """Writes the pictures of a store to `out`, which appears when it is whole. Returns what was written.

    `kind`: one of KINDS. `resolution`: of the pictures (default: the largest); TFRecords hold all up to it. `labels`:
    the column for formats that take one (default: the only one there is). `limit`: the first so many pictures. What is
    written reads back to the same pixels. Raises `UsageError` where `out` exists or a choice makes no sense,
    `DataError` where the store cannot be read.
    """
    where = Path(out)
    if kind not in KINDS:
        raise UsageError(f"--as {kind} is none of {', '.join(KINDS)}")
    if where.exists() or where.is_symlink():
        raise UsageError(f"{where} exists already; give another OUT")
    with Store(data) as store:
        job = _Job(store, where.name, resolution, labels, limit, advance)
        on_start(job.count)
        where.parent.mkdir(parents=True, exist_ok=True)
        if kind == "zip":
            replace_atomically(where, job.zip)
        else:
            with _made_whole(where) as folder:
                {"folder": job.folder, "tfrecord": job.tfrecord, "parquet": job.parquet}[kind](folder)
        return {
            "out": str(where),
            "as": kind,
            "pictures": job.count,
            "resolution": job.resolution,
            "labels": [column.name for column in job.columns],
            "bytes": _size(where),
        }


class _Job:
    """One export: what is read, and the ways to write it."""

    def __init__(
        self, store: Store, name: str, resolution: int | None, labels: str | None, limit: int | None, advance: Advance
    ) -> None:
        self.store, self.name, self.advance = store, name, advance
        self.resolution = resolution or store.max_resolution
        if self.resolution not in store.resolutions:
            known = ", ".join(map(str, store.resolutions))
            raise DataError(f"{store.path} has no {self.resolution}x{self.resolution} pictures; it has {known}")
        self.count = min(len(store), limit or len(store))
        self.columns = store.manifest.labels
        self.labels = store.labels[: self.count] if self.columns else np.zeros((self.count, 0), np.int32)
        self.column = self._column(labels)

    def _column(self, wanted: str | None) -> int | None:
        """The number of the column asked for, or of the only one."""
        names = [column.name for column in self.columns]
        if wanted is None:
            return 0 if len(names) == 1 else None
        if wanted not in names:
            raise UsageError(f"--labels: the data has no {wanted!r}; it has: {', '.join(names) or 'none'}")
        return names.index(wanted)

    def _made(self, resolution: int, work: Callable[[NDArray[np.uint8]], bytes]) -> Iterator[bytes]:
        """`work` done on every picture (C, R, R) in threads, in order; a bounded number is on its way."""
        waiting: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(_THREADS)
        try:
            for start in range(0, self.count, _READ_TOGETHER):
                for picture in self.store.read(resolution, range(start, min(start + _READ_TOGETHER, self.count))):
                    waiting.append(pool.submit(work, picture))
                while len(waiting) > 2 * _READ_TOGETHER:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents of a folder or an archive, pictures first."""
        names = [f"{i // FOLDER_COUNT:05d}/img{i:08d}.png" for i in range(self.count)]
        for name, data in zip(names, self._made(self.resolution, lambda picture: encode(picture, "png", 0))):
            yield name, data
            self.advance(1)
        if self.columns:
            yield TABLE, _table(names, self.columns, self.labels).encode()
            order = {column.name: list(column.classes) for column in self.columns}
            yield CLASSES, json.dumps(order, ensure_ascii=False, indent=1).encode()
        if self.column is not None:
            pairs = [[name, int(row[self.column])] for name, row in zip(names, self.labels) if row[self.column] >= 0]
            yield DATASET, json.dumps({"labels": pairs}).encode()  # as the StyleGAN tools read it
        yield from self._attribution()

    def _attribution(self) -> Iterator[tuple[str, bytes]]:
        if self.store.manifest.attribution:
            yield "ATTRIBUTION.txt", (self.store.manifest.attribution + "\n").encode()

    def folder(self, folder: Path) -> None:
        for name, data in self._files():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)

    def zip(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in self._files():
                # the format's first day: the same store gives the same bytes
                archive.writestr(zipfile.ZipInfo(name), data)

    def tfrecord(self, folder: Path) -> None:
        """The official release's files: one a resolution, and one-hot labels."""
        for resolution in self.store.resolutions:
            if resolution <= self.resolution:
                path = folder / f"{self.name}-r{resolution.bit_length() - 1:02d}.tfrecords"
                with open(path, "wb") as file:
                    for record in self._made(resolution, encode_image):
                        write_record(file, record)
                        if resolution == self.resolution:
                            self.advance(1)
        if self.column is not None:
            classes = one_hot(self.labels[:, self.column], len(self.columns[self.column].classes))
            with open(folder / f"{self.name}-rxx.labels", "wb") as file:
                np.save(file, classes, allow_pickle=False)
        for name, data in self._attribution():
            (folder / name).write_bytes(data)

    def parquet(self, folder: Path) -> None:
        """Shards in `data/`, as Hugging Face's hub lays them out; labels are ClassLabel columns."""
        parquet = pyarrow("writing Parquet")
        import pyarrow as arrow

        schema = _schema(arrow, self.columns)
        (folder / "data").mkdir()
        shards: list[Path] = []
        writer: Any = None
        rows: list[dict[str, Any]] = []
        written = 0
        try:
            for i, data in enumerate(self._made(self.resolution, lambda picture: encode(picture, "png", 0))):
                labels = {column.name: int(n) for column, n in zip(self.columns, self.labels[i])}
                rows.append({"image": {"bytes": data, "path": f"img{i:08d}.png"}, **labels})
                written += len(data)
                if len(rows) == GROUP_ROWS or i == self.count - 1 or written >= SHARD_BYTES:
                    if writer is None:
                        shards.append(folder / "data" / f"{len(shards)}.part")
                        writer = parquet.ParquetWriter(shards[-1], schema)
                    writer.write_table(arrow.Table.from_pylist(rows, schema))
                    self.advance(len(rows))
                    rows = []
                if written >= SHARD_BYTES:
                    writer.close()
                    writer, written = None, 0
        finally:
            if writer is not None:
                writer.close()
        for i, path in enumerate(shards):
            path.rename(folder / "data" / f"train-{i:05d}-of-{len(shards):05d}.parquet")
        for name, content in self._attribution():
            (folder / name).write_bytes(content)


def _table(names: list[str], columns: tuple[LabelColumn, ...], labels: NDArray[np.int32]) -> str:
    """File names and class names as CSV; what is unknown is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", *(column.name for column in columns)])
    for name, row in zip(names, labels):
        writer.writerow([name, *(column.classes[n] if n >= 0 else "" for column, n in zip(columns, row))])
    return out.getvalue()


def _schema(arrow: Any, columns: tuple[LabelColumn, ...]) -> Any:
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    fields = [arrow.field("image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))]
    for column in columns:
        features[column.name] = {"names": list(column.classes), "_type": "ClassLabel"}
        fields.append(arrow.field(column.name, arrow.int64()))
    return arrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


@contextmanager
def _made_whole(out: Path) -> Iterator[Path]:
    """A directory to write into, which takes its name at the end of the block and goes if that fails."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        os.chmod(temporary, 0o777 & ~_umask())
        yield temporary
        os.rename(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(out.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
