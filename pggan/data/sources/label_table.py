"""Tables of labels from outside: CSV, CelebA's attribute lists, `dataset.json`. An entry per image and column."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.label_columns import MAX_CLASSES, NO_YES, LabelColumn, order_classes, without_unknown
from pggan.data.sources.base import Source
from pggan.data.sources.file_base import read_if_present
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.list_names import NameIndex
from pggan.data.sources.list_text import CLASSES, are_measures, check_values, decode_list
from pggan.utils.errors import DataError
from pggan.utils.formatting import printable
from pggan.utils.limits import MAX_LIST_BYTES

# What is quoted in a header: delimiters in it are none.
_QUOTED = re.compile(r'"[^"]*"')
# Whole numbers, also as pandas writes those of a column with gaps: 1.0.
_WHOLE_FLOAT = re.compile(r"-?(?:0|[1-9]\d*)(?:\.0+)?")
# The line by which Excel names the delimiter of a CSV.
_SEPARATOR = re.compile(r"\ufeff?\"?sep=(.)\"?[ ,;\t]*\n", re.IGNORECASE)


class LabelTable:
    """Class numbers by image name.

    Args:
        header: Names of the columns; those that hold no classes are left out.
        rows: The image's name and a text per column.
        order: Classes in order, for the columns where it is known.
        are_numbers: Whether whole numbers are class numbers, see `order_classes`.
        numbers: Names of the columns that hold numbers, no classes; so do those that `order` gives bounds.
    """

    def __init__(
        self,
        header: Sequence[str] = (),
        rows: Sequence[Sequence[str]] = (),
        order: Mapping[str, Any] | None = None,
        are_numbers: bool = False,
        numbers: Sequence[str] = (),
    ) -> None:
        self.names = NameIndex([row[0] for row in rows])
        for earlier, later in self.names.replaced:
            if rows[earlier][1:] != rows[later][1:] and (name := rows[later][0]):
                raise DataError(f"the list of labels has two rows of {printable(name)[:80]} that differ; keep one")
        self.columns: tuple[LabelColumn, ...] = ()
        self.left_out: list[str] = []  # names of columns that hold no classes
        self._numbers: list[NDArray[np.int32]] = []  # class numbers (rows,) of each column
        for at, name in enumerate(header, 1):
            texts, known = [row[at] for row in rows], (order or {}).get(name)
            if name in numbers or (isinstance(known, dict) and "bounds" in known):
                column, entries = _as_numbers(name, texts)
            else:
                classes, entries = _as_classes(texts, known, are_numbers)
                column = LabelColumn(name, classes)
            if column.limit:
                self.columns += (column,)
                self._numbers.append(entries)
            else:
                self.left_out.append(name)
        self.first = rows[0][0] if rows else ""  # the first image name, for messages
        self.title = ""  # what the header calls the names

    def get(self, name: str) -> tuple[int, ...] | None:
        """Returns an image's class numbers, None if the table lacks it."""
        row = self.names.find(name)
        return None if row is None else tuple(int(numbers[row]) for numbers in self._numbers)

    def check_any_match(self, source: Source, where: str, within: str = "") -> None:
        """Notes the paths of the source's images, as `NameIndex` does.

        Raises `DataError` if the table has none of them, or if its header is the row of one.
        """
        self.names.compare_with(source.image_names(), getattr(source, "path", ""), within)
        if self.names.has_image(self.title):
            raise _no_header(where, self.title)
        first = None
        for name in source.image_names() or (ref.name for ref in source.refs()):
            if self.names.find(name) is not None:
                return
            first = first or name
        advice = "give or mend the list"
        if shared := self.names.shared():
            advice = f"several pictures are called {printable(shared[0])}: write their folders into the list"
        raise DataError(f"none of the pictures is in {where}: it names {self.first}, they {first}; {advice}")

    @classmethod
    def read(cls, path: Path, numbers: Sequence[str] = ()) -> LabelTable:
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
            return cls.read_csv(text, str(path), read_if_present(str(path.with_name(CLASSES))), numbers)
        return cls.read_list(text, str(path), numbers)

    @classmethod
    def read_csv(cls, text: str, where: str, order: bytes | None = None, numbers: Sequence[str] = ()) -> LabelTable:
        """Parses a header and a row per image: its name in the first column, a label in each other one.

        Args:
            text: Content of the CSV file.
            where: The file's name, for messages.
            order: Content of CLASSES beside it.
            numbers: Names of the columns that hold numbers.

        Raises:
            DataError: The text is no such table.
        """
        rows = _csv_rows(text, where)
        if rows and len(rows[0]) > 1 and is_image_name(rows[0][0]):
            raise _no_header(where, rows[0][0])
        if len(rows) < 2 or len(rows[0]) < 2:
            raise DataError(f"{where}: a header, and rows of a file name and labels, are needed")
        header = rows.pop(0)
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise DataError(f"{where}: row {number} has {len(row)} columns, the header {len(header)}; mend the row")
        if not header[0] and len(header) > 2:  # the index that pandas writes
            header, rows = header[1:], [row[1:] for row in rows]
        if len(set(header[1:])) != len(header) - 1:
            raise DataError(f"{where}: two columns have the same name; rename one")
        table = cls(header[1:], rows, _order(order, where), numbers=numbers)
        table.title = header[0]
        return table

    @classmethod
    def read_list(cls, text: str, where: str, numbers: Sequence[str] = ()) -> LabelTable:
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
        return cls(names, lines, numbers=numbers)

    @classmethod
    def read_json(cls, text: str, where: str) -> LabelTable:
        """Parses StyleGAN's dataset.json: {"labels": [[name, class], ...]}; without labels, the table is empty.

        `where`: the file's name, for messages. Raises `DataError`.
        """
        check_values(text, ",[{", where)
        try:
            pairs = [(str(name), "" if v is None else v) for name, v in json.loads(text).get("labels") or []]
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


