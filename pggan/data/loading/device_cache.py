"""Decoded pictures of one resolution on the device that trains on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pggan.data.loading.cache import Cache, Flags, Indices, Read, Shape
from pggan.utils.devices import free_cached, free_memory


def room(device: str) -> int:
    """Bytes that are free on it."""
    return free_memory(torch.device(device))


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on the device; a GPU fetches it while both go on."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def words(pictures: Tensor) -> Tensor:
    """The same memory, a row a picture, eight bytes at a time: torch copies rows of single bytes ten times slower."""
    return pictures.flatten(1).view(torch.int64)


class DeviceCache(Cache):
    """A tensor of all pictures; batches are picked and mirrored where it lies. Each picture is read once.

    Once all are there, no worker has anything to do and a batch costs the transfer of its picture numbers.
    """

    kind = "device"

    def __init__(self, read: Read, shape: Shape, device: str) -> None:
        super().__init__(read)
        self.pictures = torch.empty(shape, dtype=torch.uint8, device=device)
        self._present = np.zeros(shape[0], bool)
        self._asked = self._present.copy()

    @classmethod
    def made(cls, read: Read, shape: Shape, device: str) -> DeviceCache | None:
        """None where memory ends after all."""
        try:
            return cls(read, shape, device)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                return None
            raise

    def start_fetch(self, indices: Indices, mirrored: Flags) -> Callable[[], Any] | None:
        missing = np.unique(indices[~self._asked[indices]])
        if not len(missing):
            return None  # there, or brought by a batch that finishes before this one
        self._asked[missing] = True
        return lambda: (missing, self.read(missing))

    def finish_fetch(self, done: Any, indices: Indices, mirrored: Flags) -> Tensor:
        device = self.pictures.device
        if done is not None:
            missing, pictures = done
            words(self.pictures).index_copy_(0, upload(missing, device), words(upload(pictures, device)))
            self._present[missing] = True
        turned = np.flatnonzero(mirrored)
        sent = upload(np.concatenate([indices, turned]), device)  # one transfer, and nothing to wait for
        picked = words(self.pictures).index_select(0, sent[: len(indices)])
        picked = picked.view(torch.uint8).reshape(len(indices), *self.pictures.shape[1:])
        if len(turned):
            flipped = picked.index_select(0, sent[len(indices) :]).flip(3)
            words(picked).index_copy_(0, sent[len(indices) :], words(flipped))
        return picked

    def cancel(self) -> None:
        self._asked = self._present.copy()

    def close(self) -> None:
        self.pictures = self.pictures.new_empty(0)
        free_cached(self.pictures.device)  # the next resolution needs it in another shape
