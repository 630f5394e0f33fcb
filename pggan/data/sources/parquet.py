"""Hugging Face's Parquet shards: an image column (bytes and path), label columns; a file, or a folder of them.

They are streamed a few rows at a time, so that the size of the row groups does not matter.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pggan.data.label_columns import MAX_CLASSES, LabelColumn, order_classes
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source, has_magic
from pggan.data.sources.file_base import is_mostly_images
from pggan.data.sources.image_io import read_image, read_size
from pggan.utils.errors import DataError, PgganError, UsageError
from pggan.utils.formatting import natural_key, one_line

_MAGIC = b"PAR1"
# Rows per batch, bytes of the read buffer.
_ROWS, _BUFFER = 16, 1 << 20
# Shards can only be streamed: a sample is their first images, at most this many.
_MAX_SAMPLE = 256
_MAX_ROWS = 1 << 40
_IMAGE_NAMES = ("image", "img", "picture", "jpg", "png", "webp", "bytes")
# Columns that are no classes.
_NO_LABELS = frozenset(("width", "height", "id", "idx", "index", "__index_level_0__"))


def pyarrow(purpose: str = "reading Parquet") -> Any:
    """Imports `pyarrow.parquet`. Raises `UsageError` if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{purpose} needs one more package: pip install 'pggan[parquet]'") from None
    return pyarrow.parquet


