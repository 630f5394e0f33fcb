"""Pages of a TIFF: those of the first one's size are images; reduced ones, masks and pages of other sizes are counted.

Only the directories are read; Pillow would read all that they refer to. To decode a page, a file is shown to Pillow
whose header names the page's directory as the first one.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from pggan.utils.limits import MAX_TIFF_PAGES

TIFF_ENDINGS = (".tif", ".tiff")
_ORDERS = {b"II": "<", b"MM": ">"}
_CLASSIC, _BIG = 42, 43
# Most entries of a directory; writers need some thirty.
_MAX_ENTRIES = 4096
_SUBFILE, _WIDTH, _HEIGHT, _ORIENTATION = 254, 256, 257, 274
_FORMATS = {3: "H", 4: "I", 16: "Q"}  # SHORT, LONG, LONG8
_REDUCED, _MASK = 1, 4  # bits of _SUBFILE


class TiffPage(NamedTuple):
    """A page of a file: the payload of its reference."""

    file: Any  # the file's own payload
    offset: int  # of the page's directory, in bytes
    width: int  # as shown
    height: int


class TiffPages(NamedTuple):
    """The pages of a file that are images, by number from 1."""

    offsets: dict[int, int]
    width: int  # as the first is shown
    height: int


class PageCounts(Counter[str]):
    """Counts pages that are passed over, by reason, for one line to people."""

    def remark(self) -> str | None:
        """Returns what was passed over, None for nothing."""
        return f"passed over of TIFFs: {', '.join(f'{n} {why}' for why, n in self.items())}" if self else None


def find_pages(file: BinaryIO, counts: PageCounts) -> TiffPages | None:
    """Finds the pages of a TIFF, and counts those that are passed over.

    Returns None where the file has a single one, or none that can be used: it is then an image like others.
    """
    pages: dict[int, int] = {}
    first: dict[int, int] = {}
    passed = PageCounts()
    number = 0
    try:
        for number, (offset, tags) in enumerate(_directories(file), 1):
            kind = tags.get(_SUBFILE, 0)
            if number > MAX_TIFF_PAGES:
                passed[f"files with more than {MAX_TIFF_PAGES} pages"] += 1
                break
            if kind & (_REDUCED | _MASK):
                passed["masks" if kind & _MASK else "reduced pages"] += 1
            elif not pages or all(tags.get(tag) == first.get(tag) for tag in (_WIDTH, _HEIGHT)):
                first = first or tags
                pages[number] = offset
            else:
                passed["pages of another size than the first"] += 1
    except (ValueError, OverflowError, struct.error):
        if number:  # else the image is bad, and reported as such
            passed["files that are damaged after some pages"] += 1
    if not pages:
        return None
    counts.update(passed)
    if number == 1:
        return None
    width, height = first.get(_WIDTH, 0), first.get(_HEIGHT, 0)
    return TiffPages(pages, *((height, width) if first.get(_ORIENTATION, 1) in (5, 6, 7, 8) else (width, height)))


def _directories(file: BinaryIO) -> Iterator[tuple[int, dict[int, int]]]:
    """Yields offset and tags of each directory. Raises `ValueError` or `struct.error` where the file is damaged."""
    order, big = _layout(file.read(8))
    count_format, entry_size, offset_format = (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
    visited: set[int] = set()
    (offset,) = _unpack(file, offset_format, 8 if big else 4)
    while offset and offset not in visited:
        visited.add(offset)
        (count,) = _unpack(file, count_format, offset)
        if not 0 < count <= _MAX_ENTRIES:
            raise ValueError("an absurd directory")
        entries = file.read(count * entry_size)
        following = file.read(struct.calcsize(offset_format))
        if len(entries) < count * entry_size:
            raise ValueError("a directory that is cut short")
        yield offset, _tags(entries, order, entry_size)
        (offset,) = struct.unpack(offset_format, following)


def _layout(head: bytes) -> tuple[str, bool]:
    """Returns a TIFF's byte order, for `struct`, and whether it is a BigTIFF. Raises `ValueError` for other files."""
    order = _ORDERS.get(head[:2], "")
    version = int.from_bytes(head[2:4], "little" if order == "<" else "big")
    if not order or version not in (_CLASSIC, _BIG):
        raise ValueError("no TIFF")
    return order, version == _BIG


def _unpack(file: BinaryIO, form: str, offset: int) -> tuple[int, ...]:
    file.seek(offset)
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _tags(entries: bytes, order: str, size: int) -> dict[int, int]:
    """Returns the single whole numbers of a directory, by tag."""
    tags = {}
    for at in range(0, len(entries), size):
        tag, kind = struct.unpack_from(order + "HH", entries, at)
        if kind in _FORMATS:
            (tags[tag],) = struct.unpack_from(order + _FORMATS[kind], entries, at + (12 if size == 20 else 8))
    return tags


class PageFile:
    """A TIFF, open for reading, whose header names a page as the first one; all else is the file's own.

    What decodes compressed pages reads the file itself, and is told where the page is.
    """

    def __init__(self, file: BinaryIO, page: TiffPage) -> None:
        self._file = file
        file.seek(0)
        head = file.read(16)
        order, big = _layout(head)
        self._head = (
            head[:8] + struct.pack(order + "Q", page.offset)
            if big
            else head[:4] + struct.pack(order + "I", page.offset)
        )

    def read(self, size: int = -1) -> bytes:
        at = self._file.tell()
        data = self._file.read(size)
        head = self._head[at : at + len(data)]
        return head + data[len(head) :] if head else data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
