"""Bounds what a torch file may ask for, before `torch.load` reads it and after.

The pickles in the file are walked through first, by our own unpickler with inert stand-ins for torch's names: nothing
is hashed, copied or allocated beyond the size of the file. torch itself then decides which names it admits.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pggan.interop.pickles import RestrictedUnpickler, check_size

# How the names begin that torch's own files ask for, and pytorch_GAN_zoo's.
_NAMES = ("torch.", "torch", "collections.", "collections", "models.utils.config", "_codecs", "builtins", "__builtin__")
# Pickles at the beginning of a file of before version 1.6: magic, protocol, system, content, keys of the storages.
_LEGACY_PICKLES = 5


class _Inert(dict[Any, Any]):
    """Stands for whatever a torch file makes: it takes items and a state, and holds its arguments."""

    held: list[Any]

    def __new__(cls, *arguments: Any) -> _Inert:
        made = super().__new__(cls)
        made.held = list(arguments)
        return made

    def __init__(self, *arguments: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.held.append(state)

    def values(self) -> Any:
        return [*super().values(), *self.held]


class _TorchWalker(RestrictedUnpickler):
    STATEFUL = (_Inert,)

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if any(module == known or (known.endswith(".") and module.startswith(known)) for known in _NAMES):
            return _Inert
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        return _Inert(pid)


def check_torch_file(path: Path) -> None:
    """Raises `ValueError`, `UnpicklingError` or `ModelError` for a file that expands, or whose pickles never end."""
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _walk(file, size)
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # torch stores members as they are
        if sum(member.file_size for member in members) > size or any(member.compress_type for member in members):
            raise ValueError("its members expand to more than the file holds")
        for member in members:
            if member.filename.endswith("data.pkl"):
                with archive.open(member) as pickled:
                    _walk(pickled, size)  # type: ignore[arg-type]


def _walk(file: BinaryIO, size: int) -> None:
    check_size(_TorchWalker(file, size).load(), size)


def check_tensors(content: Any, size: int) -> None:
    """Checks what torch read of a file of `size` bytes.

    Raises `ValueError` for a tensor that is not plain, or that claims more values than the file holds of it, and
    `ModelError` where all tensors together are far larger than the file.
    """
    pending, seen = [content], {id(content)}
    while pending:
        value = pending.pop()
        if isinstance(value, Tensor):
            plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
            if not plain or value.is_complex() or value.numel() * value.itemsize > value.untyped_storage().nbytes():
                raise ValueError("a tensor holds other than plain numbers, or fewer than it claims")
            continue
        inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
        new = [item for item in inner if id(item) not in seen]
        seen.update(map(id, new))
        pending.extend(new)
    check_size(content, size)
