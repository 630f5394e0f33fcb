"""Cache of the states of real images: DATA.metrics/ beside the data, or the user's cache where that is read-only."""

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
from pggan.utils.caching.cache_folders import cache_folder
from pggan.utils.caching.limits_of_caches import mark_used

FORMAT = 1
# Larger states (SWD of 16,384 images above 128x128) are not cached: reading them would take as long as making them.
MAX_BYTES = 4 << 30


class Cache:
    """States by file name and `about`: what a state depends on, as JSON values.

    A state of the same name with another `about` is stale and replaced. `folder` None: nothing is cached.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def beside(cls, place: Path | None) -> Cache:
        """Returns the cache for the images at `place`; one that caches nothing for None."""
        if place is None:
            return cls(None)
        real = Path(os.path.realpath(place))
        sibling = real.with_name(f"{real.name}.metrics")
        if os.access(sibling if sibling.exists() else real.parent, os.W_OK):
            return cls(sibling)
        shared = cache_folder("metrics")
        name = hashlib.blake2b(os.fsencode(real), digest_size=8).hexdigest()
        return cls(None if shared is None else shared / name)

    def load(self, name: str, about: Mapping[str, Any]) -> State | None:
        """Returns a state; None where it is missing, damaged, or of other images or options."""
        if self.folder is None:
            return None
        path = self.folder / f"{name}.safetensors"
        try:
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            if metadata.get("about") != _to_text(about):
                return None
            state = load_file(path)
            mark_used(path)
            return state if metadata.get("digest") == _digest(state) else None
        except (OSError, safetensors.SafetensorError, ValueError, KeyError):
            return None

    def save(self, name: str, about: Mapping[str, Any], state: State) -> None:
        """Stores a state. A full or read-only disk is ignored: the state is made again next time."""
        if self.folder is None or sum(values.nbytes for values in state.values()) > MAX_BYTES:
            return
        metadata = {"about": _to_text(about), "digest": _digest(state)}
        tensors = {key: values.contiguous() for key, values in state.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{name}.safetensors"
            replace_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
        except (OSError, safetensors.SafetensorError):
            return


def _to_text(about: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, **about}, sort_keys=True)


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(state):
        values = state[key].contiguous()
        digest.update(f"{key} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()
