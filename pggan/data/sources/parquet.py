"""Hugging Face's Parquet shards: a file, or a folder of them, as `train-00000-of-00001.parquet`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pggan.data.sources.base import has_magic
from pggan.data.sources.file_base import explain_damage, is_folder_of
from pggan.data.sources.parquet_pages import MAGIC, largest_page, read_footer
from pggan.data.sources.table_base import TableSource
from pggan.utils.errors import UsageError
from pggan.utils.formatting import natural_key
from pggan.utils.limits import MAX_CARRIED_BYTES

_BUFFER = 1 << 20  # bytes of the read buffer
# Where Hugging Face puts the shards of a data set.
PLACES = (".", "data", "train", "data/train", "default", "default/train")


def pyarrow(purpose: str = "reading Parquet") -> Any:
    """Imports `pyarrow.parquet`. Raises `UsageError` if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{purpose} needs one more package: pip install 'pggan[parquet]'") from None
    return pyarrow.parquet


class ParquetSource(TableSource):
    """Parquet shards with an image column and label columns."""

    @staticmethod
    def sniff(spec: str) -> bool:
        return has_magic(spec, MAGIC) or is_folder_of(spec, lambda folder: _shards(folder)[0])

    @staticmethod
    def list_shards(folder: Path) -> tuple[list[Path], str]:
        return _shards(folder)

    def describe(self, path: Path) -> tuple[int, Any]:
        with _opened(path) as file:
            return file.metadata.num_rows, file.schema_arrow

    def batches(self, path: Path, columns: Sequence[str], rows: int) -> Iterator[Any]:
        with _opened(path) as file, open(path, "rb") as raw:
            for number, chunks in enumerate(read_footer(raw)):
                # a row's values may be as large as the pages that they lie in
                largest = sum(
                    largest_page(raw, chunk, f"{path}: {chunk.name[:80]}")
                    for chunk in chunks
                    if any(chunk.name == column or chunk.name.startswith(f"{column}.") for column in columns)
                )
                at_once = max(1, min(rows, MAX_CARRIED_BYTES // max(largest, 1)))
                for batch in file.iter_batches(at_once, [number], list(columns), use_threads=False):
                    batch.validate(full=True)  # texts in UTF-8, and offsets in their arrays
                    yield batch


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    open_file = pyarrow().ParquetFile
    with explain_damage(f"{path} is not a whole Parquet file"):
        with open(path, "rb") as raw:
            read_footer(raw)
        with open_file(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file


def _shards(folder: Path) -> tuple[list[Path], str]:
    """Returns the Parquet files of a folder, only those of the train split if there is one; and what is passed over."""
    for place in (folder / name for name in PLACES):
        names = os.listdir(place) if place.is_dir() else []
        shards = sorted((n for n in names if n.endswith(".parquet") and not n.startswith(".")), key=natural_key)
        if shards:
            chosen = [name for name in shards if name.startswith("train")] or shards
            others = len(shards) - len(chosen)
            passed_over = f"read the train split; passed over {others} other files" if others else ""
            return [place / name for name in chosen], passed_over
    return [], ""
