"""Labels from outside the images: CSV tables, CelebA's attribute lists, `dataset.json`, folder names.

A table holds a class number per image and column. It is looked up by the image's full name, then without folders, then
without the ending, so that the table's names may lack endings or have others.
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
from pggan.data.sources.array_choice import join_remarks, no_classes_remark
from pggan.data.sources.base import DecodedImage, Reader, Ref, Source, WrappedSource
from pggan.data.sources.file_base import read_if_present
from pggan.data.sources.list_text import are_measures, check_values, decode_list
from pggan.utils.errors import DataError
from pggan.utils.limits import MAX_LIST_BYTES
from pggan.utils.untrusted import reading

FOLDERS = "folders"
UNLABELLED = "without a label"
# Label files beside images that this program or StyleGAN's tools wrote: the table, the order of its classes, the list.
TABLE, CLASSES, DATASET = "labels.csv", "classes.json", "dataset.json"


class LabelTable:
    """Class numbers by image name.

    Args:
        header: Names of the columns; those that hold no classes are left out.
        rows: The image's name and a text per column.
        order: Classes in order, for the columns where it is known.
        are_numbers: Whether whole numbers are class numbers, see `order_classes`.
    """

    def __init__(
        self,
        header: Sequence[str] = (),
        rows: Sequence[Sequence[str]] = (),
        order: Mapping[str, Any] | None = None,
        are_numbers: bool = False,
    ) -> None:
        self._rows = {row[0]: number for number, row in enumerate(rows)}
        self.columns: tuple[LabelColumn, ...] = ()
        self.left_out: list[str] = []  # names of columns that hold no classes
        self._numbers: list[NDArray[np.int32]] = []  # class numbers (rows,) of each column
        for at, name in enumerate(header, 1):
            classes, numbers = _as_classes([row[at] for row in rows], (order or {}).get(name), are_numbers)
            if classes:
                self.columns += (LabelColumn(name, classes),)
                self._numbers.append(numbers)
            else:
                self.left_out.append(name)
        self.first = next(iter(self._rows), "")  # the first image name, for messages
        self._stems: dict[str, int] = {}  # row by name without the ending; -1 if two images share it
        for name, row in self._rows.items():
            stem = _stem(name)
            self._stems[stem] = -1 if self._stems.get(stem, row) != row else row

    def get(self, name: str) -> tuple[int, ...] | None:
        """Returns an image's class numbers, None if the table lacks it."""
        base = name.replace("\\", "/").rpartition("/")[2]
        row = next((self._rows[key] for key in (name, name.removeprefix("./"), base) if key in self._rows), None)
        if row is None:
            row = self._stems.get(_stem(base), -1)
        return tuple(int(numbers[row]) for numbers in self._numbers) if row >= 0 else None

    @classmethod
    def read(cls, path: Path) -> LabelTable:
        """Reads a file by its ending: .csv, .tsv, .json (StyleGAN's dataset.json), else a list as CelebA's.

        Raises `DataError` for a missing or invalid file.
        """
        try:
            with open(path, "rb") as file:  # may be a pipe
                data = file.read(MAX_LIST_BYTES + 1)
            text = decode_list(data, f"--labels {path}")
        except FileNotFoundError:
            raise DataError(f"--labels {path} does not exist; give a CSV, an attribute list, or folders") from None
        except OSError as error:
            raise DataError(f"--labels {path} cannot be read ({error.strerror}); give a file, or folders") from None
        if path.suffix.lower() == ".json":
            return cls.read_json(text, str(path))
        if path.suffix.lower() in (".csv", ".tsv"):
            return cls.read_csv(text, str(path), read_if_present(str(path.with_name(CLASSES))))
        return cls.read_list(text, str(path))

    @classmethod
    def read_csv(cls, text: str, where: str, order: bytes | None = None) -> LabelTable:
        """Parses a header and a row per image: its name in the first column, a label in each other one.

        Args:
            text: Content of the CSV file.
            where: The file's name, for messages.
            order: Content of CLASSES beside it.

        Raises:
            DataError: The text is no such table.
        """
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        check_values(text, ",;\t\n", where)
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        try:
            lines = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
            cells: dict[str, str] = {}  # equal texts are kept once
            rows = [[cells.setdefault(c, c) for c in map(str.strip, row)] for row in lines if any(map(str.strip, row))]
        except csv.Error as error:
            raise DataError(f"{where} is no CSV ({error}); save it again as one") from None
        if len(rows) < 2 or len(rows[0]) < 2:
            raise DataError(f"{where}: a header, and rows of a file name and labels, are needed")
        header = rows.pop(0)
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise DataError(f"{where}: row {number} has {len(row)} columns, the header {len(header)}; mend the row")
        if len(set(header[1:])) != len(header) - 1:
            raise DataError(f"{where}: two columns have the same name; rename one")
        return cls(header[1:], rows, _order(order, where))

    @classmethod
    def read_list(cls, text: str, where: str) -> LabelTable:
        """Parses CelebA's list: a count, the attributes' names, then a line per image: name, and 1 or -1 for each.

        `where`: the file's name, for messages. Raises `DataError`.
        """
        check_values(text, " \t\n", where)
        cells: dict[str, str] = {}
        lines = [[cells.setdefault(c, c) for c in line.split()] for line in text.splitlines() if line.strip()]
        if lines and len(lines[0]) == 1 and lines[0][0].isdecimal():
            lines = lines[1:]
        if len(lines) < 2 or len(lines[1]) != len(lines[0]) + 1:
            raise DataError(
                f"{where} is no attribute list: names in the first line, then a file name and as many values"
            )
        names = lines.pop(0)
        for number, line in enumerate(lines, 1):
            if len(line) != len(names) + 1:
                raise DataError(
                    f"{where}: {line[0]} (row {number}) has {len(line) - 1} values, not {len(names)}; mend the row"
                )
        return cls(names, lines)

    @classmethod
    def read_json(cls, text: str, where: str) -> LabelTable:
        """Parses StyleGAN's dataset.json: {"labels": [[name, class], ...]}; without labels, the table is empty.

        `where`: the file's name, for messages. Raises `DataError`.
        """
        check_values(text, ",[{", where)
        try:
            pairs = [(str(name), value) for name, value in json.loads(text).get("labels") or []]
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise DataError(f'{where} is not {{"labels": [[name, class], ...]}}; mend or remove it') from None
        if any(isinstance(value, bool) or not isinstance(value, (int, str)) for _, value in pairs):
            raise DataError(f"{where}: labels have to be class numbers or names; mend or remove it")
        return cls(["class"] if pairs else [], [(name, str(value)) for name, value in pairs], are_numbers=True)


