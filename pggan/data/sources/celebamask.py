"""CelebAMask-HQ as it is published: `CelebA-HQ-img/0.jpg` ..., masks beside them, a list of attributes; folder or zip.

Only the pictures are read, in natural order; the forty attributes become labels.
"""

from __future__ import annotations

import os

from pggan.data.sources.archives import ZipSource, zip_names
from pggan.data.sources.base import Source
from pggan.data.sources.folder import FolderSource
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.label_files import LabelledSource, LabelTable

PICTURES, ATTRIBUTES = "CelebA-HQ-img", "CelebAMask-HQ-attribute-anno.txt"


class CelebAMaskSource(LabelledSource):
    def __init__(self, spec: str) -> None:
        inner: Source
        if os.path.isdir(spec):
            root = _root(spec)
            inner, listed = FolderSource(os.path.join(root, PICTURES)), FolderSource.read_companion_in(root, ATTRIBUTES)
        else:
            prefix = _prefix(spec) or ""
            inner = ZipSource(spec, prefix + PICTURES + "/")
            listed = inner.read_companion(prefix + ATTRIBUTES)
        table = LabelTable.read_list(listed.decode("utf-8", "replace"), ATTRIBUTES) if listed else LabelTable()
        super().__init__(inner, table)

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isdir(spec):
            return os.path.isdir(os.path.join(_root(spec), PICTURES))
        return _prefix(spec) is not None


def _root(spec: str) -> str:
    inner = os.path.join(spec, "CelebAMask-HQ")
    return inner if os.path.isdir(os.path.join(inner, PICTURES)) else spec


def _prefix(spec: str) -> str | None:
    """What comes before the folder of pictures in the archive's names."""
    for name in zip_names(spec):
        before, found, _ = f"/{name}".partition(f"/{PICTURES}/")
        if found and is_image_name(name):
            return f"{before}/"[1:]
    return None
