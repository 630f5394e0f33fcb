"""The image column of a table, and the names of classes in Hugging Face's metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pggan.utils.errors import DataError

_IMAGE_NAMES = ("image", "img", "picture", "jpg", "png", "webp", "bytes")
# Names of columns of texts that are paths of pictures.
_PATH_NAMES = (*_IMAGE_NAMES, "image_path", "file_name", "filename", "path", "file")


@dataclass(frozen=True)
class ImageColumn:
    """A column of images.

    Attributes:
        name: Of the column.
        bytes_leaf: Dotted name of the column of their files' bytes, "" without one.
        path_leaf: Dotted name of the column of their paths, "" without one.
    """

    name: str
    bytes_leaf: str
    path_leaf: str

    @property
    def leaves(self) -> list[str]:
        return [leaf for leaf in (self.bytes_leaf, self.path_leaf) if leaf]

    def split(self, batch: Any) -> tuple[Any, Any]:
        """Returns the arrays of bytes and of paths of a record batch, None for what it lacks."""
        column = batch.column(self.name)
        if not hasattr(column.type, "num_fields") or column.type.num_fields == 0:
            return (column if self.bytes_leaf else None), (column if self.path_leaf else None)
        names = [column.type.field(i).name for i in range(column.type.num_fields)]
        fields = dict(zip(names, column.flatten()))  # with the nulls of the whole
        return fields.get("bytes") if self.bytes_leaf else None, fields.get("path") if self.path_leaf else None


def find_image_column(schema: Any, spec: str) -> ImageColumn:
    """Returns the column of images: of the usual names first, with structs of bytes first, then paths.

    Raises `DataError` without one.
    """
    found = [column for field in schema if schema.names.count(field.name) == 1 and (column := _as_images(field))]
    if not found:
        names = ", ".join(schema.names)[:200]
        raise DataError(f"{spec} has no column of images (bytes); its columns: {names}")
    # least: most like Hugging Face's own
    return min(
        found, key=lambda column: (not column.bytes_leaf, column.name.lower() not in _IMAGE_NAMES, _depth(column))
    )


def _depth(column: ImageColumn) -> bool:
    return column.bytes_leaf == column.name


def _as_images(field: Any) -> ImageColumn | None:
    import pyarrow.types as types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def is_text(kind: Any) -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind))

    name, kind = field.name, field.type
    if types.is_struct(kind):
        kinds = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        has_bytes = "bytes" in kinds and is_bytes(kinds["bytes"])
        has_path = "path" in kinds and is_text(kinds["path"])
        if has_bytes or (has_path and "bytes" not in kinds and name.lower() in _PATH_NAMES):
            return ImageColumn(name, f"{name}.bytes" if has_bytes else "", f"{name}.path" if has_path else "")
        return None
    if is_bytes(kind):
        return ImageColumn(name, name, "")
    return ImageColumn(name, "", name) if is_text(kind) and name.lower() in _PATH_NAMES else None


def class_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Returns the class names by column from Hugging Face's metadata."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            str(name): tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
