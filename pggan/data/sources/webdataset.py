"""webdataset shards: several tars as one source, `data-{00..09}.tar` or a folder of them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pggan.data.sources.file_base import is_folder_of, read_if_present
from pggan.data.sources.list_text import DATASET, TABLE
from pggan.data.sources.tar_archive import TAR_ENDINGS, TarSource
from pggan.utils.errors import DataError
from pggan.utils.formatting import natural_key

_BRACES = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MAX_SHARDS = 1_000_000


class WebDatasetSource(TarSource):
    """Shards in order, each read as a tar of its own."""

    @staticmethod
    def files(spec: str) -> list[str]:
        if not os.path.isdir(spec):
            return _expand_braces(spec)
        return [os.path.join(spec, name) for name in _shards(spec)]

    def lists(self) -> Sequence[str]:
        """Adds the lists that lie beside the shards in their folder, as `../labels.csv` for a pattern of names."""
        if not os.path.isdir(self.path):
            return super().lists()
        beside = [name for name in (TABLE, DATASET) if os.path.isfile(os.path.join(self.path, name))]
        return list(dict.fromkeys([*beside, *super().lists()]))

    def read_companion(self, name: str) -> bytes | None:
        data = read_if_present(os.path.join(self.path, name)) if os.path.isdir(self.path) else None
        return super().read_companion(name) if data is None else data

    @staticmethod
    def sniff(spec: str) -> bool:
        if _BRACES.search(spec):
            return spec.lower().endswith(TAR_ENDINGS)
        return is_folder_of(spec, _shards)


def _shards(folder: str | Path) -> list[str]:
    names = [name for name in os.listdir(folder) if name.lower().endswith(TAR_ENDINGS) and not name.startswith(".")]
    return sorted(names, key=lambda name: (natural_key(name), name))


def _expand_braces(spec: str) -> list[str]:
    """Expands `a-{08..10}.tar` to a-08.tar, a-09.tar, a-10.tar. Raises `DataError` if one is missing."""
    match = _BRACES.search(spec)
    if match is None:
        if not os.path.isfile(spec):
            raise DataError(f"{spec} does not exist; check the numbers in braces")
        return [spec]
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < _MAX_SHARDS:
        raise DataError(f"{spec}: {match[0]} is no range of shards")
    numbers = (str(number).zfill(len(match[1])) for number in range(first, last + 1))
    before, after = spec[: match.start()], spec[match.end() :]
    return [path for number in numbers for path in _expand_braces(before + number + after)]
