"""Exports a data store: as a folder or a zip of PNGs, as the official TFRecords, as Parquet for Hugging Face.

It is written in the directory `.OUT.pggan-export`, which a killed export leaves there, and the next one clears.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import straight
from pggan.data.label_columns import LabelColumn
from pggan.data.sources.list_text import CLASSES, DATASET, TABLE
from pggan.data.sources.parquet import pyarrow
from pggan.data.sources.tfrecord_io import encode_image, write_record
from pggan.data.store.codecs import encode
from pggan.data.store.store import Store
from pggan.interop.export_files import ATTRIBUTION, folder_names, label_table, staged_export, total_size
from pggan.utils.atomic_files import sync_file
from pggan.utils.errors import DataError, UsageError

KINDS = ("folder", "zip", "tfrecord", "parquet")
# Images per folder, rows per row group, bytes per Parquet file.
FOLDER_COUNT, GROUP_ROWS, SHARD_BYTES = 1000, 100, 500 << 20
# Most numbers of the vectors in a dataset.json.
MAX_VECTOR_NUMBERS = 10_000_000
# Images read from the store at once; at most twice as many wait for a thread to encode them.
_READ_BATCH = 16
_THREADS = min(8, os.cpu_count() or 1)

# Called with the number of images just written.
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
    by_class: str | None = None,
) -> dict[str, Any]:
    """Writes the images of a store to `out`, losslessly. `out` appears once it is complete.

    Args:
        data: the store.
        out: the folder or file to write; `.zip` is added to that of a zip.
        kind: one of KINDS.
        resolution: of the images, by default the largest; TFRecords hold all resolutions up to it.
        labels: the column, for formats that take one; by default the only one.
        limit: of images, the first ones.
        on_start: is called with the number of images.
        advance: is called with the number of images just written.
        by_class: the column whose classes are the folders of a folder or a zip; unlabelled images are left out.

    Returns:
        What was written: path, kind, images, resolution, label columns, notes, bytes.

    Raises:
        UsageError: `out` exists, or there is no such format or label column.
        DataError: the store cannot be read, or lacks the resolution.
    """
    path = _out_path(Path(out), kind)
    if by_class is not None and kind not in ("folder", "zip"):
        raise UsageError(f"--by-class makes folders, which --as {kind} has not; give --as folder or zip")
    if labels is not None and kind == "parquet":
        raise UsageError("--labels chooses a column for formats that hold one; --as parquet writes all, leave it out")
    with Store(data) as store:
        if Path(os.path.realpath(data)) in Path(os.path.realpath(path)).parents:
            raise UsageError(f"{path} lies in the data store {data}; give an OUT outside it")
        export = _Export(store, path.name, resolution, labels, limit, advance, by_class)
        on_start(export.count)
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged_export(path) as staged:
            getattr(export, kind)(staged)
        return {"out": str(path), "as": kind, **export.to_json(), "bytes": total_size(path)}


def _out_path(out: Path, kind: str) -> Path:
    """Checks OUT and the format; returns OUT with the ending of a zip, by which other programs know one."""
    if kind not in KINDS:
        raise UsageError(f"--as {kind} is none of {', '.join(KINDS)}")
    path = out.with_name(out.name + ".zip") if kind == "zip" and out.suffix.lower() != ".zip" and out.name else out
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already; give another OUT")
    return path


class _Export:
    """What is exported from a store, and a method for every format."""

    def __init__(
        self,
        store: Store,
        name: str,
        resolution: int | None,
        labels: str | None,
        limit: int | None,
        advance: Advance,
        by_class: str | None,
    ) -> None:
        self.store, self.name, self.advance = store, name, advance
        self.resolution = store.max_resolution if resolution is None else resolution
        if self.resolution not in store.resolutions:
            known = ", ".join(map(str, store.resolutions))
            raise DataError(f"{store.path} has no {self.resolution}x{self.resolution} pictures; it has {known}")
        self.count = min(len(store), limit or len(store))
        self.columns = store.manifest.labels
        self.labels = store.labels[: self.count] if self.columns else np.zeros((self.count, 0), np.int32)
        self.by_class = None if by_class is None else self._index(by_class, "--by-class")
        only = 0 if len(self.columns) == 1 else self.by_class
        self.column = only if labels is None else self._index(labels, "--labels")
        self.written = self.columns  # those that a format holds
        self.notes: list[str] = []
        self.names = self._image_names()  # "" for an image that is left out

    def to_json(self) -> dict[str, Any]:
        names = [column.name for column in self.written]
        count = sum(map(bool, self.names))
        return {"pictures": count, "resolution": self.resolution, "labels": names, "notes": self.notes}

    def _index(self, requested: str, option: str) -> int:
        """The index of a label column."""
        names = [column.name for column in self.columns]
        if requested not in names:
            raise UsageError(f"{option}: the data has no {requested!r}; it has: {', '.join(names) or 'none'}")
        return names.index(requested)

    def _image_names(self) -> list[str]:
        """Names of the images' files in a folder or a zip, in folders of FOLDER_COUNT or of their classes."""
        if self.by_class is not None and self.columns[self.by_class].is_number:
            raise UsageError(
                f"--by-class: {self.columns[self.by_class].name!r} is a number, of which there are no folders"
            )
        if self.by_class is None:
            return [f"{i // FOLDER_COUNT:05d}/img{i:08d}.png" for i in range(self.count)]
        folders, classes = folder_names(self.columns[self.by_class].classes), self.labels[:, self.by_class]
        if (unlabelled := int((classes < 0).sum())) == self.count:
            raise DataError(f"--by-class: no picture has a label of {self.columns[self.by_class].name!r}")
        if unlabelled:
            self.notes.append(f"{unlabelled} pictures without a label are left out: they have no folder")
        return [f"{folders[n]}/img{i:08d}.png" if n >= 0 else "" for i, n in enumerate(classes)]

    def _encoded(self, resolution: int, encoder: Callable[[NDArray[np.uint8]], bytes]) -> Iterator[bytes]:
        """Encodes every image (C, R, R) in threads, and yields the results in order."""
        waiting: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(_THREADS)
        try:
            for start in range(0, self.count, _READ_BATCH):
                for image in self.store.read(resolution, range(start, min(start + _READ_BATCH, self.count))):
                    waiting.append(pool.submit(encoder, image))
                while len(waiting) > 2 * _READ_BATCH:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """Yields names and contents of the files in a folder or a zip, images first."""
        for column in self.columns:
            if len({name.strip() for name in column.classes} - {""}) < len(column.classes):
                raise UsageError(
                    f"classes of {column.name!r} differ in spaces alone, which {TABLE} does not keep; give --as parquet"
                )
        for name, data in zip(self.names, self._encoded(self.resolution, _encode_png)):
            if name:
                yield name, data
            self.advance(1)
        if self.columns:
            yield TABLE, label_table(self.names, self.columns, self.labels).encode()
            columns = [column.to_json() for column in self.columns]
            order = {c["name"]: c["classes"] if "classes" in c else {"bounds": c["bounds"]} for c in columns}
            yield CLASSES, json.dumps(order, ensure_ascii=False, indent=1).encode()
        if self.column is not None:
            yield DATASET, self._dataset_json(self.column).encode()
        yield from self._attribution()

    def _dataset_json(self, column: int) -> str:
        """The list of labels that StyleGAN's tools read: a class number, or a vector, for every image.

        With unknown labels they are vectors, one-hot, of which zeros stand for an unknown one.
        """
        numbers = {name: int(row[column]) for name, row in zip(self.names, self.labels) if name}
        if self.columns[column].is_number:
            return self._number_vectors(self.columns[column], numbers)
        unknown = sum(1 for number in numbers.values() if number < 0)
        if not unknown:
            return json.dumps({"labels": [*map(list, numbers.items())]})
        width = len(self.columns[column].classes)
        if unknown == len(numbers) or len(numbers) * width > MAX_VECTOR_NUMBERS:
            self.notes.append(f"{DATASET} holds no labels: {unknown} pictures have none; {TABLE} has the others'")
            return json.dumps({"labels": None})
        self.notes.append(f"{DATASET} has vectors, of zeros for the {unknown} pictures without a label")
        vectors = {number: [int(number == n) for n in range(width)] for number in set(numbers.values())}
        return json.dumps({"labels": [[name, vectors[number]] for name, number in numbers.items()]})

    def _number_vectors(self, column: LabelColumn, entries: dict[str, int]) -> str:
        """Numbers as StyleGAN's tools read them: vectors of one value for every image, or none at all."""
        if unknown := sum(entry < 0 for entry in entries.values()):
            self.notes.append(f"{DATASET} holds no labels: {unknown} pictures have none; {TABLE} has the others'")
            return json.dumps({"labels": None})
        return json.dumps({"labels": [[name, [float(column.exact_text(entry))]] for name, entry in entries.items()]})

    def _attribution(self) -> Iterator[tuple[str, bytes]]:
        if self.store.manifest.attribution:
            yield ATTRIBUTION, (self.store.manifest.attribution + "\n").encode()

    def folder(self, folder: Path) -> None:
        """Writes PNGs in folders, and the labels."""
        folder.mkdir()
        for name, data in self._files():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)

    def zip(self, path: Path) -> None:
        """Writes the files of a folder to a zip, without compression: PNGs are compressed."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in self._files():
                # ZipInfo's default date, 1980: the same store gives the same bytes
                archive.writestr(zipfile.ZipInfo(name), data)
        sync_file(path)

    def tfrecord(self, folder: Path) -> None:
        """Writes the official release's files: one per resolution, and one-hot labels."""
        folder.mkdir()
        self.written = () if self.column is None else (self.columns[self.column],)
        if left := len(self.columns) - len(self.written):
            self.notes.append(f"{left} label columns are left out: TFRecords hold one, which --labels COLUMN chooses")
        for resolution in self.store.resolutions:
            if resolution <= self.resolution:
                path = folder / f"{self.name}-r{resolution.bit_length() - 1:02d}.tfrecords"
                with open(path, "wb") as file:
                    for record in self._encoded(resolution, _encode_example):
                        write_record(file, record)
                        if resolution == self.resolution:
                            self.advance(1)
        if self.column is not None:
            column, entries = self.columns[self.column], self.labels[:, self.column]
            classes: NDArray[Any] = column.vectors(entries)
            if column.is_number:  # as they were given, not from -1 to 1
                classes = np.array([[float(column.exact_text(int(n)) or "nan")] for n in entries])
            with open(folder / f"{self.name}-rxx.labels", "wb") as file:
                np.save(file, classes, allow_pickle=False)
        for name, data in self._attribution():
            (folder / name).write_bytes(data)

    def parquet(self, folder: Path) -> None:
        """Writes shards in `data/`, the layout of Hugging Face's hub; labels are ClassLabel columns."""
        parquet = pyarrow("writing Parquet")
        import pyarrow as arrow

        schema = _schema(arrow, self.columns)
        image_column = schema.names[0]
        (folder / "data").mkdir(parents=True)
        shards: list[Path] = []
        writer: Any = None
        rows: list[dict[str, Any]] = []
        written = 0
        try:
            for i, data in enumerate(self._encoded(self.resolution, _encode_png)):
                labels = {column.name: _cell(column, int(n)) for column, n in zip(self.columns, self.labels[i])}
                rows.append({image_column: {"bytes": data, "path": f"img{i:08d}.png"}, **labels})
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


