"""Cache of one resolution's decoded images in the memory of the device that trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pggan.data.loading.cache import Cache, Flags, Indices, Read, Shape
from pggan.utils.devices import free_cached, free_memory, out_of_memory


def free_device_bytes(device: str) -> int:
    """Returns the free memory of a device, in bytes."""
    return free_memory(torch.device(device))


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """Copies an array to the device; to a GPU asynchronously, from pinned memory."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def as_int64_rows(images: Tensor) -> Tensor:
    """Views images uint8 (N, C, R, R) as int64 (N, C*R*R/8): torch copies rows of single bytes ten times slower."""
    return images.flatten(1).view(torch.int64)


class DeviceCache(Cache):
    """Caches all images in one tensor on the device, where batches are gathered and mirrored. Reads each image once.

    With all images present, workers are idle and a batch costs only the transfer of its image numbers.
    """

    kind = "device"

    def __init__(self, read: Read, shape: Shape, device: str) -> None:
        super().__init__(read)
        self.images = torch.empty(shape, dtype=torch.uint8, device=device)
        self._present = np.zeros(shape[0], bool)
        self._requested = self._present.copy()

    @classmethod
    def try_create(cls, read: Read, shape: Shape, device: str) -> DeviceCache | None:
        """Creates a cache, or returns None if the device runs out of memory."""
        try:
            return cls(read, shape, device)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None

    def start_fetch(self, indices: Indices, mirrored: Flags) -> Callable[[], Any] | None:
        missing = np.unique(indices[~self._requested[indices]])
        if not len(missing):
            return None  # all present, or read by a batch that finishes before this one
        self._requested[missing] = True
        return lambda: (missing, self.read(missing))

    def finish_fetch(self, result: Any, indices: Indices, mirrored: Flags) -> Tensor:
        device = self.images.device
        if result is not None:
            missing, images = result
            rows = as_int64_rows(upload(images, device))
            as_int64_rows(self.images).index_copy_(0, upload(missing, device), rows)
            self._present[missing] = True
        flipped = np.flatnonzero(mirrored)
        uploaded = upload(np.concatenate([indices, flipped]), device)  # one transfer, without synchronising
        rows = as_int64_rows(self.images).index_select(0, uploaded[: len(indices)])
        batch = rows.view(torch.uint8).reshape(len(indices), *self.images.shape[1:])
        if len(flipped):
            positions = uploaded[len(indices) :]
            as_int64_rows(batch).index_copy_(0, positions, as_int64_rows(batch.index_select(0, positions).flip(3)))
        return batch

    def cancel(self) -> None:
        self._requested = self._present.copy()

    def close(self) -> None:
        self.images = self.images.new_empty(0)
        free_cached(self.images.device)  # the next resolution needs the memory in another shape
