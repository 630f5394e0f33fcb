"""Labels from outside the images: CSV tables, CelebA's attribute lists, `dataset.json`, folder names.

A table holds a class number per image and column; `NameIndex` says which row is an image's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from pggan.data.sources.array_choice import join_remarks, no_classes_remark, shared_remark
from pggan.data.sources.base import DecodedImage, Reader, Ref, Source, WrappedSource
from pggan.data.sources.label_companions import find_companion
from pggan.data.sources.label_table import LabelTable
from pggan.data.sources.list_names import normalise_name
from pggan.utils.errors import DataError
from pggan.utils.untrusted import reading

FOLDERS, NO_LABELS = "folders", "none"
UNLABELLED = "without a label"


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
        self.scalable = inner.scalable
        self.remark = join_remarks(inner.remark, no_classes_remark(table.left_out), shared_remark(table.names.shared()))

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


def with_labels(source: Source, labels: str | None, numbers: tuple[str, ...] = ()) -> Source:
    """Returns a source with the labels of --labels ("folders", "none", a file, or None) and of --numbers.

    None: a label file beside the images if there is one, else the source's own labels. Raises `DataError` if no image
    has a label, or a column of `numbers` is not there or holds none.
    """
    labelled = _with_labels(source, labels, numbers)
    known = {column.name for column in labelled.label_columns if column.is_number}
    missing = tuple(name for name in numbers if name not in known)
    return labelled.with_numbers(missing) if missing else labelled


def _with_labels(source: Source, labels: str | None, numbers: tuple[str, ...]) -> Source:
    """Returns a source with the labels of --labels, see `with_labels`."""
    if labels == NO_LABELS:
        return LabelledSource(source, LabelTable())
    if labels is None:
        found = find_companion(source, numbers)
        source.remark = join_remarks(source.remark, *found.remarks)
        if found.table is not None and found.table.columns:
            return LabelledSource(source, found.table)
        left_out = found.table.left_out if found.table is not None else ()
        source.remark = join_remarks(source.remark, no_classes_remark(left_out))
        return source
    with reading(f"--labels {labels}", DataError, "mend it, or give another"):
        table = _folder_table(source) if labels == FOLDERS else LabelTable.read(Path(labels), numbers)
    if not table.columns:
        raise DataError(f"--labels {labels} names no classes that the pictures could have")
    if labels != FOLDERS:
        table.check_any_match(source, f"--labels {labels}")
    return LabelledSource(source, table)


def _folder_table(source: Source) -> LabelTable:
    """Labels each image with the first folder of its path, not counting folders that all share (as in archives)."""
    names = [normalise_name(name) for name in source.image_names() or (ref.name for ref in source.refs())]
    paths = [name.split("/")[:-1] for name in names]
    if not any(paths):
        raise DataError("--labels folders: the pictures lie in no folders; give a CSV of file names and labels")
    first, last = min(paths), max(paths)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last)))
    if shared == len(last):  # all in one folder, which is then their class
        shared = 0
    folders = [path[shared] if len(path) > shared else "" for path in paths]
    return LabelTable(["class"], list(zip(names, folders)))
