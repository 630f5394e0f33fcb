"""Statistics of real pictures, kept beside them: DATA.metrics/, or the user's cache where that cannot be written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pggan.metrics.base import State
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.paths import cache_folder

FORMAT = 1
# Larger statistics (SWD of 16,384 pictures above 128x128) are made again: reading them would take as long.
MOST_BYTES = 4 << 30


class Cache:
    """States by name and by what they depend on (JSON values); other ones of that name are stale, and replaced.

    `folder` None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def beside(cls, place: Path | None) -> Cache:
        """Where the statistics of the pictures at `place` are kept; nowhere for pictures that lie nowhere."""
        if place is None:
            return cls(None)
        real = Path(os.path.realpath(place))
        sibling = real.with_name(f"{real.name}.metrics")
        if os.access(sibling if sibling.exists() else real.parent, os.W_OK):
            return cls(sibling)
        return cls(cache_folder() / "metrics" / hashlib.blake2b(str(real).encode(), digest_size=8).hexdigest())

    def load(self, name: str, about: Mapping[str, Any]) -> State | None:
        """None where it is not there, damaged, or of other pictures or options."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            if metadata.get("about") != _text(about):
                return None
            state = load_file(path)
            return state if metadata.get("digest") == _digest(state) else None
        except (OSError, safetensors.SafetensorError, ValueError, KeyError):
            return None

    def save(self, name: str, about: Mapping[str, Any], state: State) -> None:
        """Keeps a state; a full or read-only disk is no reason to fail."""
        if self.folder is None or sum(each.nbytes for each in state.values()) > MOST_BYTES:
            return
        metadata = {"about": _text(about), "digest": _digest(state)}
        kept = {key: value.contiguous() for key, value in state.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_atomically(self._path(name), lambda temporary: save_file(kept, temporary, metadata))
        except (OSError, safetensors.SafetensorError):
            return

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"


def _text(about: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, **about}, sort_keys=True)


def _digest(state: Mapping[str, Tensor]) -> str:
    running = hashlib.blake2b(digest_size=16)
    for key in sorted(state):
        values = state[key].contiguous()
        running.update(f"{key} {values.dtype} {tuple(values.shape)}".encode())
        running.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return running.hexdigest()
