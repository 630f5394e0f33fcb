"""A folder of images, nested or not, in natural order of their paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from pggan.data.sources.base import BadImage, Reader, Ref, has_magic
from pggan.data.sources.file_base import FileReader, NamedFilesSource, walk_once
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.list_text import CLASSES, is_list_name, lists_above
from pggan.data.sources.passed_over import PassedOver

# Files without an ending that are looked into, for images among them.
_LOOKED_INTO = 100
_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n")


class FolderReader(FileReader):
    """A reference's payload: the file's path relative to the root."""

    def __init__(self, root: str) -> None:
        self.root = root

    def open(self, ref: Ref) -> BinaryIO:
        path = os.path.join(self.root, ref.payload)
        # looked at before it is opened: a pipe would wait for its writer, and a device may act
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
            raise BadImage("a pipe, a socket or a device, not a file")
        return open(path, "rb")


class FolderSource(NamedFilesSource):
    """Image files of a folder and its subfolders.

    Ignores hidden files and other endings, and folders of thumbnails and deleted files, which are counted. Follows
    links, but visits each folder once, so that loops end. A subfolder that cannot be listed counts as one bad image, so
    that the report names it.
    """

    def __init__(self, spec: str) -> None:
        contents = _FolderContents(spec)
        self._lists = sorted(contents.lists)
        super().__init__(spec, contents.names, contents.passed)

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isdir(spec)

    def lists(self) -> Sequence[str]:
        return self._lists + lists_above(self.path)

    def reader(self, resolution: int, seed: int) -> Reader:
        return FolderReader(os.path.abspath(self.path))


class _FolderContents:
    """The paths of the images and of the lists in a folder, relative to it, and what is passed over."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.names: list[str] = []
        self.lists: list[str] = []
        self.passed = PassedOver()
        self._looked_into = 0
        for folder, files in walk_once(root, self._add_unlisted, on_passed=self._add_passed):
            for name in files:
                self._add(os.path.relpath(os.path.join(folder, name), root))

    def _add(self, path: str) -> None:
        name = os.path.basename(path)
        if is_image_name(path):
            self.names.append(path)
        elif (is_list_name(name) or name == CLASSES) and os.path.isfile(os.path.join(self._root, path)):
            self.lists.append(path.replace(os.sep, "/"))
        elif "." not in name and self._looked_into < _LOOKED_INTO:
            self._looked_into += 1
            self.passed.endings["without an ending"] += _is_image_file(os.path.join(self._root, path))
        else:
            self.passed.add(path)

    def _add_unlisted(self, error: OSError) -> None:
        if os.path.realpath(error.filename) == os.path.realpath(self._root):
            raise error
        self.names.append(os.path.relpath(error.filename, self._root))

    def _add_passed(self, folder: str) -> None:
        for path in _files_below(folder, self._root):
            self.passed.add(path)


def _files_below(folder: str, root: str) -> Iterator[str]:
    """Yields the paths of all files in a folder, relative to `root`. Does not follow links."""
    for place, _, files in os.walk(folder):
        yield from (os.path.relpath(os.path.join(place, name), root) for name in files)


def _is_image_file(path: str) -> bool:
    try:
        return has_magic(path, *_MAGICS)
    except OSError:
        return False
