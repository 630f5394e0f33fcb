"""Labels from outside the pictures: CSV tables, CelebA's attribute lists, `dataset.json`, folder names.

A table gives every picture a class number a column; it is looked up by the picture's name in full, then without
folders, then without its ending; the table's names may lack theirs, or have another one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import MAX_CLASSES, LabelColumn, order_classes
from pggan.data.sources.base import DecodedImage, Reader, Ref, Source
from pggan.utils.errors import DataError

FOLDERS = "folders"
UNLABELLED = "without a label"
# What lies beside pictures that this program, or StyleGAN's tools, wrote; asked for in this order.
TABLE, CLASSES, DATASET = "labels.csv", "classes.json", "dataset.json"


class LabelTable:
    """Class numbers by picture name. Raises `DataError` for files that cannot be read as one."""

    def __init__(
        self,
        columns: tuple[LabelColumn, ...] = (),
        rows: Mapping[str, int] | None = None,
        numbers: NDArray[np.int32] | None = None,
    ) -> None:
        self.columns, self._rows, self._numbers = columns, dict(rows or {}), numbers
        # by name without the ending; none where two pictures share it
        self._stems: dict[str, int] = {}
        for name, row in self._rows.items():
            stem = _stem(name)
            self._stems[stem] = -1 if self._stems.get(stem, row) != row else row

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str) -> tuple[int, ...] | None:
        """Class numbers of a picture, None where the table has none."""
        base = name.replace("\\", "/").rpartition("/")[2]
        found = next((self._rows[key] for key in (name, name.removeprefix("./"), base) if key in self._rows), None)
        if found is None:
            found = self._stems.get(_stem(base), -1)
        if found < 0:
            return None
        assert self._numbers is not None
        return tuple(map(int, self._numbers[found]))

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
            raise DataError(f"--labels {path} is no text in UTF-8; save it as that") from None
        except OSError as error:
            raise DataError(f"--labels {path} cannot be read ({error.strerror}); give a file, or folders") from None
        if path.suffix.lower() == ".json":
            return cls.read_json(text, str(path))
        if path.suffix.lower() in (".csv", ".tsv"):
            order = path.with_name(CLASSES)
            return cls.read_csv(text, str(path), order.read_bytes() if order.is_file() else None)
        return cls.read_list(text, str(path))

    @classmethod
    def read_csv(cls, text: str, where: str, order: bytes | None = None) -> LabelTable:
        """A header, then a row a picture: its name in the first column, a label in each other one."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        try:
            lines = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
            rows = [row for row in lines if any(cell.strip() for cell in row)]
        except csv.Error as error:
            raise DataError(f"{where} is no CSV ({error}); save it again as one") from None
        if len(rows) < 2 or len(rows[0]) < 2:
            raise DataError(f"{where}: a header, and rows of a file name and labels, are needed")
        header = [name.strip() for name in rows[0]]
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(header):
                raise DataError(f"{where}: row {number} has {len(row)} columns, the header {len(header)}; mend the row")
        if len(set(header[1:])) != len(header) - 1:
            raise DataError(f"{where}: two columns have the same name; rename one")
        columns = {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(header) if i}
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
                raise DataError(
                    f"{where}: {line[0]} (row {number}) has {len(line) - 1} values, not {len(names)}; mend the row"
                )
        columns = {name: [line[i + 1] for line in lines[1:]] for i, name in enumerate(names)}
        return cls.of([line[0] for line in lines[1:]], columns, {})

    @classmethod
    def read_json(cls, text: str, where: str) -> LabelTable:
        """StyleGAN's dataset.json: {"labels": [[name, class], ...]}; without labels, an empty table."""
        try:
            pairs = json.loads(text).get("labels") or []
            names, values = [str(name) for name, _ in pairs], [value for _, value in pairs]
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise DataError(f'{where} is not {{"labels": [[name, class], ...]}}; mend or remove it') from None
        if any(isinstance(value, bool) or not isinstance(value, (int, str)) for value in values):
            raise DataError(f"{where}: labels have to be class numbers or names; mend or remove it")
        return cls.of(names, {"class": [str(value) for value in values]} if names else {}, {})


def _order(data: bytes | None, where: str) -> Mapping[str, Any]:
    if data is None:
        return {}
    try:
        found = json.loads(data.decode("utf-8-sig"))
        return found if isinstance(found, dict) else {}
    except (ValueError, RecursionError):
        raise DataError(f"the {CLASSES} beside {where} is damaged; mend or remove it") from None


def _stem(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    return stem if dot and stem and not ending.isdecimal() else base


def _as_classes(values: Sequence[str], order: Any) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Classes and class numbers of a column; none where it has too many different values to be a label."""
    found = {value for value in values if value != ""}
    if isinstance(order, list) and found <= set(map(str, order)):
        classes = tuple(map(str, order))
    elif found and found <= {"1", "-1"}:
        return ("no", "yes"), np.array([{"1": 1, "-1": 0}.get(v, -1) for v in values], np.int32)
    elif len(found) > MAX_CLASSES or any(_is_fraction(value) for value in found):
        return (), np.zeros(0, np.int32)
    else:
        classes = order_classes(value for value in found if value != "-1")
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
        self.inner, self.unknown, self.box_filtered = inner, unknown, inner.box_filtered

    def read(self, ref: Ref, channels: int) -> DecodedImage:
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


def with_labels(source: Source, labels: str | None) -> Source:
    """A source with the labels asked for: "folders", a file of them; None: its own, or a list beside its pictures.

    Raises `DataError` where none of the pictures has one.
    """
    if labels is None:
        table = _beside(source)
        return source if table is None else LabelledSource(source, table)
    table = _folders(source) if labels == FOLDERS else LabelTable.read(Path(labels))
    if not table.columns:
        raise DataError(f"--labels {labels} names no classes that the pictures could have")
    return LabelledSource(source, _fitting(table, source, f"--labels {labels}"))


def _fitting(table: LabelTable, source: Source, where: str) -> LabelTable:
    first = None
    for ref in source.refs():
        if table.get(ref.name) is not None:
            return table
        first = first or ref.name
    raise DataError(
        f"none of the pictures is in {where}: it names {table.first()}, they {first}; give or mend the list"
    )


def _folders(source: Source) -> LabelTable:
    """The first folder of a picture's path is its class; not one that all share, as an archive's only folder."""
    names = [ref.name.removeprefix("./") for ref in source.refs()]
    paths = [name.split("/")[:-1] for name in names]
    if not any(paths):
        raise DataError("--labels folders: the pictures lie in no folders; give a CSV of file names and labels")
    first, last = min(paths), max(paths)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last)))
    if shared == len(last):  # they all lie in one folder
        shared = 0
    folders = [path[shared] if len(path) > shared else "" for path in paths]
    return LabelTable.of(names, {"class": folders}, {})


def _beside(source: Source) -> LabelTable | None:
    listed = source.read_companion(TABLE)
    if listed is not None:
        table = LabelTable.read_csv(listed.decode("utf-8-sig", "replace"), TABLE, source.read_companion(CLASSES))
        return _fitting(table, source, f"the {TABLE} beside them") if table.columns else None
    listed = source.read_companion(DATASET)
    table = LabelTable() if listed is None else LabelTable.read_json(listed.decode("utf-8-sig", "replace"), DATASET)
    return _fitting(table, source, f"the {DATASET} beside them") if table.columns else None
