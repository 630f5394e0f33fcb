"""Hugging Face's `save_to_disk` folders: Arrow streams, as `data-00000-of-00001.arrow`, in the folder or in `train`."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from pggan.data.sources.base import has_magic
from pggan.data.sources.file_base import explain_damage, is_folder_of
from pggan.data.sources.parquet import pyarrow
from pggan.data.sources.table_base import TableSource
from pggan.utils.errors import DataError
from pggan.utils.formatting import natural_key
from pggan.utils.limits import MAX_FILE_BYTES

_STREAM, _FILE = b"\xff\xff\xff\xff", b"ARROW1\0\0"
# Bytes of the description of a record batch.
_MAX_METADATA_BYTES = 16 << 20
# Kinds of messages.
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3


class _Message(NamedTuple):
    """A message of an Arrow stream, without its body."""

    kind: int
    head: bytes  # as it begins in the file
    body_bytes: int
    rows: int
    compressed: bool


class ArrowSource(TableSource):
    """Arrow streams, or files, with an image column and label columns."""

    @staticmethod
    def sniff(spec: str) -> bool:
        is_file = spec.lower().endswith((".arrow", ".feather")) and has_magic(spec, _STREAM, _FILE)
        return is_file or is_folder_of(spec, lambda folder: _shards(folder)[0])

    @staticmethod
    def list_shards(folder: Path) -> tuple[list[Path], str]:
        return _shards(folder)

    def describe(self, path: Path) -> tuple[int, Any]:
        pyarrow("reading Arrow")
        with explain_damage(f"{path} is not a whole Arrow stream"), open(path, "rb") as file:
            schema, rows = _read_schema(file), 0
            while (message := _next_message(file, path)) is not None:
                file.seek(message.body_bytes, os.SEEK_CUR)
                rows += message.rows
            return rows, schema

    def batches(self, path: Path, columns: Sequence[str], rows: int) -> Iterator[Any]:
        import pyarrow as pa

        with explain_damage(f"{path} is not a whole Arrow stream"), open(path, "rb") as file:
            schema = _read_schema(file)
            while (message := _next_message(file, path)) is not None:
                data = pa.py_buffer(message.head + file.read(message.body_bytes))
                batch = pa.ipc.read_record_batch(data, schema)
                batch = batch.select(dict.fromkeys(name.partition(".")[0] if name not in schema.names else name
                                                   for name in columns))  # fmt: skip
                batch.validate(full=True)  # offsets from outside are used without another look
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)


def _shards(folder: Path) -> tuple[list[Path], str]:
    """Returns the Arrow files of a folder, or of its `train` folder; and what is passed over."""
    for place in (folder, folder / "train"):
        names = os.listdir(place) if place.is_dir() else []
        shards = [n for n in names if n.endswith(".arrow") and not n.startswith((".", "cache-", "tmp"))]
        if "state.json" in names and any(name.startswith("indices") for name in shards):
            raise DataError(f"{place} holds a selection of rows; save it again after flatten_indices()")
        if shards and all(has_magic(place / name, _STREAM, _FILE) for name in shards):
            others = sorted(n for n in os.listdir(folder) if place != folder and (folder / n / "state.json").is_file())
            others = [name for name in others if name != "train"]
            passed_over = f"read train; passed over {', '.join(others)[:200]}" if others else ""
            return [place / name for name in sorted(shards, key=natural_key)], passed_over
    return [], ""


def _read_schema(file: IO[bytes]) -> Any:
    """Reads the first message. Raises `ValueError` if it is no schema."""
    import pyarrow as pa

    if file.read(len(_FILE)) != _FILE:
        file.seek(0)
    message = _read_message(file)
    if message is None or message.kind != _SCHEMA:
        raise ValueError("it does not begin with a schema")
    return pa.ipc.read_schema(pa.py_buffer(message.head))


def _next_message(file: IO[bytes], path: Path) -> _Message | None:
    """Reads the description of the next record batch, None at the end. Raises `DataError` for one above the limits."""
    message = _read_message(file)
    if message is None:
        return None
    if message.kind != _BATCH or message.compressed:
        raise DataError(f"{path} is compressed, or has dictionaries; save it with to_parquet")
    if not 0 <= message.body_bytes <= os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("it is cut short")
    if message.body_bytes > MAX_FILE_BYTES:
        limit = f"{message.body_bytes >> 20} MiB of rows at once; the limit is {MAX_FILE_BYTES >> 20}"
        raise DataError(f"{path} holds {limit}; save it with to_parquet")
    return message


def _read_message(file: IO[bytes]) -> _Message | None:
    """Reads a message's description (a flatbuffer, `Message` of Arrow's format), None at the end of the stream."""
    head = file.read(8)
    length = int.from_bytes(head[4:], "little")
    if len(head) < 8 or head[:4] != _STREAM or not length:
        return None
    if length > _MAX_METADATA_BYTES:
        raise ValueError("a description that is absurdly long")
    data = file.read(length)
    table = _u32(data, 0)
    kind = data[field] if (field := _field(data, table, 1)) else 0
    body = struct.unpack_from("<q", data, field)[0] if (field := _field(data, table, 3)) else 0
    rows, compressed = 0, False
    if kind == _BATCH and (field := _field(data, table, 2)):
        batch = field + _u32(data, field)
        compressed = _field(data, batch, 3) is not None
        rows = struct.unpack_from("<q", data, field)[0] if (field := _field(data, batch, 0)) else 0
    return _Message(kind, head + data, body, max(0, rows), compressed)


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes, table: int, number: int) -> int | None:
    """Returns where a field of a flatbuffer's table lies, None if it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size, at = struct.unpack_from("<H", data, vtable)[0], 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + at)[0] if at < size else 0
    return table + offset if offset else None
