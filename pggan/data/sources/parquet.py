"""Hugging Face's Parquet shards: an image column (bytes and path), label columns; a file, or a folder of them.

They are read once through, a page of the file at a time, so that a row group of gigabytes does not matter.
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
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source, reason
from pggan.data.sources.file_base import is_mostly_images
from pggan.data.sources.image_io import read_image, read_size
from pggan.utils.errors import DataError, PgganError, UsageError
from pggan.utils.formatting import natural_key

_MAGIC = b"PAR1"
_ROWS, _BUFFER = 16, 1 << 20
# They have no other order than their own, so that a sample is their beginning.
_SAMPLE = 256
_MOST_ROWS = 1 << 40
_IMAGE_NAMES = ("image", "img", "picture", "jpg", "png", "webp", "bytes")
# Columns that say something else of a picture than its class.
_NO_LABELS = frozenset(("width", "height", "id", "idx", "index", "__index_level_0__"))


def pyarrow(what: str = "reading Parquet") -> Any:
    """`pyarrow.parquet`. Raises `UsageError` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{what} needs one more package: pip install 'pggan[parquet]'") from None
    return pyarrow.parquet


class ParquetReader(Reader):
    """A reference carries the picture's bytes and its labels."""

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
        if not 0 < self._count < _MOST_ROWS:
            raise DataError(f"{spec} holds no rows; copy or make it again")

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isfile(spec):
            with open(spec, "rb") as file:
                return file.read(len(_MAGIC)) == _MAGIC
        found = len(_shards(Path(spec))) if os.path.isdir(spec) else 0
        return found > 0 and not is_mostly_images(spec, found)

    def __len__(self) -> int:
        return self._count

    def refs(self) -> Iterable[Ref]:
        return self._rows()

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return islice(self._rows(), min(count, among, _SAMPLE))

    def _rows(self) -> Iterator[Ref]:
        number = 0
        numbers = {
            # the file's own classes are numbers already
            column.name: {} if column.name in self._named else {name: i for i, name in enumerate(column.classes)}
            for column in self._labels
        }
        counts = {column.name: len(column.classes) for column in self._labels}
        for path in self.files:
            try:
                with _open(path) as file:
                    for batch in file.iter_batches(batch_size=_ROWS, columns=[self._image, *numbers]):
                        for row in batch.to_pylist():
                            data, place = _image(row[self._image])
                            classes = tuple(_number(row[name], known, counts[name]) for name, known in numbers.items())
                            yield Ref(place or f"row {number}", (data, classes))
                            number += 1
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
    return DataError(f"{path} is not a whole Parquet file ({reason(error)}); copy or make it again")


def _image(value: Any) -> tuple[Any, str]:
    """Bytes and path of a row's picture, where it has them."""
    return (value.get("bytes"), str(value.get("path") or "")) if isinstance(value, dict) else (value, "")


def _shards(folder: Path) -> list[Path]:
    """The Parquet files of a folder, or of its `data` folder; of the train split where there are several."""
    for place in (folder, folder / "data"):
        names = os.listdir(place) if place.is_dir() else []
        found = sorted((n for n in names if n.endswith(".parquet") and not n.startswith(".")), key=natural_key)
        if found:
            return [place / name for name in [name for name in found if name.startswith("train")] or found]
    return []


def _image_column(schema: Any, spec: str) -> str:
    import pyarrow.types as types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    fields = [schema.field(i) for i in range(len(schema.names))]
    structs = [
        f.name
        for f in fields
        if types.is_struct(f.type) and any(x.name == "bytes" and is_bytes(x.type) for x in f.type)
    ]
    found = structs + [f.name for f in fields if is_bytes(f.type)]
    if not found:
        raise DataError(f"{spec} has no column of images (bytes); its columns: {', '.join(schema.names)[:200]}")
    named = [name for name in found if name.lower() in _IMAGE_NAMES]
    return str((named or found)[0])


def _label_columns(
    files: list[Path], schema: Any, image: str, count: int, known: dict[str, tuple[str, ...]]
) -> tuple[LabelColumn, ...]:
    """Columns of class numbers, truth values and few texts; their classes by name where the file names them."""
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
            found = _distinct(files, name) - {None, "", -1}
            # a value of its own for nearly every picture is a name; one for all tells nothing
            if 1 < len(found) <= MAX_CLASSES and (len(found) <= count // 2 or len(found) == 2):
                columns.append(LabelColumn(name, order_classes(found)))
    return tuple(columns)


def _distinct(files: list[Path], name: str) -> set[Any]:
    """A column's values, up to somewhat more than classes there can be."""
    found: set[Any] = set()
    for path in files:
        with _open(path) as file:
            for batch in file.iter_batches(batch_size=_BUFFER >> 10, columns=[name]):
                found.update(batch.column(0).unique().to_pylist())
                if len(found) > MAX_CLASSES + 3:
                    return found
    return found


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Hugging Face's own description of the columns: names of the classes."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            str(name): tuple(map(str, about["names"]))
            for name, about in features.items()
            if isinstance(about, dict) and about.get("_type") == "ClassLabel" and about.get("names")
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _number(value: Any, known: dict[str, int], count: int) -> int:
    """A value as its class number, -1 where it is unknown."""
    if isinstance(value, bool) or (not known and isinstance(value, int)):
        return int(value) if 0 <= int(value) < count else -1
    return known.get(str(value), -1)
