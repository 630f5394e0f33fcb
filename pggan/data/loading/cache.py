"""Caches of one resolution's decoded images: none, or in main memory. `device_cache` adds the device's memory.

All caches have the same protocol and return the same bytes. The consumer's thread calls `start_fetch` in the order of
the batches, any thread runs the function that it returns, and the consumer's thread calls `finish_fetch` in the same
order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.loading.shared_memory import SharedMemory

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
Images = NDArray[np.uint8]
Read = Callable[[Indices], Images]
Shape = tuple[int, int, int, int]

# Largest batch in bytes that the consumer copies itself: handing it to a worker costs as much.
DIRECT_BYTES = 1 << 20
# From this resolution on, images are mirrored one channel at a time.
LARGE = 128


def mirror(images: Images, mirrored: Flags) -> Images:
    """Flips images (N, C, R, R), contiguous, left to right in place where `mirrored` (N,) is True."""
    # eight pixels at a time (four at 4x4): words in reverse order, read with the other byte order
    word = "u8" if images.shape[-1] >= 8 else "u4"
    target, swapped = images.view("<" + word), images.view(">" + word)
    if images.shape[-1] < LARGE:
        target[mirrored] = swapped[mirrored][:, :, :, ::-1]
        return images
    for index in np.flatnonzero(mirrored):  # one channel's temporary copy fits the processor's cache
        for channel in range(images.shape[1]):
            target[index, channel] = swapped[index, channel, :, ::-1]
    return images


class Cache:
    """Caches nothing: reads every batch."""

    kind = "none"

    def __init__(self, read: Read) -> None:
        self.read = read

    def start_fetch(self, indices: Indices, mirrored: Flags) -> Callable[[], Any] | None:
        """Returns the work that a worker has to do for this batch, None if nothing."""
        return lambda: mirror(self.read(indices), mirrored)

    def finish_fetch(self, result: Any, indices: Indices, mirrored: Flags) -> Any:
        """Returns the batch, uint8 (N, C, R, R), which the caller may change.

        Args:
            result: Of the function that `start_fetch` returned; None if it returned None.
            indices: Image numbers (N,), as for `start_fetch`.
            mirrored: Whether to flip each image (N,), as for `start_fetch`.
        """
        return result

    def cancel(self) -> None:
        """Abandons the batches that were started and not finished."""

    def close(self) -> None:
        """Frees the memory."""


class RamCache(Cache):
    """Caches images in main memory, filled as they are read; processes of one machine share one copy if possible.

    Threads and processes may fill the same entry twice, with the same bytes; it counts as present once it is complete.
    """

    kind = "ram"

    def __init__(self, read: Read, shape: Shape, key: object) -> None:
        super().__init__(read)
        count, pixels = shape[0], math.prod(shape)
        self.memory = SharedMemory.attach((key, shape), pixels + count)
        buffer: Any = self.memory.view if self.memory else np.zeros(pixels + count, np.uint8)
        self._images: Images = np.frombuffer(buffer, np.uint8, pixels).reshape(shape)
        self._present: Flags = np.frombuffer(buffer, np.bool_, count, pixels)

    def start_fetch(self, indices: Indices, mirrored: Flags) -> Callable[[], Any] | None:
        if self._present[indices].all() and len(indices) * self._images[0].nbytes <= DIRECT_BYTES:
            return None
        return lambda: self._take(indices, mirrored)

    def finish_fetch(self, result: Any, indices: Indices, mirrored: Flags) -> Any:
        return self._take(indices, mirrored) if result is None else result

    def _take(self, indices: Indices, mirrored: Flags) -> Images:
        missing = np.unique(indices[~self._present[indices]])
        if len(missing):
            self._images[missing] = self.read(missing)
            self._present[missing] = True
        return mirror(self._images[indices], mirrored)

    def close(self) -> None:
        del self._images, self._present  # views of the shared memory
        if self.memory is not None:
            self.memory.close()