def _encode_png(image: NDArray[np.uint8]) -> bytes:
    return encode(_straight(image), "png", 0)


def _encode_example(image: NDArray[np.uint8]) -> bytes:
    return encode_image(_straight(image))


def _straight(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns an image (C, R, R) as other programs read it: RGBA with straight alpha."""
    return straight(image.transpose(1, 2, 0)).transpose(2, 0, 1)


def _cell(column: LabelColumn, entry: int) -> float | int | None:
    """Returns a label for a table: the class number, or the number."""
    if not column.is_number:
        return entry
    return float(column.exact_text(entry)) if entry >= 0 else None


def _schema(arrow: Any, columns: tuple[LabelColumn, ...]) -> Any:
    """The Parquet schema, with the metadata by which Hugging Face's datasets know images and classes.

    The images' column is the first, "image", or another name where a label is called that.
    """
    names = {column.name for column in columns}
    image = next(name for name in chain(("image", "img"), (f"image{n}" for n in count(2))) if name not in names)
    features: dict[str, Any] = {image: {"_type": "Image"}}
    fields = [arrow.field(image, arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())]))]
    for column in columns:
        if column.is_number:
            features[column.name] = {"dtype": "float64", "_type": "Value"}
        else:
            features[column.name] = {"names": list(column.classes), "_type": "ClassLabel"}
        fields.append(arrow.field(column.name, arrow.float64() if column.is_number else arrow.int64()))
    return arrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
