"""Base of the sources that are tables of Hugging Face's kind: an image column (bytes and path), label columns.

They are streamed a few rows at a time, so that the number of rows read at once is bounded by their bytes.
"""

from __future__ import annotations

import io
import math
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import MAX_CLASSES, NO_YES, LabelColumn, order_classes, without_unknown
from pggan.data.sources.array_choice import join_remarks, no_classes_remark
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.image_io import read_image, read_size
from pggan.data.sources.image_root import ImageRoot
from pggan.data.sources.table_columns import ImageColumn, class_names, find_image_column
from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_CARRIED_BYTES

# Most rows per batch of images, and of one label column.
ROWS, LABEL_ROWS = 16, 1024
# Columns that are no classes, unless the file names such, and are not named as left out.
_NO_LABELS = frozenset(("width", "height", "id", "idx", "index", "__index_level_0__"))
# Most characters of a class, and of a picture's name.
_MAX_CLASS_NAME, _MAX_NAME = 200, 1000
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\b")


class TableReader(Reader):
    """A reference's payload: (the image file's bytes, its size if it is too large, or None; its path; labels)."""

    def __init__(self, root: ImageRoot | None) -> None:
        self._root = root

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        return DecodedImage(*read_image(self._data(ref), channels), ref.payload[2])

    def size(self, ref: Ref) -> tuple[int, int]:
        return read_size(io.BytesIO(self._data(ref)))

    def _data(self, ref: Ref) -> bytes:
        data, path, _ = ref.payload
        if isinstance(data, bytes):
            return data
        if isinstance(data, int):
            raise BadImage(f"a picture of {data >> 20} MiB; the limit in a table is {MAX_CARRIED_BYTES >> 20}")
        if path and self._root is not None:
            return self._root.read(path)
        raise BadImage("the row holds no picture, or only the path of one that is not there")


