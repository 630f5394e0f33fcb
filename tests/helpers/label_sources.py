"""Folders and archives of pictures with lists, and the labels that they get."""

from __future__ import annotations

import tarfile
import zipfile

from pggan.data.sources import open_source
from pggan.data.sources.label_files import with_labels


def packed(folder, path):
    """The folder as it is, as a zip or as a tar, by the ending."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for each in sorted(folder.rglob("*")):
                file.write(each, each.relative_to(folder).as_posix())
    elif path.suffix in (".tar", ".tgz"):
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as file:
            file.add(folder, ".")
    else:
        return folder
    return path


def rows(source, labels=None):
    """A source's columns, and its labels as names by picture."""
    opened = with_labels(open_source(str(source)), None if labels is None else str(labels))
    reader = opened.reader(32, 0)
    columns = opened.label_columns
    labels = {}
    for ref in opened.refs():
        picture = reader.read(ref, 3)
        names = tuple(c.classes[n] if n >= 0 else None for c, n in zip(columns, picture.labels))
        labels[ref.name.removeprefix("./")] = names if len(names) != 1 else names[0]
    assert len(list(opened.sample(2, len(opened)))) <= 2
    return {c.name: c.classes for c in columns}, labels


def listed(tmp_path, text, name="my.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
