"""A folder of images, nested or not, in natural order of their paths."""

from __future__ import annotations

import os
from typing import BinaryIO

from pggan.data.sources.base import Reader, Ref
from pggan.data.sources.file_base import FileReader, NamedFilesSource, walk_once
from pggan.data.sources.image_io import is_image_name


class FolderReader(FileReader):
    """A reference's payload: the file's path relative to the root."""

    def __init__(self, root: str) -> None:
        self.root = root

    def open(self, ref: Ref) -> BinaryIO:
        return open(os.path.join(self.root, ref.payload), "rb")


class FolderSource(NamedFilesSource):
    """Image files of a folder and its subfolders.

    Ignores hidden files and other endings. Follows links, but visits each folder once, so that loops end. A subfolder
    that cannot be listed counts as one bad image, so that the report names it.
    """

    def __init__(self, spec: str) -> None:
        super().__init__(spec, _image_names(spec))

    @staticmethod
    def sniff(spec: str) -> bool:
        return os.path.isdir(spec)

    def reader(self, resolution: int, seed: int) -> Reader:
        return FolderReader(os.path.abspath(self.path))


def _image_names(root: str) -> list[str]:
    names: list[str] = []

    def add_unlisted(error: OSError) -> None:
        if os.path.realpath(error.filename) == os.path.realpath(root):
            raise error
        names.append(os.path.relpath(error.filename, root))

    for folder, files in walk_once(root, add_unlisted):
        paths = (os.path.relpath(os.path.join(folder, name), root) for name in files)
        names += [path for path in paths if is_image_name(path)]
    return names