class ParquetReader(Reader):
    """A reference's payload: (bytes of the image file, labels)."""

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        data, labels = ref.payload
        image, notes = read_image(self._data(data), channels)
        return DecodedImage(image, labels, notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        return read_size(io.BytesIO(self._data(ref.payload[0])))

    @staticmethod
    def _data(data: Any) -> bytes:
        if not isinstance(data, bytes):
            raise BadImage("the row holds no picture, or only the path of one that is not there")
        return data


class ParquetSource(Source):
    """Parquet shards with an image column and label columns."""

    def __init__(self, spec: str) -> None:
        self.files = [Path(spec)] if Path(spec).is_file() else _shards(Path(spec))
        self._count, schema, path = 0, None, self.files[0]
        try:
            for path in self.files:
                with _open(path) as file:
                    self._count += file.metadata.num_rows
                    if schema is None:
                        schema = file.schema_arrow
                    elif file.schema_arrow.names != schema.names:
                        raise DataError(f"{path} has other columns than {self.files[0]}; give shards of one data set")
            assert schema is not None
            self._image = _image_column(schema, spec)
            self._named = _class_names(schema.metadata or {})
            self._labels = _label_columns(self.files, schema, self._image, self._count, self._named)
        except (PgganError, PermissionError):
            raise
        except Exception as error:  # noqa: BLE001 (pyarrow raises a dozen kinds for damaged files)
            raise _damaged(path, error) from None
        if not 0 < self._count < _MAX_ROWS:
            raise DataError(f"{spec} holds no rows; copy or make it again")

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isfile(spec):
            return has_magic(spec, _MAGIC)
        count = len(_shards(Path(spec))) if os.path.isdir(spec) else 0
        return count > 0 and not is_mostly_images(spec, count)

    def __len__(self) -> int:
        return self._count

    def refs(self) -> Iterable[Ref]:
        return self._stream()

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return islice(self._stream(), min(count, among, _MAX_SAMPLE))

    def _stream(self) -> Iterator[Ref]:
        row_number = 0
        numbers = {
            # columns whose classes the file names hold class numbers already
            column.name: {} if column.name in self._named else {name: i for i, name in enumerate(column.classes)}
            for column in self._labels
        }
        counts = {column.name: len(column.classes) for column in self._labels}
        for path in self.files:
            try:
                with _open(path) as file:
                    for batch in file.iter_batches(batch_size=_ROWS, columns=[self._image, *numbers]):
                        for row in batch.to_pylist():
                            data, path_in_row = _split_image(row[self._image])
                            labels = tuple(_number(row[name], known, counts[name]) for name, known in numbers.items())
                            yield Ref(path_in_row or f"row {row_number}", (data, labels))
                            row_number += 1
            except Exception as error:  # noqa: BLE001
                raise _damaged(path, error) from None

    @property
    def label_columns(self) -> tuple[LabelColumn, ...]:
        return self._labels

    def reader(self, resolution: int, seed: int) -> Reader:
        return ParquetReader()


def _open(path: Path) -> Any:
    return pyarrow().ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is not a whole Parquet file ({one_line(error)}); copy or make it again")


def _split_image(value: Any) -> tuple[Any, str]:
    """Returns bytes and path of a row's image; None and "" where it lacks them."""
    return (value.get("bytes"), str(value.get("path") or "")) if isinstance(value, dict) else (value, "")


def _shards(folder: Path) -> list[Path]:
    """Returns the Parquet files of a folder, or of its `data` folder; only those of the train split if there is one."""
    for place in (folder, folder / "data"):
        names = os.listdir(place) if place.is_dir() else []
        shards = sorted((n for n in names if n.endswith(".parquet") and not n.startswith(".")), key=natural_key)
        if shards:
            train = [name for name in shards if name.startswith("train")]
            return [place / name for name in train or shards]
    return []


def _image_column(schema: Any, spec: str) -> str:
    """Returns the column of images: of the usual names first, with structs of bytes first. Raises `DataError`."""
    import pyarrow.types as types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    fields = [schema.field(i) for i in range(len(schema.names))]
    structs = [
        f.name
        for f in fields
        if types.is_struct(f.type) and any(x.name == "bytes" and is_bytes(x.type) for x in f.type)
    ]
    candidates = structs + [f.name for f in fields if is_bytes(f.type)]
    if not candidates:
        raise DataError(f"{spec} has no column of images (bytes); its columns: {', '.join(schema.names)[:200]}")
    named = [name for name in candidates if name.lower() in _IMAGE_NAMES]
    return str((named or candidates)[0])


def _label_columns(
    files: list[Path], schema: Any, image: str, count: int, known: dict[str, tuple[str, ...]]
) -> tuple[LabelColumn, ...]:
    """Returns the columns that hold classes: numbers, truth values, or few distinct texts.

    Args:
        files: The shards.
        schema: Of the first shard.
        image: Name of the image column.
        count: Number of rows.
        known: Class names by column, where the file has them.
    """
    import pyarrow.types as types

    columns = []
    for name in schema.names:
        kind = schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if name == image or name in _NO_LABELS:
            continue
        if name in known:
            columns.append(LabelColumn(name, known[name]))
        elif types.is_boolean(kind):
            columns.append(LabelColumn(name, ("no", "yes")))
        elif types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind):
            distinct = _distinct(files, name) - {None, "", -1}
            # values that differ for nearly every image are names; a single value is no information
            if 1 < len(distinct) <= MAX_CLASSES and (len(distinct) <= count // 2 or len(distinct) == 2):
                columns.append(LabelColumn(name, order_classes(distinct)))
    return tuple(columns)


def _distinct(files: list[Path], name: str) -> set[Any]:
    """Returns a column's distinct values; stops when they are too many for classes."""
    distinct: set[Any] = set()
    for path in files:
        with _open(path) as file:
            for batch in file.iter_batches(batch_size=_BUFFER >> 10, columns=[name]):
                distinct.update(batch.column(0).unique().to_pylist())
                if len(distinct) > MAX_CLASSES + 3:
                    return distinct
    return distinct


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Returns the class names by column from Hugging Face's metadata."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            str(name): tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _number(value: Any, known: dict[str, int], count: int) -> int:
    """Returns a value's class number, -1 if unknown. `known`: numbers by name; empty if values are numbers already."""
    if isinstance(value, bool) or (not known and isinstance(value, int)):
        return int(value) if 0 <= int(value) < count else -1
    return known.get(str(value), -1)
