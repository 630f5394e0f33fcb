"""CelebAMask-HQ as published: `CelebA-HQ-img/0.jpg` ..., masks beside them, a list of attributes; folder or zip.

Only the images are read, in natural order; the forty attributes become labels.
"""

from __future__ import annotations

import os

from pggan.data.sources.base import Source
from pggan.data.sources.file_base import read_if_present
from pggan.data.sources.folder import FolderSource
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.label_files import LabelledSource
from pggan.data.sources.label_table import LabelTable
from pggan.data.sources.list_text import decode_list
from pggan.data.sources.zip_archive import ZipSource, zip_names

IMAGES, ATTRIBUTES = "CelebA-HQ-img", "CelebAMask-HQ-attribute-anno.txt"


class CelebAMaskSource(LabelledSource):
    """CelebAMask-HQ, a folder or a zip: the images and their forty attributes, without the masks."""

    def __init__(self, spec: str) -> None:
        inner: Source
        if os.path.isdir(spec):
            root = _root(spec)
            inner = FolderSource(os.path.join(root, IMAGES))
            attributes = read_if_present(os.path.join(root, ATTRIBUTES))
        else:
            prefix = _prefix(spec) or ""
            inner = ZipSource(spec, prefix + IMAGES + "/")
            attributes = inner.read_companion(prefix + ATTRIBUTES)
        text = decode_list(attributes or b"", ATTRIBUTES)
        table = LabelTable.read_list(text, ATTRIBUTES) if text else LabelTable()
        super().__init__(inner, table)

    @staticmethod
    def sniff(spec: str) -> bool:
        if os.path.isdir(spec):
            return os.path.isdir(os.path.join(_root(spec), IMAGES))
        return _prefix(spec) is not None


def _root(spec: str) -> str:
    inner = os.path.join(spec, "CelebAMask-HQ")
    return inner if os.path.isdir(os.path.join(inner, IMAGES)) else spec


def _prefix(spec: str) -> str | None:
    """Returns what precedes the image folder in an archive's names, None if it is another archive."""
    for name in zip_names(spec):
        before, separator, _ = f"/{name}".partition(f"/{IMAGES}/")
        if separator and is_image_name(name):
            return f"{before}/"[1:]
    return None
