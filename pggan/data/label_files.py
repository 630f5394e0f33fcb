"""Labels from outside the pictures: CSV tables, CelebA's attribute lists, `dataset.json`, folder names.

A table gives every picture a class number a column; it is looked up by the picture's name in full, then without
folders, then without its ending.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import Picture, Reader, Ref, Source
from pggan.errors import DataError
from pggan.labels import MOST_CLASSES, LabelColumn, in_class_order

FOLDERS = "folders"
UNLABELLED = "without a label"
# What lies beside pictures that this program, or StyleGAN's tools, wrote; asked for in this order.
TABLE, CLASSES, DATASET = "labels.csv", "classes.json", "dataset.json"
_LOOKED_AT = 10_000


class LabelTable:
    """Class numbers by picture name. Raises `DataError` for files that cannot be read as one."""

    def __init__(
        self,
        columns: tuple[LabelColumn, ...] = (),
        rows: Mapping[str, int] | None = None,
        numbers: NDArray[np.int32] | None = None,
    ) -> None:
        self.columns, self._rows, self._numbers = columns, dict(rows or {}), numbers
        self._unknown = (-1,) * len(columns)

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str) -> tuple[int, ...] | None:
        """Class numbers of a picture, None where the table has none."""
        base = name.replace("\\", "/").rpartition("/")[2]
        for key in (name, name.removeprefix("./"), base, base.rpartition(".")[0]):
            if key and key in self._rows:
                assert self._numbers is not None
                return tuple(map(int, self._numbers[self._rows[key]]))
        return None

    def first(self) -> str:
        return next(iter(self._rows), "")

    @classmethod
    def of(cls, names: Sequence[str], columns: Mapping[str, Sequence[str]], order: Mapping[str, Any]) -> LabelTable:
        """From texts by column; `order`: classes in order, for the columns where they are known."""
        made, numbers = [], []
        for name, values in columns.items():
            classes, found = _as_classes(values, order.get(name))
            if classes:
                made.append(LabelColumn(name, classes))
                numbers.append(found)
        stacked = np.stack(numbers, axis=1) if numbers else np.zeros((len(names), 0), np.int32)
        return cls(tuple(made), {name: i for i, name in enumerate(names)}, stacked)

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """A file, by its ending: .csv, .tsv, .json (StyleGAN's dataset.json), else a list as CelebA's."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise DataError(f"--labels {path} does not exist; give a CSV, an attribute list, or folders") from None
        except UnicodeDecodeError:
            raise DataError(f"--labels {path} is no text file") from None
        if path.suffix.lower() == ".json":
            return cls.read_json(text, str(path))
        if path.suffix.lower() in (".csv", ".tsv"):
            order = path.with_name(CLASSES)
            return cls.read_csv(text, str(path), order.read_text(encoding="utf-8") if order.is_file() else None)
        return cls.read_list(text, str(path))

    @classmethod
    def read_csv(cls, text: str, where: str, order: str | None = None) -> LabelTable:
        """A header, then a row a picture: its name in the first column, a label in each other one."""
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
        if len(rows) < 2 or len(rows[0]) < 2:
            raise DataError(f"{where}: a header and rows of a file name and labels are needed")
        header = rows[0]
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(header):
                raise DataError(f"{where}: row {number} has {len(row)} columns, the header {len(header)}")
        columns = {name.strip(): [row[i].strip() for row in rows[1:]] for i, name in enumerate(header) if i}
        return cls.of([row[0].strip() for row in rows[1:]], columns, _order(order, where))

    @classmethod
    def read_list(cls, text: str, where: str) -> LabelTable:
        """CelebA's: a count, the names of the attributes, then a line a picture: its name and 1 or -1 for each."""
        lines = [line.split() for line in text.splitlines() if line.strip()]
        if lines and len(lines[0]) == 1 and lines[0][0].isdecimal():
            lines = lines[1:]
        if len(lines) < 2 or len(lines[1]) != len(lines[0]) + 1:
            raise DataError(
                f"{where} is no attribute list: names in the first line, then a file name and as many values"
            )
        names = lines[0]
        for number, line in enumerate(lines[1:], 1):
            if len(line) != len(names) + 1:
                raise DataError(f"{where}: {line[0]} (row {number}) has {len(line) - 1} values, not {len(names)}")
        columns = {name: [line[i + 1] for line in lines[1:]] for i, name in enumerate(names)}
        return cls.of([line[0] for line in lines[1:]], columns, {})

    @classmethod
    def read_json(cls, text: str, where: str) -> LabelTable:
        """StyleGAN's dataset.json: {"labels": [[name, class], ...]}; without labels, an empty table."""
        try:
            pairs = json.loads(text).get("labels") or []
            names, values = [str(name) for name, _ in pairs], [value for _, value in pairs]
        except (ValueError, TypeError, AttributeError):
            raise DataError(f'{where} is not {{"labels": [[name, class], ...]}}') from None
        if any(isinstance(value, bool) or not isinstance(value, (int, str)) for value in values):
            raise DataError(f"{where}: labels have to be class numbers or names")
        return cls.of(names, {"class": [str(value) for value in values]} if names else {}, {})


def _order(text: str | None, where: str) -> Mapping[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    except ValueError:
        raise DataError(f"the {CLASSES} beside {where} is damaged") from None


def _as_classes(values: Sequence[str], order: Any) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Classes and class numbers of a column; none where it has too many different values to be a label."""
    found = {value for value in values if value != ""}
    if isinstance(order, list) and found <= set(map(str, order)):
        classes = tuple(map(str, order))
    elif found and found <= {"1", "-1"}:
        return ("no", "yes"), np.array([{"1": 1, "-1": 0}.get(v, -1) for v in values], np.int32)
    elif len(found) > MOST_CLASSES or any(_is_fraction(value) for value in found):
        return (), np.zeros(0, np.int32)
    else:
        classes = in_class_order(value for value in found if value != "-1")
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, np.array([numbers.get(value, -1) for value in values], np.int32)


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


class LabelledReader(Reader):
    """A reference carries the inner one's payload and the labels (None: none are known)."""

    def __init__(self, inner: Reader, unknown: tuple[int, ...]) -> None:
        self.inner, self.unknown, self.boxed = inner, unknown, inner.boxed

    def read(self, ref: Ref, channels: int) -> Picture:
        payload, labels = ref.payload
        picture = self.inner.read(Ref(ref.name, payload), channels)
        if labels is None:
            return picture._replace(labels=self.unknown, notes=(*picture.notes, UNLABELLED))
        return picture._replace(labels=labels)

    def size(self, ref: Ref) -> tuple[int, int]:
        return self.inner.size(Ref(ref.name, ref.payload[0]))


class LabelledSource(Source):
    """A source whose labels come from a table."""

    def __init__(self, inner: Source, table: LabelTable) -> None:
        self.inner, self.table = inner, table
        self.scalable = inner.scalable

    @staticmethod
    def sniff(spec: str) -> bool:
        return False

    def __len__(self) -> int:
        return len(self.inner)

    def refs(self) -> Iterable[Ref]:
        return self._labelled(self.inner.refs())

    def sample(self, count: int, among: int) -> Iterator[Ref]:
        return self._labelled(self.inner.sample(count, among))

    def _labelled(self, refs: Iterable[Ref]) -> Iterator[Ref]:
        if not self.table.columns:
            return (Ref(ref.name, (ref.payload, ())) for ref in refs)
        return (Ref(ref.name, (ref.payload, self.table.get(ref.name))) for ref in refs)

    def reader(self, resolution: int, seed: int) -> Reader:
        return LabelledReader(self.inner.reader(resolution, seed), (-1,) * len(self.table.columns))

    @property
    def label_columns(self) -> tuple[LabelColumn, ...]:
        return self.table.columns

    @property
    def channels(self) -> int | None:
        return self.inner.channels

    @property
    def attribution(self) -> str | None:
        return self.inner.attribution


def labelled(source: Source, labels: str | None) -> Source:
    """A source with the labels asked for: "folders", a file of them; None: its own, or a list beside its pictures.

    Raises `DataError` where none of the pictures has one.
    """
    if labels is None:
        table = _beside(source)
        return LabelledSource(source, table) if table is not None and table.columns else source
    table = _folders(source) if labels == FOLDERS else LabelTable.read(Path(labels))
    if not table.columns:
        raise DataError(f"--labels {labels} names no classes that the pictures could have")
    names = [ref.name for ref in source.sample(_LOOKED_AT, len(source))]
    if not any(table.get(name) for name in names):
        raise DataError(f"none of the pictures is in --labels {labels}: it names {table.first()}, they {names[0]}")
    return LabelledSource(source, table)


def _folders(source: Source) -> LabelTable:
    """The first folder of a picture's path is its class."""
    names = [ref.name.removeprefix("./") for ref in source.refs()]
    folders = ["" if "/" not in name else name.partition("/")[0] for name in names]
    if not any(folders):
        raise DataError("--labels folders: the pictures lie in no folders; give a CSV of file names and labels")
    return LabelTable.of(names, {"class": folders}, {})


def _beside(source: Source) -> LabelTable | None:
    listed = source.beside(TABLE)
    if listed is not None:
        order = source.beside(CLASSES)
        return LabelTable.read_csv(listed.decode("utf-8-sig", "replace"), TABLE, order.decode() if order else None)
    listed = source.beside(DATASET)
    return LabelTable.read_json(listed.decode("utf-8", "replace"), DATASET) if listed is not None else None
