"""Hugging Face's Parquet shards: an image column (bytes and path), label columns; a file, or a folder of them.

They are read once through, a few rows at a time, so that a row group of gigabytes does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pggan.data.imaging import read_picture, read_size
from pggan.data.sources.base import BadPicture, Picture, Reader, Ref, Source
from pggan.errors import DataError, UsageError
from pggan.labels import LabelColumn
from pggan.words import natural_key

_MAGIC = b"PAR1"
_ROWS = 16
# They have no other order than their own, so that a sample is their beginning.
_SAMPLE = 256
_IMAGE_NAMES = ("image", "img", "picture", "jpg", "png", "webp", "bytes")
# A column of texts is a label while it has so few different ones.
_MOST_CLASSES = 1000


def pyarrow(what: str = "reading Parquet") -> Any:
    """`pyarrow.parquet`. Raises `UsageError` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{what} needs one more package: pip install 'pggan[parquet]'") from None
    return pyarrow.parquet


class ParquetReader(Reader):
    """A reference carries the picture's bytes and its labels."""

    def read(self, ref: Ref, channels: int) -> Picture:
        data, labels = ref.payload
        image, notes = read_picture(self._data(data), channels)
        return Picture(image, labels, notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        import io

        return read_size(io.BytesIO(self._data(ref.payload[0])))

    @staticmethod
    def _data(data: bytes | None) -> bytes:
        if data is None:
            raise BadPicture("the row holds no picture, or only the path of one that is not there")
        return data


class ParquetSource(Source):
    def __init__(self, spec: str) -> None:
        self.files = [Path(spec)] if Path(spec).is_file() else _shards(Path(spec))
        parquet = pyarrow()
        try:
            opened = [parquet.ParquetFile(path) for path in self.files]
            self._count = sum(file.metadata.num_rows for file in opened)
            schema = opened[0].schema_arrow
            self._image = _image_column(schema, spec)
            for path, file in zip(self.files, opened):
                if file.schema_arrow.names != schema.names:
                    raise DataError(f"{path} has other columns than {self.files[0]}; give shards of one data set")
            self._named = _class_names(schema.metadata or {})
            self._labels = _label_columns(opened, schema, self._image, self._count, self._named)
        except (OSError, ValueError) as error:  # what pyarrow raises is one of these
            raise DataError(f"{spec} cannot be read as Parquet ({' '.join(str(error).split())[:120]})") from None
        if not self._count:
            raise DataError(f"{spec} holds no rows")

    @staticmethod
    def sniff(spec: str) -> bool:
        path = Path(spec)
        if path.is_file():
            with open(path, "rb") as file:
                return file.read(len(_MAGIC)) == _MAGIC
        return path.is_dir() and bool(_shards(path))

    def __len__(self) -> int:
        return self._count

    def refs(self) -> Iterable[Ref]:
        return self._rows()

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return islice(self._rows(), min(count, among, _SAMPLE))

    def _rows(self) -> Iterator[Ref]:
        parquet, number = pyarrow(), 0
        numbers = {
            # the file's own classes are numbers already
            column.name: {} if column.name in self._named else {name: i for i, name in enumerate(column.classes)}
            for column in self._labels
        }
        counts = {column.name: len(column.classes) for column in self._labels}
        for path in self.files:
            file = parquet.ParquetFile(path)
            for batch in file.iter_batches(batch_size=_ROWS, columns=[self._image, *numbers]):
                for row in batch.to_pylist():
                    image = row[self._image]
                    data = image.get("bytes") if isinstance(image, dict) else image
                    place = (image.get("path") if isinstance(image, dict) else None) or f"row {number}"
                    classes = tuple(_number(row[name], known, counts[name]) for name, known in numbers.items())
                    yield Ref(str(place), (data, classes))
                    number += 1

    @property
    def label_columns(self) -> tuple[LabelColumn, ...]:
        return self._labels

    def reader(self, resolution: int, seed: int) -> Reader:
        return ParquetReader()


def _shards(folder: Path) -> list[Path]:
    """The Parquet files of a folder, or of its `data` folder; of the train split where there are several."""
    for place in (folder, folder / "data"):
        found = sorted(place.glob("*.parquet"), key=lambda path: natural_key(path.name))
        if found:
            return [path for path in found if path.name.startswith("train")] or found
    return []


def _image_column(schema: Any, spec: str) -> str:
    import pyarrow.types as types

    fields = [schema.field(i) for i in range(len(schema.names))]
    structs = [f.name for f in fields if types.is_struct(f.type) and any(x.name == "bytes" for x in f.type)]
    plain = [f.name for f in fields if types.is_binary(f.type) or types.is_large_binary(f.type)]
    found = structs + plain
    if not found:
        raise DataError(f"{spec} has no column of images; its columns: {', '.join(schema.names)}")
    named = [name for name in found if name.lower() in _IMAGE_NAMES]
    return str((named or found)[0])


def _label_columns(
    files: list[Any], schema: Any, image: str, count: int, known: dict[str, tuple[str, ...]]
) -> tuple[LabelColumn, ...]:
    """Columns of class numbers, truth values and few texts; their classes by name where the file names them."""
    import pyarrow.types as types

    columns = []
    for name in schema.names:
        kind = schema.field(name).type
        if name == image:
            continue
        if name in known:
            columns.append(LabelColumn(name, known[name]))
        elif types.is_boolean(kind):
            columns.append(LabelColumn(name, ("no", "yes")))
        elif types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind):
            found = _distinct(files, name)
            # numbers of their own for nearly every picture are names, not classes
            if found and len(found) <= _MOST_CLASSES and (len(found) <= count // 2 or len(found) <= 2):
                columns.append(LabelColumn(name, _in_order(found)))
    return tuple(columns)


def _distinct(files: list[Any], name: str) -> set[Any]:
    found: set[Any] = set()
    for file in files:
        for batch in file.iter_batches(columns=[name]):
            found.update(batch.column(0).unique().to_pylist())
            if len(found) > _MOST_CLASSES + 1:
                return found
    found.discard(None)
    return found


def _in_order(values: set[Any]) -> tuple[str, ...]:
    if all(isinstance(value, int) for value in values):
        most, least = max(values), min(values)
        if least >= 0 and most <= _MOST_CLASSES:
            return tuple(map(str, range(most + 1)))
        return tuple(map(str, sorted(value for value in values if value != -1)))
    return tuple(sorted(map(str, values), key=natural_key))


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Hugging Face's own description of the columns: names of the classes."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            str(name): tuple(map(str, about["names"]))
            for name, about in features.items()
            if isinstance(about, dict) and about.get("_type") == "ClassLabel" and about.get("names")
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _number(value: Any, known: dict[str, int], count: int) -> int:
    """A value as its class number, -1 where it is unknown."""
    if isinstance(value, bool) or (not known and isinstance(value, int)):
        return int(value) if 0 <= int(value) < count else -1
    return known.get(str(value), -1)
