"""Opens safetensors files, also on file systems without memory maps, where the library alone cannot."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor


class _ReadWhole:
    """A file's content in memory, used as what `safetensors.safe_open` returns."""

    def __init__(self, data: bytes) -> None:
        self._tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        self._metadata = json.loads(data[8 : 8 + length]).get("__metadata__")

    def metadata(self) -> dict[str, str] | None:
        return self._metadata  # type: ignore[no-any-return]

    def keys(self) -> list[str]:
        return list(self._tensors)

    def get_tensor(self, name: str) -> Tensor:
        return self._tensors[name]


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Opens a safetensors file for PyTorch. Raises what `safetensors.safe_open` raises."""
    try:
        file = safetensors.safe_open(str(path), framework="pt")
    except Exception as error:
        if f"os error {errno.ENODEV}" not in str(error) and getattr(error, "errno", None) != errno.ENODEV:
            raise
        yield _ReadWhole(path.read_bytes())
        return
    with file:
        yield file
