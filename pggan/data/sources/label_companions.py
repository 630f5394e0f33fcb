"""Lists of labels that lie beside the images: which one is read, and why the others are not.

A list is read at the top of the source, in the one folder that holds all images (as in most archives), one level below,
or one level above: beside the folder or the archive itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pggan.data.sources.base import Source
from pggan.data.sources.label_table import LabelTable
from pggan.data.sources.list_names import plain_name
from pggan.data.sources.list_text import ABOVE, CLASSES, DATASET, TABLE, decode_list
from pggan.utils.errors import DataError
from pggan.utils.formatting import printable
from pggan.utils.untrusted import reading

# Lists that a remark names at most.
_SHOWN = 4


@dataclass
class Companion:
    """The list that is read, and what is said of it and of the others."""

    table: LabelTable | None = None
    remarks: list[str] = field(default_factory=list)


def find_companion(source: Source, numbers: Sequence[str] = ()) -> Companion:
    """Returns the list of labels beside the images; `numbers` names its columns of numbers.

    Raises `DataError` for a TABLE that is damaged, and for a list at the images' place that names none of them.
    """
    found = Companion()
    lists = [name for name in source.lists() if os.path.basename(name) != CLASSES]
    if not lists:
        return found
    names = source.image_names()
    names = None if names is None else list(names)
    shared = _shared_folders(names or ())
    below = sorted({folder for folder in map(_folder, lists) if _is_below(folder, shared[-1])})
    for place in [*shared, *below, ABOVE]:
        for path in (f"{place}/{name}".removeprefix("/") for name in (TABLE, DATASET)):
            if path not in lists:
                continue
            lists.remove(path)
            if found.table is not None:
                found.remarks.append(f"{path} is not read: another list is")
            elif place in below and len(below) > 1:
                found.remarks.append(
                    f"{path} is not read: there are several; join them, and name the list with --labels"
                )
            else:
                _try(source, path, names, place not in shared, found, numbers)
    if lists:
        more = f" and {len(lists) - _SHOWN} more" if len(lists) > _SHOWN else ""
        found.remarks.append(
            f"lists that are not read: {', '.join(map(printable, lists[:_SHOWN]))}{more}; --labels FILE"
        )
    return found


def _try(
    source: Source, path: str, names: Sequence[str] | None, is_aside: bool, found: Companion, numbers: Sequence[str]
) -> None:
    """Reads a list into `found`, or adds a remark why it is not read. `is_aside`: not at the images' own place."""
    try:
        table = _read(source, path, numbers)
    except DataError as error:
        if os.path.basename(path) == TABLE and not is_aside:
            raise
        found.remarks.append(f"{path} is not read: {str(error).partition('; ')[0].removeprefix(f'{path}: ')}")
        return
    folder = f"{_folder(path)}/"
    within = folder if names and any(plain_name(name).startswith(folder) for name in names) else ""
    try:
        if table.columns:
            table.check_any_match(source, f"the {path} beside them", within)
    except DataError:
        if not is_aside:
            raise
        found.remarks.append(f"{path} is not read: it names none of the pictures")
        return
    if not table.columns and not table.left_out:
        return
    found.table = table
    if "/" in path:
        found.remarks.append(f"labels are read from {path}")


def _read(source: Source, path: str, numbers: Sequence[str]) -> LabelTable:
    data = source.read_companion(path)
    with reading(path, DataError, "mend or remove it, or give --labels none"):
        text = decode_list(data or b"", path)
        if os.path.basename(path) == TABLE:
            order = source.read_companion(f"{_folder(path)}/{CLASSES}".removeprefix("/"))
            return LabelTable.read_csv(text, path, order, numbers)
        return LabelTable.read_json(text, path)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _is_below(folder: str, top: str) -> bool:
    """Whether a folder lies directly in `top`."""
    return bool(folder) and folder != ABOVE and _folder(folder) == top


def _shared_folders(names: Iterable[str]) -> list[str]:
    """Returns the folders that hold all images, from the top ("") down."""
    folders = {tuple(filter(None, _folder(plain_name(name)).split("/"))) for name in names}
    if not folders:
        return [""]
    first, last = min(folders), max(folders)
    shared = [""]
    for one, other in zip(first, last):
        if one != other:
            break
        shared.append(f"{shared[-1]}/{one}".removeprefix("/"))
    return shared