class TableSource(Source):
    """Shards with an image column and label columns.

    Args:
        spec: The SOURCE argument.
        images_root: Folder of the pictures of which the table holds the paths only; None: they are not read.
    """

    streamed = True
    choices = ("images_root",)

    def __init__(self, spec: str, images_root: str | None = None) -> None:
        self.files, passed_over = self._choose_files(spec)
        self._root = None if images_root is None else ImageRoot(images_root)
        self._count, schema = 0, None
        for path in self.files:
            rows, columns = self.describe(path)
            if rows > os.path.getsize(path):
                raise DataError(f"{path} claims {rows} rows in {os.path.getsize(path)} bytes; copy or make it again")
            self._count += rows
            schema = schema or columns
            if columns.names != schema.names:
                raise DataError(f"{path} has other columns than {self.files[0]}; give shards of one data set")
            named, first = class_names(columns.metadata or {}), class_names(schema.metadata or {})
            if any(named[name] != first[name] for name in named.keys() & first.keys()):
                raise DataError(f"{path} names or orders classes unlike {self.files[0]}; give shards of one data set")
        assert schema is not None
        if not self._count:
            raise DataError(f"{spec} holds no rows; copy or make it again")
        self.schema = schema
        self._image: ImageColumn = find_image_column(schema, spec)
        self._check_has_images(spec)
        self._named = class_names(schema.metadata or {})
        self.label_columns, left_out = self._find_label_columns(schema)
        self._passed_over, self._left_out = passed_over, left_out
        self._set_remark()

    def _choose_files(self, spec: str) -> tuple[list[Path], str]:
        """Returns the files of a SOURCE argument, and what is said of those passed over."""
        return ([Path(spec)], "") if Path(spec).is_file() else self.list_shards(Path(spec))

    @staticmethod
    @abstractmethod
    def list_shards(folder: Path) -> tuple[list[Path], str]:
        """Returns the shards of a folder, and what is said of those passed over."""

    @abstractmethod
    def describe(self, path: Path) -> tuple[int, Any]:
        """Returns a shard's number of rows and Arrow schema. Raises `DataError`."""

    @abstractmethod
    def batches(self, path: Path, columns: Sequence[str], rows: int) -> Iterator[Any]:
        """Yields a shard's record batches of these columns, of at most `rows` rows. Raises `DataError`."""

    def __len__(self) -> int:
        return self._count

    def reader(self, resolution: int, seed: int) -> Reader:
        return TableReader(self._root)

    def refs(self) -> Iterator[Ref]:
        row_number = 0
        numbers = {
            # columns whose classes the file names hold class numbers already
            column.name: {} if column.name in self._named else _numbers_by_text(column)
            for column in self.label_columns
        }
        for path in self.files:
            for batch in self.batches(path, [*self._image.leaves, *numbers], ROWS):
                images, paths = self._image.split(batch)
                labels = [batch.column(name).to_pylist() for name in numbers]
                for row in range(batch.num_rows):
                    path_in_row = str(paths[row].as_py() or "") if paths is not None else ""
                    values = zip((column[row] for column in labels), self.label_columns, numbers.values())
                    payload = (_content(images, row), path_in_row, tuple(_entry(*each) for each in values))
                    yield Ref(path_in_row[:_MAX_NAME] or f"row {row_number}", payload)
                    row_number += 1

    def _set_remark(self) -> None:
        left_out = no_classes_remark(self._left_out)
        self.remark = join_remarks(self._passed_over, _missing_shards(self.files), left_out)

    def with_numbers(self, names: tuple[str, ...]) -> Source:
        """Also takes columns of fractions, and of more values than there are classes."""
        columns = {column.name: column for column in self.label_columns}
        for name in names:
            if name in self.schema.names and name not in self._named:
                columns[name] = LabelColumn.of_values(name, self._values(name))
        self.label_columns = tuple(columns.values())
        self._left_out = [name for name in self._left_out if name not in columns]
        self._set_remark()
        missing = tuple(name for name in names if not (name in columns and columns[name].is_number))
        return super().with_numbers(missing) if missing else self

    def _values(self, name: str) -> NDArray[np.float64]:
        """Returns a column's numbers (N,), NaN where there is none. Raises `DataError` for another kind of column."""
        try:
            parts = [b.column(0).to_pylist() for p in self.files for b in self.batches(p, [name], LABEL_ROWS)]
            return np.array([_measure(value) for part in parts for value in part])
        except (ValueError, TypeError) as error:
            raise DataError(f"--numbers {name}: the column holds no numbers ({error}); leave it out") from None

    def _check_has_images(self, spec: str) -> None:
        """Raises `DataError` if there are only paths and no --images-root."""
        if self._root is not None:
            return
        for path in self.files if self._image.bytes_leaf else ():
            for batch in self.batches(path, [self._image.bytes_leaf], LABEL_ROWS):
                images, _ = self._image.split(batch)
                if images.null_count < len(images):
                    return
        if not self._image.path_leaf:
            raise DataError(f"{spec} holds no pictures: its column {self._image.name[:80]!r} is empty; make it again")
        raise DataError(
            f"{spec} holds only the paths of its pictures, not the pictures; put these into it "
            "(Hugging Face: push_to_hub, or to_parquet with the files embedded), or, if the paths are relative, give "
            "the folder that they begin in: --images-root DIR"
        )

    def _find_label_columns(self, schema: Any) -> tuple[tuple[LabelColumn, ...], list[str]]:
        """Returns the columns that hold classes (numbers, truth values, few distinct texts), and names of others."""
        from pyarrow import types

        columns: list[LabelColumn] = []
        left_out: list[str] = []
        for name in schema.names:
            kind = schema.field(name).type
            kind = kind.value_type if types.is_dictionary(kind) else kind
            if name == self._image.name or schema.names.count(name) > 1:
                continue
            if name in _NO_LABELS and name not in self._named:
                continue
            if name in self._named:
                columns.append(LabelColumn(name, self._named[name]))
            elif types.is_boolean(kind):
                columns.append(LabelColumn(name, NO_YES))
            elif any(is_kind(kind) for is_kind in _class_kinds()):
                distinct = self._distinct(name)
                if set(map(str, distinct or ())) == {"-1", "1"}:  # as CelebA's attributes
                    columns.append(LabelColumn(name, NO_YES))
                    continue
                distinct = None if distinct is None else without_unknown(distinct)
                # values that differ for nearly every image are names; a single value is no information
                few = distinct is not None and (len(distinct) <= self._count // 2 or len(distinct) == 2)
                if distinct is not None and few and 1 < len(distinct) <= MAX_CLASSES:
                    columns.append(LabelColumn(name, order_classes(distinct)))
                elif distinct is None or len(distinct) > 1:
                    left_out.append(name)
        return tuple(columns), left_out

    def _distinct(self, name: str) -> set[Any] | None:
        """Returns a column's distinct values without empty ones; None if they are too many, or measures."""
        distinct: set[Any] = set()
        for path in self.files:
            for batch in self.batches(path, [name], LABEL_ROWS):
                values = {_whole(value) for value in batch.column(0).unique().to_pylist()}
                distinct |= values - {None, ""}
                if len(distinct) > MAX_CLASSES or any(
                    isinstance(value, float) or (isinstance(value, str) and len(value) > _MAX_CLASS_NAME)
                    for value in distinct
                ):
                    return None
        return distinct


def _class_kinds() -> tuple[Callable[[Any], bool], ...]:
    """Returns pyarrow's tests of the types that may hold classes."""
    from pyarrow import types

    return types.is_integer, types.is_floating, types.is_string, types.is_large_string


def _content(images: Any, row: int) -> bytes | int | None:
    """Returns the bytes of a row's image, their number if it is above the limit, None without any."""
    value = None if images is None else images[row]
    if value is None or not value.is_valid:
        return None
    buffer = value.as_buffer()
    return bytes(buffer) if buffer.size <= MAX_CARRIED_BYTES else int(buffer.size)


def _whole(value: Any) -> Any:
    """Returns a floating-point number without a fraction as an integer, and "not a number" as None."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else int(value) if value.is_integer() else value


def _measure(value: Any) -> float:
    """Returns a cell of a column of numbers, NaN for none."""
    return math.nan if value is None or value == "" else float(value)


def _entry(value: Any, column: LabelColumn, known: dict[str, int]) -> int:
    """Returns the entry of a cell; `known`: as `_number` has it."""
    if column.is_number:
        return int(column.entries(np.float64(_measure(value))))
    return _number(value, known, len(column.classes))


def _numbers_by_text(column: LabelColumn) -> dict[str, int]:
    """Returns the class numbers of the texts of a column's cells."""
    numbers = {name: number for number, name in enumerate(column.classes)}
    return {**numbers, "-1": 0, "1": 1} if column.classes == NO_YES else numbers


def _number(value: Any, known: dict[str, int], count: int) -> int:
    """Returns a value's class number, -1 if unknown. `known`: numbers by name; empty if values are numbers already."""
    value = _whole(value)
    if isinstance(value, bool) or (not known and isinstance(value, int)):
        return int(value) if 0 <= int(value) < count else -1
    return known.get(str(value), -1)


def _missing_shards(files: list[Path]) -> str | None:
    """Returns which of the shards that the names count are missing ("train-00000-of-00002")."""
    matches = [match for file in files if (match := _SHARD.search(file.name))]
    if not matches:
        return None
    present, total = {int(match[1]) for match in matches}, max(int(match[2]) for match in matches)
    missing = total - len(present)
    return f"{missing} of {total} shards are not there" if missing > 0 and len(files) > 1 else None