def _csv_rows(text: str, where: str) -> list[list[str]]:
    """Parses the rows of a CSV; empty ones are left out. Raises `DataError`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    check_values(text, ",;\t\n", where)
    separator = _SEPARATOR.match(text)
    text = text[separator.end() :] if separator else text
    header = _QUOTED.sub("", text.partition("\n")[0])
    delimiter = separator[1] if separator else max(",;\t", key=header.count)
    try:
        lines = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        cells: dict[str, str] = {}  # equal texts are kept once
        rows = [[cells.setdefault(c, c) for c in map(str.strip, row)] for row in lines if any(map(str.strip, row))]
    except (csv.Error, TypeError) as error:
        raise DataError(f"{where} is no CSV ({error}); save it again as one") from None
    # the csv module ends an open quotation at the end of the file
    if rows and text.count('"') % 2 and (open_cell := next((cell for cell in rows[-1] if "\n" in cell), None)):
        raise DataError(f"{where}: the quotation mark before {open_cell[:40]!r} is not closed; mend the row")
    return rows


def _no_header(where: str, name: str) -> DataError:
    return DataError(
        f"{where} begins with a picture's row ({printable(name)[:80]}), not with a header; put one above, as file,label"
    )


def _as_numbers(name: str, texts: Sequence[str]) -> tuple[LabelColumn, NDArray[np.int32]]:
    """Returns a column of numbers and its entries. Raises `DataError` for a text that is none."""
    try:
        values = np.array([float(text or "nan") for text in texts])
    except ValueError as error:
        raise DataError(f"the label {name!r} holds no numbers ({error}); mend it, or leave --numbers out") from None
    column = LabelColumn.of_values(name, values)
    return column, column.entries(values)


def _as_classes(values: Sequence[str], order: Any, are_numbers: bool) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Returns the classes and class numbers of a column; no classes if its values are too many, or fractions."""
    distinct = {value for value in values if value != ""}
    named = [name for name in order if isinstance(name, (str, int))] if isinstance(order, list) else []
    if named and distinct <= set(map(str, named)) and len(set(map(str, named))) == len(order):
        return _numbered(tuple(map(str, named)), values)
    if all(map(_WHOLE_FLOAT.fullmatch, distinct)):
        values = [value.partition(".")[0].replace("-0", "0") if "." in value else value for value in values]
        distinct = set(values) - {""}
    if distinct and distinct <= {"1", "-1"}:
        return NO_YES, np.array([{"1": 1, "-1": 0}.get(v, -1) for v in values], np.int32)
    if len(distinct) > MAX_CLASSES or are_measures(distinct):
        return (), np.zeros(0, np.int32)
    return _numbered(order_classes(without_unknown(distinct), are_numbers), values)


def _numbered(classes: tuple[str, ...], values: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Returns the classes, and the class numbers of a column's values."""
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, np.array([numbers.get(value, -1) for value in values], np.int32)
