"""Which row of a list is an image's: names are normalised, folders are compared, and nothing is guessed."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

# What follows a file's name in that of one of its pages or pictures.
_PART = re.compile(r"(\.\w+)(?:(?<=\.tif)#\d+|(?<=\.tiff)#\d+|@\d+-\d\d-\d\d\.\d\d)$", re.IGNORECASE)


def normalise_name(name: str) -> str:
    """Returns a path with `/` between its parts, without `.` parts and a leading `/`, its ending in lower case, in NFC.

    Lists, archives and file systems write one name in several ways: with backslashes, `IMG.JPG` and `IMG.jpg`, an é of
    one character (NFC) or of two (NFD, macOS).
    """
    parts = [part for part in unicodedata.normalize("NFC", name).replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts:
        return ""
    stem, dot, ending = parts[-1].rpartition(".")
    parts[-1] = f"{stem}.{ending.lower()}" if dot else parts[-1]
    return "/".join(parts)


def plain_name(name: str) -> str:
    """Returns a path as its source has it, with `/` between its parts and without a leading `./`."""
    return name.replace("\\", "/").removeprefix("./")


def without_ending(name: str) -> str:
    """Returns a normalised name without its ending; numbers behind a dot are no ending."""
    folder, slash, base = name.rpartition("/")
    stem, dot, ending = base.rpartition(".")
    return folder + slash + (stem if dot and stem and not ending.isdecimal() else base)


def base_name(name: str) -> str:
    """Returns the last part of a normalised name."""
    return name.rpartition("/")[2]


def file_of(name: str) -> str:
    """Returns the path of the file that an image is a part of.

    `scan.tif` of its page `scan.tif#2`, and `film.mp4` of its picture `film.mp4@00-01-05.20`.
    """
    return _PART.sub(r"\1", name)


class NameIndex:
    """Finds the rows of a list by the paths of images. A later row of the same name replaces an earlier one.

    A row with folders is that of images whose path ends in it. A row without is that of the image of this name, if the
    source has one such image alone. Endings may differ or be missing, where no other row fits as well. A file's row is
    that of all its pages, unless they have their own, as `scan.tif#2`.

    Args:
        rows: The names in the list, in the order of its rows.
    """

    def __init__(self, rows: Sequence[str]) -> None:
        rows = [normalise_name(row) for row in rows]
        self._last = {row: number for number, row in enumerate(rows)}
        # numbers of a row that is replaced, and of the one that replaces it
        self.replaced = [(n, last) for n, row in enumerate(rows) if (last := self._last[row]) != n]
        self._names: dict[str, list[str]] = {}  # rows by the name without folders and ending
        for row in self._last:
            self._names.setdefault(base_name(without_ending(row)), []).append(row)
        self._root, self._within = "", ""
        self._bases: Counter[str] | None = None  # images by the name without folders; None: not counted
        self._stems: Counter[str] = Counter()  # the same without the ending
        self._repeated: set[str] = set()  # paths that several images have, as in several archives

    def compare_with(self, names: Iterable[str] | None, root: str = "", within: str = "") -> None:
        """Notes which images there are, so that names of several are not mistaken for each other.

        Args:
            names: The paths of all images; None: unknown, no name is taken to occur twice.
            root: The path of the source itself, which precedes them.
            within: The folder, with a `/` behind it, that holds all images of the list.
        """
        self._within = within
        self._root = without_ending(normalise_name(os.path.abspath(root))) if root else ""
        if names is not None:
            names = list(names)
            self._repeated = {normalise_name(name) for name, count in Counter(names).items() if count > 1}
            whole = [name for name in names if file_of(name) == name]
            files = whole + list(set(map(file_of, names)).difference(whole))
            self._bases = Counter(
                base_name(normalise_name(name)) for name in files if plain_name(name).startswith(within)
            )
            for base, count in self._bases.items():
                self._stems[without_ending(base)] += count

    def find(self, name: str) -> int | None:
        """Returns the number of an image's row, None if the list has none, or several that fit equally well."""
        if not plain_name(name).startswith(self._within):
            return None
        if (file := file_of(name)) != name and (own_row := self._last.get(normalise_name(name))) is not None:
            return own_row
        own = normalise_name(file)
        full = f"/{self._root}/{own}"
        fitting: dict[tuple[bool, int], list[str]] = {}
        for row in self._names.get(base_name(without_ending(own)), ()):
            exact = full.endswith("/" + row)
            if (exact or without_ending(full).endswith("/" + without_ending(row))) and self._is_one(row, own, exact):
                fitting.setdefault((exact, row.count("/")), []).append(row)
        best = fitting[max(fitting)] if fitting else []
        return self._last[best[0]] if len(best) == 1 else None

    def _is_one(self, row: str, own: str, exact: bool) -> bool:
        """Whether a row that fits means this image, not another one of the same name."""
        if own in self._repeated:
            return False
        if "/" in row or row == own or self._bases is None:
            return True
        return (self._bases[base_name(own)] if exact else self._stems[base_name(without_ending(own))]) == 1

    def has_image(self, name: str) -> bool:
        """Whether the source has an image of this name, with or without its ending."""
        base = base_name(normalise_name(name))
        return bool(self._bases and (self._bases[base] or self._stems[base]))

    def shared(self) -> list[str]:
        """Returns the rows whose names several images have, and which are therefore nobody's."""
        bases: Counter[str] = self._bases or Counter()
        return [row for row in self._last if ("/" not in row and bases.get(row, 0) > 1) or row in self._repeated]


def match_names(rows: Collection[str], names: Iterable[str], root: str) -> dict[str, str]:
    """Returns the row of each image that has one: of its very name, else the one that `NameIndex` finds.

    Unlike a label, a row of landmarks is never that of the other pages of a file.

    Args:
        rows: The names in the list, each once.
        names: The paths of all images.
        root: The path of the source.
    """
    names, known, in_order = list(names), set(rows), list(rows)
    index = NameIndex(in_order)
    index.compare_with(names, root)
    found: dict[str, str] = {}
    for name in names:
        if name in known:
            found[name] = name
        elif file_of(name) == name and (number := index.find(name)) is not None:
            found[name] = in_order[number]
    return found