def _order(data: bytes | None, where: str) -> Mapping[str, Any]:
    """Parses the content of CLASSES: classes in order, by column."""
    if data is None:
        return {}
    try:
        order = json.loads(data.decode("utf-8-sig"))
        return order if isinstance(order, dict) else {}
    except (ValueError, RecursionError):
        raise DataError(f"the {CLASSES} beside {where} is damaged; mend or remove it") from None


def _stem(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    return stem if dot and stem and not ending.isdecimal() else base


def _as_classes(values: Sequence[str], order: Any, are_numbers: bool) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Returns the classes and class numbers of a column; no classes if its values are too many, or fractions."""
    distinct = {value for value in values if value != ""}
    named = [name for name in order if isinstance(name, (str, int))] if isinstance(order, list) else []
    if named and distinct <= set(map(str, named)) and len(set(map(str, named))) == len(order):
        classes = tuple(map(str, named))
    elif distinct and distinct <= {"1", "-1"}:
        return ("no", "yes"), np.array([{"1": 1, "-1": 0}.get(v, -1) for v in values], np.int32)
    elif len(distinct) > MAX_CLASSES or are_measures(distinct):
        return (), np.zeros(0, np.int32)
    else:
        classes = order_classes((value for value in distinct if value != "-1"), are_numbers)
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, np.array([numbers.get(value, -1) for value in values], np.int32)


class LabelledReader(Reader):
    """Adds labels to another reader's images. A reference's payload: (inner payload, labels or None for `unknown`)."""

    def __init__(self, inner: Reader, unknown: tuple[int, ...]) -> None:
        self.inner, self.unknown, self.box_filtered = inner, unknown, inner.box_filtered

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        payload, labels = ref.payload
        image = self.inner.read(Ref(ref.name, payload), channels)
        if labels is None:
            return image._replace(labels=self.unknown, notes=(*image.notes, UNLABELLED))
        return image._replace(labels=labels)

    def size(self, ref: Ref) -> tuple[int, int]:
        return self.inner.size(Ref(ref.name, ref.payload[0]))


class LabelledSource(WrappedSource):
    """Another source's images with labels from a table."""

    def __init__(self, inner: Source, table: LabelTable) -> None:
        super().__init__(inner)
        self.table, self.label_columns = table, table.columns
        self.scalable, self.channels = inner.scalable, inner.channels
        self.remark = join_remarks(inner.remark, no_classes_remark(table.left_out))

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


def with_labels(source: Source, labels: str | None) -> Source:
    """Returns a source with the labels of --labels: "folders", a file, or None.

    None: a label file beside the images if there is one, else the source's own labels. Raises `DataError` if no image
    has a label.
    """
    if labels is None:
        table = _companion_table(source)
        if table is not None and table.columns:
            return LabelledSource(source, table)
        source.remark = join_remarks(source.remark, no_classes_remark(table.left_out if table is not None else ()))
        return source
    with reading(f"--labels {labels}", DataError, "mend it, or give another"):
        table = _folder_table(source) if labels == FOLDERS else LabelTable.read(Path(labels))
    if not table.columns:
        raise DataError(f"--labels {labels} names no classes that the pictures could have")
    return LabelledSource(source, _check_any_match(table, source, f"--labels {labels}"))


def _check_any_match(table: LabelTable, source: Source, where: str) -> LabelTable:
    """Returns the table. Raises `DataError` if it lacks all images of the source."""
    first = None
    for ref in source.refs():
        if table.get(ref.name) is not None:
            return table
        first = first or ref.name
    raise DataError(f"none of the pictures is in {where}: it names {table.first}, they {first}; give or mend the list")


def _folder_table(source: Source) -> LabelTable:
    """Labels each image with the first folder of its path, not counting folders that all share (as in archives)."""
    names = [ref.name.removeprefix("./") for ref in source.refs()]
    paths = [name.split("/")[:-1] for name in names]
    if not any(paths):
        raise DataError("--labels folders: the pictures lie in no folders; give a CSV of file names and labels")
    first, last = min(paths), max(paths)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last)))
    if shared == len(last):  # all in one folder, which is then their class
        shared = 0
    folders = [path[shared] if len(path) > shared else "" for path in paths]
    return LabelTable(["class"], list(zip(names, folders)))


def _companion_table(source: Source) -> LabelTable | None:
    """Reads TABLE, else DATASET, beside the images; None without them."""
    name, data = TABLE, source.read_companion(TABLE)
    if data is None:
        name, data = DATASET, source.read_companion(DATASET)
    if data is None:
        return None
    text = data.decode("utf-8-sig", "replace")
    with reading(name, DataError, "mend or remove it"):
        if name == TABLE:
            table = LabelTable.read_csv(text, name, source.read_companion(CLASSES))
        else:
            table = LabelTable.read_json(text, name)
    return _check_any_match(table, source, f"the {name} beside them") if table.columns else table
