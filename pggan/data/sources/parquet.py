"""Hugging Face's Parquet shards: an image column (bytes and path), label columns; a file, or a folder of them.

They are streamed a few rows at a time, so that the size of the row groups does not matter.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pggan.data.label_columns import MAX_CLASSES, LabelColumn, order_classes
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source, has_magic
from pggan.data.sources.file_base import explain_damage, is_folder_of
from pggan.data.sources.image_io import read_image, read_size
from pggan.utils.errors import DataError, UsageError
from pggan.utils.formatting import natural_key

_MAGIC = b"PAR1"
# Rows per batch, bytes of the read buffer.
_ROWS, _BUFFER = 16, 1 << 20
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
        return DecodedImage(*read_image(self._data(data), channels), labels)

    def size(self, ref: Ref) -> tuple[int, int]:
        return read_size(io.BytesIO(self._data(ref.payload[0])))

    @staticmethod
    def _data(data: Any) -> bytes:
        if not isinstance(data, bytes):
            raise BadImage("the row holds no picture, or only the path of one that is not there")
        return data


class ParquetSource(Source):
    """Parquet shards with an image column and label columns."""

    streamed = True

    def __init__(self, spec: str) -> None:
        self.files = [Path(spec)] if Path(spec).is_file() else _shards(Path(spec))
        self._count, schema = 0, None
        for path in self.files:
            with _opened(path) as file:
                self._count += file.metadata.num_rows
                schema = schema or file.schema_arrow
                if file.schema_arrow.names != schema.names:
                    raise DataError(f"{path} has other columns than {self.files[0]}; give shards of one data set")
        assert schema is not None
        self._image = _image_column(schema, spec)
        self._named = _class_names(schema.metadata or {})
        self.label_columns = self._find_label_columns(schema)
        if not 0 < self._count < _MAX_ROWS:
            raise DataError(f"{spec} holds no rows; copy or make it again")

    def _find_label_columns(self, schema: Any) -> tuple[LabelColumn, ...]:
        """Returns the columns that hold classes: numbers, truth values, or few distinct texts."""
        import pyarrow.types as types

        columns = []
        for name in schema.names:
            kind = schema.field(name).type
            kind = kind.value_type if types.is_dictionary(kind) else kind
            if name == self._image or name in _NO_LABELS:
                continue
            if name in self._named:
                columns.append(LabelColumn(name, self._named[name]))
            elif types.is_boolean(kind):
                columns.append(LabelColumn(name, ("no", "yes")))
            elif types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind):
                distinct = _distinct(self.files, name) - {None, "", -1}
                # values that differ for nearly every image are names; a single value is no information
                if 1 < len(distinct) <= MAX_CLASSES and (len(distinct) <= self._count // 2 or len(distinct) == 2):
                    columns.append(LabelColumn(name, order_classes(distinct)))
        return tuple(columns)

    @staticmethod
    def sniff(spec: str) -> bool:
        return has_magic(spec, _MAGIC) or is_folder_of(spec, _shards)

    def __len__(self) -> int:
        return self._count

    def refs(self) -> Iterator[Ref]:
        row_number = 0
        numbers = {
            # columns whose classes the file names hold class numbers already
            column.name: {} if column.name in self._named else {name: i for i, name in enumerate(column.classes)}
            for column in self.label_columns
        }
        counts = {column.name: len(column.classes) for column in self.label_columns}
        for path in self.files:
            with _opened(path) as file:
                for batch in file.iter_batches(batch_size=_ROWS, columns=[self._image, *numbers]):
                    for row in batch.to_pylist():
                        data, path_in_row = _split_image(row[self._image])
                        labels = tuple(_number(row[name], known, counts[name]) for name, known in numbers.items())
                        yield Ref(path_in_row or f"row {row_number}", (data, labels))
                        row_number += 1

    def reader(self, resolution: int, seed: int) -> Reader:
        return ParquetReader()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    open_file = pyarrow().ParquetFile
    problem = f"{path} is not a whole Parquet file"
    with explain_damage(problem), open_file(path, buffer_size=_BUFFER, pre_buffer=False) as file:
        yield file


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

    def holds_bytes(kind: Any) -> bool:
        return types.is_struct(kind) and any(field.name == "bytes" and is_bytes(field.type) for field in kind)

    candidates = [field.name for is_image in (holds_bytes, is_bytes) for field in schema if is_image(field.type)]
    if not candidates:
        raise DataError(f"{spec} has no column of images (bytes); its columns: {', '.join(schema.names)[:200]}")
    named = [name for name in candidates if name.lower() in _IMAGE_NAMES]
    return str((named or candidates)[0])


def _distinct(files: list[Path], name: str) -> set[Any]:
    """Returns a column's distinct values; stops when they are too many for classes."""
    distinct: set[Any] = set()
    for path in files:
        with _opened(path) as file:
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
